"""One video of a batch."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from prefect_replicate.values.model_reference import ModelReference


def _path_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, PurePath) else value


def _whole_number_as_text(value: Any) -> Any:
    """Write a number out; pandas has `17.0` for 17 where others of its column are missing."""
    is_whole = isinstance(value, int | float) and value % 1 == 0 and not isinstance(value, bool)
    return str(int(value)) if is_whole else value


def _not_empty(prompt: str) -> str:
    if not prompt.strip():
        raise ValueError("it is empty")
    return prompt


def _well_formed(model: str) -> str:
    ModelReference.parse(model)
    return model


class VideoRequest(BaseModel):
    """One video of a batch: its prompt, and where it differs from the batch.

    Example:
        ```python
        from prefect_replicate import VideoRequest

        request = VideoRequest(prompt="a red fox", duration=5, input={"camera_fixed": True})
        ```
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Annotated[str, AfterValidator(_not_empty)] = Field(
        description="What the video is to show."
    )
    model: Annotated[str, AfterValidator(_well_formed)] | None = Field(
        default=None, description="Another model than the batch's."
    )
    input: dict[str, Any] = Field(
        default_factory=dict,
        description="Further input in the model's own names; each wins over the batch's.",
    )
    image: Annotated[str, BeforeValidator(_path_as_text)] | None = Field(
        default=None, description="First frame: a URL or a local file."
    )
    duration: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Length in seconds."
    )
    aspect_ratio: str | None = Field(default=None, description="Such as `16:9`.")
    resolution: str | None = Field(default=None, description="Such as `720p`.")
    seed: int | None = Field(default=None, description="For a result that can be repeated.")
    negative_prompt: str | None = Field(default=None, description="What the video is not to show.")
    id: Annotated[str, BeforeValidator(_whole_number_as_text)] | None = Field(
        default=None, description="Yours, to tell the outcomes apart; it is not sent."
    )
