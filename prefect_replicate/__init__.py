"""Run Replicate models from Prefect: pay once, track, cancel, and store the results."""

import typing as _typing
from importlib import import_module as _import_module

from prefect_replicate._version import __version__

if _typing.TYPE_CHECKING:
    from prefect_replicate.blocks import PredictionRun, ReplicateCredentials, ReplicateModel
    from prefect_replicate.flows import (
        acancel_orphaned_predictions,
        agenerate_video,
        agenerate_videos,
        arun_model,
        arun_models,
        cancel_orphaned_predictions,
        cancel_predictions,
        generate_video,
        generate_videos,
        run_model,
        run_models,
    )
    from prefect_replicate.flows.deploy import model_deployment
    from prefect_replicate.tasks import (
        acancel_prediction,
        acreate_prediction,
        adownload_outputs,
        aget_prediction,
        apredict,
        await_for_prediction,
        cancel_prediction,
        create_prediction,
        download_outputs,
        get_prediction,
        predict,
        wait_for_prediction,
    )
    from prefect_replicate.values import (
        GeneratedVideo,
        GeneratedVideos,
        ItemOutcome,
        ModelOutput,
        ModelOutputs,
        ModelRequest,
        Orphan,
        OutputFile,
        PollPolicy,
        Prediction,
        VideoRequest,
    )

__all__ = [
    "GeneratedVideo",
    "GeneratedVideos",
    "ItemOutcome",
    "ModelOutput",
    "ModelOutputs",
    "ModelRequest",
    "Orphan",
    "OutputFile",
    "PollPolicy",
    "Prediction",
    "PredictionRun",
    "ReplicateCredentials",
    "ReplicateModel",
    "VideoRequest",
    "__version__",
    "acancel_orphaned_predictions",
    "acancel_prediction",
    "acreate_prediction",
    "adownload_outputs",
    "agenerate_video",
    "agenerate_videos",
    "aget_prediction",
    "apredict",
    "arun_model",
    "arun_models",
    "await_for_prediction",
    "cancel_orphaned_predictions",
    "cancel_prediction",
    "cancel_predictions",
    "create_prediction",
    "download_outputs",
    "generate_video",
    "generate_videos",
    "get_prediction",
    "model_deployment",
    "predict",
    "run_model",
    "run_models",
    "wait_for_prediction",
]

_PARTS = ("values", "blocks", "tasks", "flows", "flows.deploy")  # the cheap ones first


def __getattr__(name: str) -> _typing.Any:
    # Imported on first use, as Prefect does with its own names: most of the import time is what
    # Prefect computes when a flow is defined, and the emulator and the command line need no flows.
    if name in __all__:
        for part in _PARTS:
            module = _import_module(f"{__name__}.{part}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
