"""A requested video, as the user describes it before the model is known."""

# No `from __future__ import annotations`: see `generation`.

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.generation import (
    FileText,
    GenerationSettings,
    ModelGeneration,
    local_file,
    read_secrets,
    schema_of,
    typed,
    with_files,
)
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values.batch import VideoRequest
from prefect_replicate.values.model_schema import ModelSchema
from prefect_replicate.video.input import video_input

DEFAULT_MODEL = "bytedance/seedance-1-lite"


@dataclass(frozen=True, kw_only=True)
class CommonParameters:
    """The parameters of a video that have the same names for all models."""

    image: FileText = None
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
class VideoSettings(GenerationSettings, CommonParameters):
    """The parameters shared by the flows for one and for many videos; the flows document them."""


@dataclass(frozen=True)
class _Prompt:
    prompt: str | None = None
    model: str = DEFAULT_MODEL


@dataclass(frozen=True)
class VideoGeneration(VideoSettings, ModelGeneration, _Prompt):
    """The parameters of `generate_video`, which documents them."""

    model: str = DEFAULT_MODEL

    async def whole_input(self, run: Run, schema: ModelSchema) -> dict[str, Any]:
        """Return the model's input, with the common parameters under its own names."""
        if schema.output.makes_files is False:
            raise InvalidInputError(
                f"{self.model} makes no files, so no video: run it with `run_model`. Nothing"
                " was paid."
            )
        own = {**(self.input or {}), **await read_secrets(self.secrets or {}, schema)}
        options = VideoOptions(self.prompt, self.model, own, **self.common)
        return await options.whole_input(run, check=self.check_input)


@dataclass(frozen=True)
class VideoOptions(CommonParameters):
    """One requested video."""

    prompt: str | None
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
        """Apply a request over the batch's defaults; their inputs are merged name by name."""
        common = {one.name for one in fields(CommonParameters)}
        given = request.model_dump(include=common, exclude_none=True)
        # `input` wins over the parameters, but the batch's must not win over a request.
        left = {k: v for k, v in (input or {}).items() if k not in given and k != "prompt"}
        whole = {**left, **request.input}
        return cls(request.prompt, request.model or model, whole, **{**defaults, **given})

    async def whole_input(self, run: Run, *, check: bool = True) -> dict[str, Any]:
        """Return the model's input, checked against its schema."""
        schema = await schema_of(run, self.model)
        is_deployed = run.scope.is_deployed
        image = local_file(self.image, "image", is_deployed=is_deployed)
        common: dict[str, Any] = self.common | {"image": image}
        own = with_files(typed(self.input or {}, schema), schema, is_deployed=is_deployed)
        return video_input(schema, self.model, prompt=self.prompt, input=own, check=check, **common)
