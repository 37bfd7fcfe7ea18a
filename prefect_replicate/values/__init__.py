"""Frozen values that cross task boundaries; no I/O."""

from prefect_replicate.values.batch import (
    GeneratedVideos,
    ItemOutcome,
    ModelOutputs,
    ModelRequest,
    VideoRequest,
)
from prefect_replicate.values.model_reference import ModelReference
from prefect_replicate.values.orphan import Orphan
from prefect_replicate.values.output import GeneratedVideo, ModelOutput, OutputFile
from prefect_replicate.values.poll_policy import PollPolicy
from prefect_replicate.values.prediction import Prediction, PredictionURLs

__all__ = [
    "GeneratedVideo",
    "GeneratedVideos",
    "ItemOutcome",
    "ModelOutput",
    "ModelOutputs",
    "ModelReference",
    "ModelRequest",
    "Orphan",
    "OutputFile",
    "PollPolicy",
    "Prediction",
    "PredictionURLs",
    "VideoRequest",
]
