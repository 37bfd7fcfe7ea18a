"""Run Replicate models from Prefect: paid once, watched, canceled, and stored."""

from prefect_replicate._version import __version__
from prefect_replicate.blocks import PredictionRun, ReplicateCredentials, ReplicateModel
from prefect_replicate.flows import agenerate_video, cancel_predictions, generate_video
from prefect_replicate.tasks import (
    acancel_prediction,
    acreate_prediction,
    adownload_outputs,
    aget_prediction,
    await_for_prediction,
    cancel_prediction,
    create_prediction,
    download_outputs,
    get_prediction,
    wait_for_prediction,
)
from prefect_replicate.values import GeneratedVideo, OutputFile, PollPolicy, Prediction

__all__ = [
    "GeneratedVideo",
    "OutputFile",
    "PollPolicy",
    "Prediction",
    "PredictionRun",
    "ReplicateCredentials",
    "ReplicateModel",
    "__version__",
    "acancel_prediction",
    "acreate_prediction",
    "adownload_outputs",
    "agenerate_video",
    "aget_prediction",
    "await_for_prediction",
    "cancel_prediction",
    "cancel_predictions",
    "create_prediction",
    "download_outputs",
    "generate_video",
    "get_prediction",
    "wait_for_prediction",
]
