"""How a video model turns its input into a plan: length, shape, seed and first frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prefect_replicate.emulator.artifacts import VideoFile
from prefect_replicate.emulator.models import cog
from prefect_replicate.emulator.models.model import Job, Model, Version, version_id
from prefect_replicate.emulator.plans import Plan, progress_logs
from prefect_replicate.emulator.scenes import Scene

_NAMED_RATIOS = {"portrait": (9.0, 16.0), "landscape": (16.0, 9.0)}
_STEPS = 20


@dataclass(frozen=True)
class Studio:
    """A video model: its inputs under their real names, and how to read them.

    Args:
        full_name: The model as `owner/name`.
        length: Returns the seconds of video that an input asks for.
        run_seconds: How long the model runs, before `Behaviour.duration_factor`.
        image_input: The input that holds the first frame, if there is one.
    """

    full_name: str
    description: str
    fields: Mapping[str, cog.Field]
    length: Callable[[Mapping[str, Any]], float]
    run_seconds: float
    image_input: str | None = None
    is_official: bool = True
    output_is_list: bool = False
    versions: int = 1
    run_count: int = 0

    def model(self) -> Model:
        """Return the model that the catalogue offers."""
        owner, _, name = self.full_name.partition("/")
        schema = cog.openapi_schema(self.fields, self._output_schema())
        return Model(
            owner=owner,
            name=name,
            description=self.description,
            versions=tuple(
                Version(version_id(self.full_name, number), 1_750_000_000.0 + number, schema)
                for number in range(self.versions, 0, -1)
            ),
            planner=self.plan,
            is_official=self.is_official,
            run_count=self.run_count,
            image_input=self.image_input,
        )

    def plan(self, job: Job) -> Plan:
        """Return how long the video takes and what it shows."""
        scene = self.scene(job)
        video = VideoFile("output.mp4", scene)
        run = self.run_seconds * job.factor
        return Plan(
            queue=(0.8 + 0.4 * (scene.seed % 100) / 100) * job.factor,
            run=run,
            output=[video] if self.output_is_list else video,
            logs=progress_logs(run, _STEPS, scene.seed),
            metrics=self._metrics(job.input, scene) if self.is_official else {},
        )

    def scene(self, job: Job) -> Scene:
        """Return what the video shows."""
        seed = job.input.get("seed")
        return Scene(
            prompt=str(job.input.get("prompt") or "(no prompt)"),
            model=self.full_name,
            seconds=self.length(job.input),
            seed=job.seed if seed is None else seed,
            ratio=parse_ratio(job.input.get("aspect_ratio")),
            image=job.image,
        )

    def _metrics(self, asked: Mapping[str, Any], scene: Scene) -> dict[str, Any]:
        billed: dict[str, Any] = {
            "video_output_count": 1,
            "video_output_duration_seconds": scene.seconds,
            "resolution_target": asked.get("resolution") or asked.get("quality"),
            "with_audio": asked.get("generate_audio"),
        }
        return {name: value for name, value in billed.items() if value is not None}

    def _output_schema(self) -> dict[str, Any]:
        if self.output_is_list:
            return {"title": "Output", "type": "array", "items": dict(cog.URI)}
        return {"title": "Output", **cog.URI}


def parse_ratio(text: object) -> tuple[float, float]:
    """Return width and height of `16:9`, `portrait` and the like; anything else is 16:9."""
    if not isinstance(text, str):
        return 16.0, 9.0
    if text in _NAMED_RATIOS:
        return _NAMED_RATIOS[text]
    width, _, height = text.partition(":")
    if width.isdigit() and height.isdigit():
        return float(width), float(height)
    return 16.0, 9.0


def seconds_in(name: str) -> Callable[[Mapping[str, Any]], float]:
    """Return a function that reads the length from an input in seconds."""
    return lambda asked: float(asked[name])


def frames_in(name: str, rate: float | str) -> Callable[[Mapping[str, Any]], float]:
    """Return the same for an input in frames; `rate` is frames per second, or the input with it."""
    return lambda asked: asked[name] / (asked[rate] if isinstance(rate, str) else rate)
