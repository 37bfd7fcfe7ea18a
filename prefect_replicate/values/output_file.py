"""What a generation leaves behind."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from prefect_replicate.values.prediction import Prediction


class OutputFile(BaseModel):
    """One file of a prediction's output, stored and verified."""

    model_config = ConfigDict(frozen=True)

    location: str
    """Where it is: an absolute path, or the storage block's own path or key."""
    output_path: str
    """Where in the output it stood: `""` for the whole, `"[1]"`, `"video.url"`."""
    source: str
    """The URL it came from; `data:` for one that came inline."""
    media_type: str
    size: int
    """Bytes."""
    sha256: str


class GeneratedVideo(BaseModel):
    """The result of `generate_video`."""

    model_config = ConfigDict(frozen=True)

    prediction: Prediction
    files: list[OutputFile]
    seconds_billed: float | None
    """Model seconds (`metrics.predict_time`); official models may bill by output instead."""
