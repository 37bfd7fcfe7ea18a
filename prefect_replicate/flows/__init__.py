"""Flows built on the tasks, and the state hook that cancels what a flow run started."""

from prefect_replicate.cleanup.hook import cancel_predictions
from prefect_replicate.flows.cancel_orphaned_predictions import (
    acancel_orphaned_predictions,
    cancel_orphaned_predictions,
)
from prefect_replicate.flows.generate_video import agenerate_video, generate_video
from prefect_replicate.flows.generate_videos import agenerate_videos, generate_videos
from prefect_replicate.flows.run_model import arun_model, run_model
from prefect_replicate.flows.run_models import arun_models, run_models

__all__ = [
    "acancel_orphaned_predictions",
    "agenerate_video",
    "agenerate_videos",
    "arun_model",
    "arun_models",
    "cancel_orphaned_predictions",
    "cancel_predictions",
    "generate_video",
    "generate_videos",
    "run_model",
    "run_models",
]
