"""Models for tests: they take as long as their input says and return what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from prefect_replicate.emulator.artifacts import Artifact, NoiseFile, TextFile
from prefect_replicate.emulator.models import cog
from prefect_replicate.emulator.models.model import Job, Model, Version, version_id
from prefect_replicate.emulator.plans import LogLine, Outcome, Plan, with_files

FIELDS: Mapping[str, cog.Field] = {
    "prompt": cog.text("Not used; for flows that send one", ""),
    "queue_seconds": cog.number("Seconds of starting", 0.0, minimum=0),
    "seconds": cog.number("Seconds of processing", 0.0, minimum=0),
    "outcome": cog.choice("How it ends", "succeeded", "succeeded", "failed"),
    "error": cog.text("The error of a failure", "The timer was told to fail"),
    "output": cog.Field(
        "",
        "The output, any JSON; a string file:NAME in it becomes the URL of a file of that name. "
        "Without it, the output is the URL of one file",
    ),
    "output_bytes": cog.integer("Size of each file; without it, a short text", minimum=0),
    "log_lines": cog.integer("Lines to log, spread over the processing", 0, minimum=0),
    "seed": cog.integer("Seed of the files' content", 0),
    "image": cog.file("Not used; for flows that send one"),
    "key": cog.secret("Not used; for what must not be shown"),
}


def plan(job: Job) -> Plan:
    """Return the plan that the input spells out."""
    asked = job.input
    seconds = float(asked["seconds"])
    return Plan(
        queue=float(asked["queue_seconds"]),
        run=seconds,
        outcome=cast("Outcome", asked["outcome"]),
        error=asked["error"] if asked["outcome"] == "failed" else None,
        output=_output(asked) if asked["outcome"] == "succeeded" else None,
        logs=_log_lines(asked["log_lines"], seconds),
    )


def timers() -> tuple[Model, Model]:
    """Return the official `emulator/timer` and the community one, which has two versions."""
    return _timer("timer", 1, is_official=True), _timer("community-timer", 2, is_official=False)


def _timer(name: str, versions: int, *, is_official: bool) -> Model:
    schema = cog.openapi_schema(FIELDS, {"title": "Output"})
    return Model(
        owner="emulator",
        name=name,
        description="Takes as long as it is told and returns what it is told, for tests",
        versions=tuple(
            Version(version_id(f"emulator/{name}", number), 1_735_689_600.0 + number, schema)
            for number in range(versions, 0, -1)
        ),
        planner=plan,
        is_official=is_official,
    )


def _output(asked: Mapping[str, Any]) -> Any:
    output = asked.get("output")
    if output is None:
        return _file("output.txt" if asked.get("output_bytes") is None else "output.bin", asked)
    return with_files(output, lambda name: _file(name, asked))


def _file(name: str, asked: Mapping[str, Any]) -> Artifact:
    size = asked.get("output_bytes")
    if size is None:
        return TextFile(name, f"{name}: the timer ran for {asked['seconds']:g} s\n")
    return NoiseFile(name, size, asked["seed"])


def _log_lines(count: int, seconds: float) -> tuple[LogLine, ...]:
    return tuple(
        LogLine(seconds * number / count, f"line {number} of {count}\n")
        for number in range(1, count + 1)
    )
