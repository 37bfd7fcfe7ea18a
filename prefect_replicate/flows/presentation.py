"""What the Prefect UI shows of a generation: a link, a progress bar, the video."""

from __future__ import annotations

import base64
import html
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
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

EMBEDDED_BYTES = 1_000_000
"""Up to this size a video is part of its artifact and plays for ever; larger ones play from
Replicate until it deletes them."""

_UPDATE_SECONDS = 1.0
_TYPICAL_SECONDS = 60.0


def progress_of(prediction: Prediction, seconds: float) -> float:
    """How far a prediction is, in percent: as its log says, else guessed from the time.

    Args:
        prediction: As it was last seen.
        seconds: Since it started.
    """
    if prediction.is_succeeded:
        return 100.0
    if prediction.status == "starting":
        return 0.0
    stated = percent_done(prediction.logs)
    guessed = 95.0 * (1 - math.exp(-seconds / _TYPICAL_SECONDS))
    return min(stated if stated is not None else guessed, 99.0)


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


class Presentation:
    """The artifacts of one flow run. A failure to show something is logged and costs nothing."""

    def __init__(self) -> None:
        self._progress_id: UUID | None = None
        self._shown = -1.0
        self._shown_at = 0.0
        self._started_at: float | None = None

    def started(self, prediction: Prediction) -> None:
        """Link to the prediction, and start a progress bar for it."""
        link = f"[{prediction.web_url}]({prediction.web_url})"
        about = f"Prediction `{prediction.id}` of {prediction.model}"
        self._show(lambda client: self._create(client, "markdown", link, about))
        self._show(lambda client: self._start_progress(client, prediction))

    def updated(self, prediction: Prediction) -> None:
        """Move the progress bar, at most once a second."""
        now = time.monotonic()
        if prediction.status != "starting" and self._started_at is None:
            self._started_at = now
        percent = progress_of(prediction, now - (self._started_at or now))
        due = now - self._shown_at >= _UPDATE_SECONDS or prediction.is_terminal
        if self._progress_id is None or percent <= self._shown or not due:
            return
        self._shown, self._shown_at = percent, now
        progress_id = self._progress_id
        self._show(lambda client: client.update_artifact(progress_id, ArtifactUpdate(data=percent)))

    def finished(self, video: GeneratedVideo) -> None:
        """Show the video."""
        page = video_page(video)
        about = "The video, with its parameters and metrics"
        self._show(lambda client: self._create(client, "markdown", page, about, "generated-video"))

    def _start_progress(self, client: SyncPrefectClient, prediction: Prediction) -> None:
        about = f"Progress of prediction {prediction.id}"
        self._shown, self._started_at = progress_of(prediction, 0.0), None
        self._progress_id = self._create(client, "progress", self._shown, about)

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
