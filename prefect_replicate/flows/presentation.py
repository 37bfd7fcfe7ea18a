"""What the Prefect UI shows of a generation: a link, a progress bar, the video."""

from __future__ import annotations

import base64
import html
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.logging.loggers import get_run_logger

from prefect_replicate.lifecycle.model_logs import percent_done
from prefect_replicate.values import GeneratedVideo, OutputFile, Prediction
from prefect_replicate.values.expectation import Expectation

EMBEDDED_BYTES = 1_000_000
"""Up to this size a video is part of its artifact and plays for ever; larger ones play from
Replicate until it deletes them."""

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


def video_page(video: GeneratedVideo) -> str:
    """The video with its parameters and metrics, as Markdown."""
    prediction = video.prediction
    players = [_player(file) for file in video.files]
    title = str(prediction.input.get("prompt", "Video"))
    return "\n\n".join(
        [
            f"# {_one_line(title)}",
            *players,
            f"[Prediction {prediction.id}]({prediction.web_url}) of **{prediction.model}**",
            _table("Parameter", prediction.input),
            _table("Metric", prediction.metrics),
            _files(video.files),
        ]
    )


def _player(file: OutputFile) -> str:
    source = html.escape(_playable(file), quote=True)
    if file.media_type.startswith("image/"):
        return f'<img src="{source}" width="640">'
    if file.media_type.startswith("video/"):
        return f'<video controls width="640" src="{source}"></video>'
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
    """The artifacts of one flow run. A failure to show something is logged and costs nothing."""

    def __init__(self) -> None:
        self._expected: Expectation | None = None
        self._progress_id: UUID | None = None
        self._shown: _Progress | None = None
        self._shown_at = 0.0
        self._created_at = 0.0
        self._started_at: float | None = None

    def started(self, prediction: Prediction, age: float, expected: Expectation | None) -> None:
        """Link to a prediction that was created `age` seconds ago, and start a progress bar."""
        self._expected, self._progress_id, self._shown = expected, None, None
        self._created_at = time.monotonic() - age
        self._started_at = None
        link = f"[{prediction.web_url}]({prediction.web_url})"
        about = f"Prediction `{prediction.id}` of {prediction.model}"
        self._show(lambda client: self._create(client, "markdown", link, about))
        self._show(lambda client: self._start_progress(client, self._progress(prediction)))

    def updated(self, prediction: Prediction) -> None:
        """Move the progress bar, at most once a second and never back."""
        progress = self._progress(prediction)
        due = time.monotonic() - self._shown_at >= _UPDATE_SECONDS or prediction.is_terminal
        if self._progress_id is None or progress == self._shown or not due:
            return
        self._note(progress)
        progress_id = self._progress_id
        changed = ArtifactUpdate(data=progress.percent, description=progress.about)
        self._show(lambda client: client.update_artifact(progress_id, changed))

    def _progress(self, prediction: Prediction) -> _Progress:
        now = time.monotonic()
        if prediction.status != "starting" and self._started_at is None:
            self._started_at = now
        ages = Ages(now - self._created_at, now - (self._started_at or now))
        percent = progress_of(prediction, ages, self._expected)
        if self._shown is not None:
            percent = max(percent, self._shown.percent)
        return _Progress(percent, progress_text(prediction, ages.whole, self._expected))

    def finished(self, video: GeneratedVideo) -> None:
        """Show the video."""
        page = video_page(video)
        about = "The video, with its parameters and metrics"
        self._show(lambda client: self._create(client, "markdown", page, about, "generated-video"))

    def _start_progress(self, client: SyncPrefectClient, progress: _Progress) -> None:
        self._note(progress)
        self._progress_id = self._create(client, "progress", progress.percent, progress.about)

    def _note(self, progress: _Progress) -> None:
        self._shown, self._shown_at = progress, time.monotonic()

    def _create(
        self, client: SyncPrefectClient, type: str, data: Any, about: str, key: str | None = None
    ) -> UUID:
        flow = FlowRunContext.get()
        flow_run_id = flow.flow_run.id if flow and flow.flow_run else None
        artifact = ArtifactCreate(
            key=key, type=type, data=data, description=about, flow_run_id=flow_run_id
        )
        return client.create_artifact(artifact).id

    def _show(self, act: Callable[[SyncPrefectClient], Any]) -> None:
        try:
            with get_client(sync_client=True) as client:
                act(client)
        except (httpx.HTTPError, PrefectException) as exc:
            get_run_logger().warning("An artifact could not be written: %s", exc)
