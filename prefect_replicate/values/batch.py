"""Batches: the requests and their outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from prefect_replicate.values.model_reference import ModelReference
from prefect_replicate.values.output import OutputFile


def _path_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, PurePath) else value


def _whole_number_as_text(value: Any) -> Any:
    """Write a whole number as text; pandas turns 17 into `17.0` if its column has gaps."""
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
    """One video of a batch: its prompt, and the settings that differ from the batch's.

    Example:
        ```python
        from prefect_replicate import VideoRequest

        request = VideoRequest(prompt="a red fox", duration=5, input={"camera_fixed": True})
        ```
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Annotated[str, AfterValidator(_not_empty)] | None = Field(
        default=None, description="What to show; leave it out for a model that takes no text."
    )
    model: Annotated[str, AfterValidator(_well_formed)] | None = Field(
        default=None, description="A model other than the batch's."
    )
    input: dict[str, Any] = Field(
        default_factory=dict,
        description="Further input under the model's own names; overrides the batch's.",
    )
    image: Annotated[str, BeforeValidator(_path_as_text)] | None = Field(
        default=None, description="First frame: a URL or a local file."
    )
    duration: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Length in seconds."
    )
    aspect_ratio: str | None = Field(default=None, description="Such as `16:9`.")
    resolution: str | None = Field(default=None, description="Such as `720p`.")
    seed: int | None = Field(default=None, description="For reproducible results.")
    negative_prompt: str | None = Field(default=None, description="What to keep out of the video.")
    id: Annotated[str, BeforeValidator(_whole_number_as_text)] | None = Field(
        default=None,
        description="Your own name for the outcome; it is not sent to Replicate.",
    )


class ModelRequest(BaseModel):
    """One item of a batch for any model: its input, and the model if it isn't the batch's.

    Example:
        ```python
        from prefect_replicate import ModelRequest

        request = ModelRequest(input={"prompt": "a red fox", "num_outputs": 4}, id="fox")
        ```
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: dict[str, Any] = Field(
        default_factory=dict, description="The model's input; overrides the batch's."
    )
    model: Annotated[str, AfterValidator(_well_formed)] | None = Field(
        default=None, description="A model other than the batch's."
    )
    id: Annotated[str, BeforeValidator(_whole_number_as_text)] | None = Field(
        default=None,
        description="Your own name for the outcome; it is not sent to Replicate.",
    )


ItemState = Literal["succeeded", "failed", "skipped", "running", "waiting"]


class ItemOutcome(BaseModel):
    """The state and result of one item of a batch."""

    model_config = ConfigDict(frozen=True)

    number: int
    """Its position in the batch, counted from 1."""
    id: str | None = None
    """The request's `id`."""
    prompt: str | None
    """What the item shows, if its input says so in words."""
    model: str
    """The model that makes it."""
    state: ItemState = "waiting"
    """`skipped` items were not started: too many others failed, or all would have."""
    prediction_id: str | None = None
    """The last prediction for it; `None` before one exists."""
    web_url: str | None = None
    """The page of that prediction at Replicate."""
    files: list[OutputFile] = []
    """The stored files; text or JSON output is stored as a file, too."""
    output: Any = None
    """Text or JSON output, if it is short."""
    seconds: float | None = None
    """Seconds from the item's start, or its prediction's creation if earlier, to its end."""
    predict_time: float | None = None
    """Seconds of model time, as in `Prediction`."""
    metrics: dict[str, Any] = {}
    """Replicate's metrics, including those that official models are billed by."""
    error: str | None = None
    """Why it failed or was skipped."""

    @property
    def is_over(self) -> bool:
        """Whether this run is done with it."""
        return self.state in ("succeeded", "failed", "skipped")

    def failed(self, why: str) -> ItemOutcome:
        """Return a copy in the state `failed`."""
        return self.model_copy(update={"state": "failed", "error": why})


class ModelOutputs(BaseModel):
    """The result of `run_models`."""

    model_config = ConfigDict(frozen=True)

    outcomes: list[ItemOutcome]
    """In the order of the requests."""
    wall_seconds: float
    """Seconds that this attempt of the run took."""

    @property
    def succeeded(self) -> list[ItemOutcome]:
        """The items that succeeded, in the order of the requests."""
        return self._in("succeeded")

    @property
    def failed(self) -> list[ItemOutcome]:
        """The items that failed, each with its `error`."""
        return self._in("failed")

    @property
    def skipped(self) -> list[ItemOutcome]:
        """The items that were not started: too many others had failed, or all would have."""
        return self._in("skipped")

    def _in(self, state: ItemState) -> list[ItemOutcome]:
        return [one for one in self.outcomes if one.state == state]

    @property
    def predict_time(self) -> float:
        """Seconds of model time, including items that earlier attempts of the run generated."""
        return sum(one.predict_time or 0.0 for one in self.outcomes)

    @property
    def summary(self) -> str:
        """Counts, model time and wall time, in one line."""
        return (
            f"{counts_of(self.outcomes)}; {self.predict_time:,.1f} s of model time, "
            f"{self.wall_seconds:,.0f} s elapsed"
        )


class GeneratedVideos(ModelOutputs):
    """The result of `generate_videos`."""


def counts_of(outcomes: Sequence[ItemOutcome]) -> str:
    """Say how many items are in each state."""
    counts = Counter(one.state for one in outcomes)
    parts = [f"{counts[state]} {state}" for state in get_args(ItemState) if counts[state]]
    noun = "item" if len(outcomes) == 1 else "items"
    return f"{len(outcomes)} {noun}: {', '.join(parts)}"
