"""Frozen values that cross task boundaries; no I/O."""

from prefect_replicate.values.model_reference import ModelReference
from prefect_replicate.values.orphan import Orphan
from prefect_replicate.values.output_file import GeneratedVideo, OutputFile
from prefect_replicate.values.poll_policy import PollPolicy
from prefect_replicate.values.prediction import Prediction, PredictionURLs
from prefect_replicate.values.video_batch import GeneratedVideos, VideoOutcome
from prefect_replicate.values.video_request import VideoRequest

__all__ = [
    "GeneratedVideo",
    "GeneratedVideos",
    "ModelReference",
    "Orphan",
    "OutputFile",
    "PollPolicy",
    "Prediction",
    "PredictionURLs",
    "VideoOutcome",
    "VideoRequest",
]
