"""The video parameters as the user gave them, before the model is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict, Unpack

from prefect_replicate.api.models import resolve_model
from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.blocks.credentials import acting_as
from prefect_replicate.engine import Work
from prefect_replicate.flows.video_input import video_input
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.outputs import check_destination
from prefect_replicate.values.video_request import VideoRequest


class VideoDefaults(TypedDict, total=False):
    """The parameters that a batch gives to those of its requests that leave them out."""

    image: str | Path | None
    duration: float | None
    aspect_ratio: str | None
    resolution: str | None
    seed: int | None
    negative_prompt: str | None


@dataclass(frozen=True)
class Wish:
    """What one video is to be."""

    prompt: str
    model: str
    input: Mapping[str, Any] | None = None
    image: str | Path | None = None
    duration: float | None = None
    aspect_ratio: str | None = None
    resolution: str | None = None
    seed: int | None = None
    negative_prompt: str | None = None

    @classmethod
    def of(
        cls,
        request: VideoRequest,
        model: str,
        input: Mapping[str, Any] | None = None,
        **defaults: Unpack[VideoDefaults],
    ) -> Wish:
        """Write a request over the batch's defaults; their inputs are merged name by name."""
        given = request.model_dump(include=_PARAMETERS, exclude_none=True)
        # In a wish `input` wins over the parameters, but the batch's must not win over a request.
        left = {k: v for k, v in (input or {}).items() if k not in given and k != "prompt"}
        parameters: dict[str, Any] = {**defaults, **given}
        return cls(request.prompt, request.model or model, {**left, **request.input}, **parameters)

    async def checked(self, run: Run, destination: Any) -> dict[str, Any]:
        """The model's input, after all that can be checked before anything is paid."""
        await check_destination(destination)
        return await self.whole_input(run)

    async def whole_input(self, run: Run) -> dict[str, Any]:
        """The model's input, checked against its schema."""
        model = await resolve_model(run.connection, self.model)
        return video_input(
            model.schema,
            self.model,
            prompt=self.prompt,
            image=_file_or_url(self.image),
            duration=self.duration,
            aspect_ratio=self.aspect_ratio,
            resolution=self.resolution,
            seed=self.seed,
            negative_prompt=self.negative_prompt,
            input=self.input,
        )

    def work(
        self, credentials: ReplicateCredentials | None, destination: Any
    ) -> Work[dict[str, Any]]:
        """Have it `checked` as an account."""
        return acting_as(credentials, lambda run: self.checked(run, destination))


_PARAMETERS = set(VideoDefaults.__annotations__)


def _file_or_url(image: str | Path | None) -> str | Path | None:
    """A string from the UI may be a local path as well as a URL."""
    if isinstance(image, str) and not image.startswith(("http://", "https://", "data:")):
        return Path(image)
    return image
