"""What a video is to be, as the user says it before the model is known."""

# No `from __future__ import annotations` where parameters of flows are declared: Pydantic could not
# resolve annotations that are text.

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect.blocks.abstract import ObjectStorageBlock
from prefect.filesystems import WritableFileSystem
from tenacity import retry_if_exception, stop_after_attempt, wait_random_exponential

from prefect_replicate.api.models import resolve_model
from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.exceptions import PredictionFailedError
from prefect_replicate.lifecycle.creation import DEFAULT_TIMEOUT, OnCrash
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.outputs import check_destination
from prefect_replicate.settings import (
    DEFAULT_DESTINATION,
    check_destination_folder,
    check_input_file,
)
from prefect_replicate.tasks.arguments import checked
from prefect_replicate.values import PollPolicy
from prefect_replicate.values.video import VideoRequest
from prefect_replicate.video.input import video_input

DEFAULT_MODEL = "bytedance/seedance-1-lite"
"""Not relative: a process worker runs each flow in a temporary folder, which it deletes."""

_DEFAULT_POLICY = PollPolicy()

P = ParamSpec("P")
R = TypeVar("R")


def parameters_of(kind: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Give a function the parameters of a class, which it makes an instance of from all it gets.

    So what a flow is asked for is declared once: for its callers, for the form of its deployments,
    for its checks, and for the twin that is awaited.
    """

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        own, wanted = inspect.signature(function), inspect.signature(kind)
        whole = wanted.replace(return_annotation=own.return_annotation)
        annotations = {name: one.annotation for name, one in whole.parameters.items()}
        function.__signature__ = whole  # pyright: ignore[reportFunctionMemberAccess]
        function.__annotations__ = annotations | {"return": own.return_annotation}
        return function

    return decorate


@dataclass(frozen=True, kw_only=True)
class CommonParameters:
    """What a video is to be, in words that are the same for all models."""

    image: str | Path | None = None
    duration: float | None = None
    aspect_ratio: str | None = None
    resolution: str | None = None
    seed: int | None = None
    negative_prompt: str | None = None

    @property
    def common(self) -> dict[str, Any]:
        """These parameters, by name."""
        return {one.name: getattr(self, one.name) for one in fields(CommonParameters)}


@dataclass(frozen=True, kw_only=True)
class VideoSettings(CommonParameters):
    """The parameters that the flows for one and for many videos share; those document them."""

    destination: str | Path | WritableFileSystem | ObjectStorageBlock = DEFAULT_DESTINATION
    timeout: float | None = DEFAULT_TIMEOUT
    retries: int = 2
    policy: PollPolicy = _DEFAULT_POLICY
    on_crash: OnCrash = "cancel"
    regenerate_expired: bool = False

    def __post_init__(self) -> None:
        """Refuse what no type says.

        Raises:
            InvalidInputError: The timeout is no time.
        """
        checked(timeout=self.timeout)


@dataclass(frozen=True)
class VideoGeneration(VideoSettings):
    """The parameters of `generate_video`, which documents them."""

    prompt: str
    model: str = DEFAULT_MODEL
    input: dict[str, Any] | None = None
    credentials: ReplicateCredentials | None = None

    @property
    def options(self) -> "VideoOptions":
        return VideoOptions(self.prompt, self.model, self.input, **self.common)


def attempts(retries: int) -> dict[str, Any]:
    """Options for tenacity: try anew where the platform has failed, not the input."""
    return {
        "retry": retry_if_exception(
            lambda exc: isinstance(exc, PredictionFailedError) and exc.is_transient
        ),
        "stop": stop_after_attempt(retries + 1),
        "wait": wait_random_exponential(multiplier=1, max=30),
        "reraise": True,
    }


@dataclass(frozen=True)
class VideoOptions(CommonParameters):
    """What one video is to be."""

    prompt: str
    model: str
    input: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        request: VideoRequest,
        model: str,
        input: Mapping[str, Any] | None = None,
        **defaults: Any,
    ) -> "VideoOptions":
        """Write a request over the batch's defaults; their inputs are merged name by name."""
        common = {one.name for one in fields(CommonParameters)}
        given = request.model_dump(include=common, exclude_none=True)
        # `input` wins over the parameters, but the batch's must not win over a request.
        left = {k: v for k, v in (input or {}).items() if k not in given and k != "prompt"}
        whole = {**left, **request.input}
        return cls(request.prompt, request.model or model, whole, **{**defaults, **given})

    async def checked(self, run: Run, destination: Any) -> dict[str, Any]:
        """The model's input, after all that can be checked before anything is paid."""
        check_destination_folder(destination, is_deployed=run.scope.is_deployed)
        await check_destination(destination)
        return await self.whole_input(run)

    async def whole_input(self, run: Run) -> dict[str, Any]:
        """The model's input, checked against its schema."""
        model = await resolve_model(run.connection, self.model)
        image = self.image
        if isinstance(image, str) and not image.startswith(("http://", "https://", "data:")):
            check_input_file(image, "image", is_deployed=run.scope.is_deployed)
            image = Path(image)
        common: dict[str, Any] = self.common | {"image": image}
        return video_input(model.schema, self.model, prompt=self.prompt, input=self.input, **common)
