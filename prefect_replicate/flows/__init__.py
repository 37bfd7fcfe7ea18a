"""Flows over the tasks, and the state hook that cancels what a flow run has started."""

from prefect_replicate.flows.generate_video import agenerate_video, generate_video
from prefect_replicate.flows.hooks import cancel_predictions

__all__ = ["agenerate_video", "cancel_predictions", "generate_video"]
