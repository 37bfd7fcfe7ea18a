"""What the Prefect UI shows of a generation: a link, a progress bar, the video."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import logging
import math
import re
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from prefect_replicate.engine import begin, in_thread
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.prefect_api import create_artifact, update_artifact
from prefect_replicate.lifecycle.bookkeeping import expectation_of
from prefect_replicate.lifecycle.model_logs import percent_done
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import GeneratedVideo, ModelOutput, OutputFile, Prediction
from prefect_replicate.values.expectation import Expectation

T = TypeVar("T")

_ACTION = "show a generation"

EMBEDDED_BYTES = 1_000_000
"""Up to this size a video is part of its artifact and plays for ever; larger ones play from
Replicate until it deletes them."""

_SHOWN_CHARACTERS = 20_000
"""Of a text or JSON; the whole is in the result."""

_UPDATE_SECONDS = 1.0
_TYPICAL_SECONDS = 60.0


class Ages(NamedTuple):
    """Seconds since a prediction was created, and since it was first seen running."""

    whole: float
    running: float


def progress_of(prediction: Prediction, ages: Ages, expected: Expectation | None = None) -> float:
    """How far a prediction is, in percent, as its log says it; else as it may be by its age."""
    if prediction.is_succeeded:
        return 100.0
    stated = None if prediction.status == "starting" else percent_done(prediction.logs)
    if stated is not None:
        return min(stated, 99.0)
    if expected is not None:
        return expected.share_done(ages.whole)
    return 95.0 * (1 - math.exp(-ages.running / _TYPICAL_SECONDS))


def progress_text(prediction: Prediction, age: float, expected: Expectation | None = None) -> str:
    """What a progress bar is of, and what to expect of it."""
    about = f"Progress of prediction {prediction.id}"
    if expected is None or prediction.is_terminal:
        return about
    return f"{about}: {expected.excuse if expected.is_overdue(age) else expected.estimate}"


def output_page(output: ModelOutput) -> str:
    """What a model has made, with its parameters and metrics, as Markdown."""
    prediction = output.prediction
    title = str(prediction.input.get("prompt") or prediction.model or "Output")
    sections = [
        f"# {_one_line(title)}",
        *map(_player, output.files),
        *([] if output.files else [_content(output)]),
        f"[Prediction {prediction.id}]({prediction.web_url}) of **{prediction.model}**",
        _table("Parameter", prediction.input),
        _table("Metric", prediction.metrics),
    ]
    return "\n\n".join([*sections, *([_files(output.files)] if output.files else [])])


def _content(output: ModelOutput) -> str:
    """A text, line by line as a quotation; or JSON."""
    if output.text is not None:
        lines = html.escape(_cut(output.text), quote=False).splitlines()
        return "\n".join(f"> {line}" for line in lines) or "> "
    shown = _cut(json.dumps(output.output, ensure_ascii=False, indent=2))
    fence = "`" * max(3, *(len(one) + 1 for one in re.findall("`+", shown)), 3)
    return f"{fence}json\n{shown}\n{fence}"


def _cut(text: str) -> str:
    left = len(text) - _SHOWN_CHARACTERS
    return text if left <= 0 else f"{text[:_SHOWN_CHARACTERS]}\n… {left:,} more characters"


def _player(file: OutputFile) -> str:
    source = html.escape(_playable(file), quote=True)
    kind = file.media_type.partition("/")[0]
    if kind == "image":
        return f'<img src="{source}" width="640">'
    if kind in ("audio", "video"):
        return f'<{kind} controls width="640" src="{source}"></{kind}>'
    return f"[{_one_line(file.location)}]({source})"


def _playable(file: OutputFile) -> str:
    if file.size <= EMBEDDED_BYTES and Path(file.location).is_file():
        content = base64.b64encode(Path(file.location).read_bytes()).decode()
        return f"data:{file.media_type};base64,{content}"
    return file.source


def _table(title: str, values: dict[str, Any]) -> str:
    rows = [f"| {_one_line(name)} | {_one_line(_text(value))} |" for name, value in values.items()]
    return "\n".join([f"| {title} | Value |", "| --- | --- |", *rows])


def _files(files: list[OutputFile]) -> str:
    rows = [f"| {_one_line(file.location)} | {file.size:,} | `{file.sha256}` |" for file in files]
    return "\n".join(["| File | Bytes | SHA-256 |", "| --- | --- | --- |", *rows])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _one_line(text: str) -> str:
    shortened = text if len(text) <= 200 else text[:199] + "…"
    return html.escape(" ".join(shortened.split()), quote=False).replace("|", "\\|")


class _Progress(NamedTuple):
    percent: float
    about: str


class Presentation:
    """The artifacts of one flow run. A failure to show something is logged and costs nothing.

    They are written on the engine's loop, so that no loop of a caller's waits for Prefect's API.
    """

    _run: Run

    def __init__(self) -> None:
        self._expected: Expectation | None = None
        self._progress_id: UUID | None = None
        self._shown: _Progress | None = None
        self._written: _Progress | None = None
        self._shown_at = 0.0
        self._created_at = 0.0
        self._started_at: float | None = None
        self._writing = asyncio.Lock()

    async def started(self, run: Run, prediction: Prediction) -> None:
        """Link to a prediction, and start a progress bar."""
        self._run, self._progress_id, self._shown, self._started_at = run, None, None, None
        self._expected = await expectation_of(run, prediction)
        self._created_at = time.monotonic() - run.connection.clock.seconds_since(
            prediction.created_at
        )
        link = f"[{prediction.web_url}]({prediction.web_url})"
        about = f"Prediction `{prediction.id}` of {prediction.model}"
        await self._create("markdown", link, about)
        progress = self._progress(prediction)
        self._shown = self._written = progress
        self._shown_at = time.monotonic()
        self._progress_id = await self._create("progress", progress.percent, progress.about)

    def updated(self, prediction: Prediction) -> None:
        """Move the progress bar, at most once a second and never back; from any thread or loop."""
        progress = self._progress(prediction)
        due = time.monotonic() - self._shown_at >= _UPDATE_SECONDS or prediction.is_terminal
        if self._progress_id is None or progress == self._shown or not due:
            return
        self._shown, self._shown_at = progress, time.monotonic()
        begin(self._move)

    async def _move(self) -> None:
        async with self._writing:
            shown, progress_id = self._shown, self._progress_id
            if shown is None or progress_id is None or shown == self._written:
                return
            self._written = shown
            changed = ArtifactUpdate(data=shown.percent, description=shown.about)
            await self._attempt(update_artifact(progress_id, changed, _ACTION))

    def _progress(self, prediction: Prediction) -> _Progress:
        now = time.monotonic()
        if prediction.status != "starting" and self._started_at is None:
            self._started_at = now
        ages = Ages(now - self._created_at, now - (self._started_at or now))
        percent = progress_of(prediction, ages, self._expected)
        if self._shown is not None:
            percent = max(percent, self._shown.percent)
        return _Progress(percent, progress_text(prediction, ages.whole, self._expected))

    async def finished(self, run: Run, output: ModelOutput) -> None:
        """Show what was made."""
        await self._move()
        page = await in_thread(output_page, output)
        is_video = isinstance(output, GeneratedVideo)
        what, key = ("video", "generated-video") if is_video else ("output", "model-output")
        await self._create("markdown", page, f"The {what}, with its parameters and metrics", key)

    async def _create(
        self, type: str, data: Any, about: str, key: str | None = None
    ) -> UUID | None:
        artifact = ArtifactCreate(
            key=key,
            type=type,
            data=data,
            description=about,
            flow_run_id=self._run.scope.flow_run_id,
        )
        return await self._attempt(create_artifact(artifact, _ACTION))

    async def _attempt(self, write: Coroutine[Any, Any, T]) -> T | None:
        try:
            return await write
        except LedgerError as exc:
            self._run.say("%s", exc, level=logging.WARNING)
            return None
