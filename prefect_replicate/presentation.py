"""What the Prefect UI shows for a generation: a link, a progress bar, the video."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import math
import re
import time
from collections import Counter
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import PurePath
from typing import Any, NamedTuple, TypeVar, cast
from uuid import UUID

import coolname.data
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext

from prefect_replicate.engine import begin
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.prefect_api import create_artifact, request, update_artifact
from prefect_replicate.lifecycle.bookkeeping import expectation_of
from prefect_replicate.lifecycle.delivery import previews_of
from prefect_replicate.lifecycle.model_logs import percent_done
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.previews import Preview
from prefect_replicate.text import in_line
from prefect_replicate.values import GeneratedVideo, ModelOutput, OutputFile, Prediction
from prefect_replicate.values.expectation import Expectation
from prefect_replicate.values.prediction import TERMINAL_STATUSES

T = TypeVar("T")

_ACTION = "show a generation"

MOST_BYTES = 300_000
"""The most bytes in an artifact, which every reader loads as a whole."""

_TERMINAL = tuple(TERMINAL_STATUSES)
_SHOWN_ROWS = 50
_LONGEST_LOCATION = 500
_SHOWN_CHARACTERS = 15_000
"""How much of a text or JSON is shown; the result has all of it."""

_UNBROKEN = re.compile(r"[^\s/]{40}(?=[^\s/])")
"""A piece of a word that would overlap V2's sidebar; a U+200B after it lets the line break."""

_MARKUP = re.compile(r"[\[\]*`~|\\#!]|(?<!\w)_|_(?!\w)")
"""Characters that Markdown would interpret; V1 would show an entity for one literally."""

_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma"
    " tau upsilon phi chi psi omega"
)
_MADE_UP_IN_UI = re.compile(rf"[A-Z][a-z]+-[A-Z][a-z]+|(?:{'|'.join(_GREEK.split())})\d*-[a-z-]+")
"""The run names that the forms of V2 and V1 make up."""

_UPDATE_SECONDS = 1.0
_TYPICAL_SECONDS = 60.0


class Ages(NamedTuple):
    """Seconds since a prediction was created, and since it was first seen running."""

    whole: float
    running: float


def progress_of(prediction: Prediction, ages: Ages, expected: Expectation | None = None) -> float:
    """Return a prediction's progress in percent: from its log, or else estimated by its age."""
    if prediction.is_succeeded:
        return 100.0
    stated = None if prediction.status == "starting" else percent_done(prediction.logs)
    if stated is not None:
        return min(stated, 99.0)
    if expected is not None:
        return expected.share_done(ages.whole)
    return 95.0 * (1 - math.exp(-ages.running / _TYPICAL_SECONDS))


def flow_run_name() -> str:
    """Name the current flow run after its model and prompt; for a flow's `flow_run_name`.

    A run that was given a name keeps it.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    if not _is_made_up(context.flow_run.name):
        return context.flow_run.name
    asked: dict[str, Any] = context.parameters or {}
    items: Any = asked.get("requests") or asked.get("variations") or asked.get("prompts")
    input: Any = asked.get("input")
    own = cast("dict[str, Any]", input) if isinstance(input, dict) else {}
    about = asked.get("prompt") or own.get("prompt")
    if isinstance(items, list):
        count = len(cast("list[Any]", items))
        about = f"{count} item{'' if count == 1 else 's'}"
    elif asked.get("path"):
        about = PurePath(str(asked["path"])).name
    model = str(asked.get("model") or "").rpartition("/")[2].partition(":")[0]
    return in_line(": ".join(filter(None, [model, str(about or "")])) or context.flow_run.name, 80)


def _is_made_up(name: str) -> bool:
    """Whether Prefect, not a person, named a flow run."""
    parts = name.split("-")
    is_prefects = len(parts) == 2 and _words().issuperset(parts)
    return is_prefects or _MADE_UP_IN_UI.fullmatch(name) is not None


@lru_cache(maxsize=1)
def _words() -> frozenset[str]:
    """Return the words that Prefect builds names from."""
    lists: Any = coolname.data.config
    return frozenset(word for one in lists.values() for word in one.get("words", ()))


def task_run_name(verb: str) -> Any:  # no function fits Prefect's type for it
    """Name task runs after the model and the id of their prediction."""

    def name(parameters: dict[str, Any]) -> str:
        prediction = parameters.get("prediction")
        model = prediction.model if isinstance(prediction, Prediction) else None
        id = str(prediction.id if isinstance(prediction, Prediction) else prediction)
        return in_line(" ".join(filter(None, [verb, model, f"{id[:5]}…"])), 80)

    return name


def progress_text(prediction: Prediction, age: float, expected: Expectation | None = None) -> str:
    """Describe a prediction, its estimate first: the UI's cards show about 30 characters."""
    about = f"prediction {prediction.id} of {prediction.model}"
    if prediction.is_terminal:
        return f"{_ended(prediction.status, prediction.predict_time)}: {about}"
    if expected is None:
        return f"{prediction.status}: {about}"
    return f"{expected.excuse if expected.is_overdue(age) else expected.estimate}: {about}"


def _ended(status: str, seconds: float | None) -> str:
    return status if seconds is None else f"{status}, {seconds:.1f} s"


def _title(prediction: Prediction) -> str:
    """Return a prediction's prompt, or else its model."""
    return in_line(prediction.prompt or prediction.model or "")


def output_page(output: ModelOutput, previews: Sequence[Preview] = ()) -> str:
    """Return a model's output as Markdown that fits in an artifact and contains no expiring links.

    Args:
        output: The model's output.
        previews: Previews of its first files.
    """
    stills = [one._replace(moving=None) for one in previews]
    texts = [one._replace(moving=None, still=None) for one in previews]
    pages = (_page(output, shown) for shown in (previews, stills, texts))
    return next((one for one in pages if len(one.encode()) <= MOST_BYTES), _page(output, ()))


def _page(output: ModelOutput, previews: Sequence[Preview]) -> str:
    prediction = output.prediction
    known = [
        f"**{cell(prediction.model or '')}**",
        *(one.facts for one in previews[:1] if one.facts),
        *([f"{prediction.predict_time:.1f} s of model time"] if prediction.predict_time else []),
        f"[prediction {prediction.id}]({prediction.web_url})",
    ]
    sections = [
        " ".join(_images(previews)),
        f"# {cell(_title(prediction) or 'Output')}",
        " · ".join(known),
        "" if output.files else _content(output),
        "\n".join(_stored(output.files, previews)),
        _table("Parameter", prediction.input),
        _table("Metric", prediction.metrics),
    ]
    return "\n\n".join(filter(None, sections))


async def show_end(
    flow_run_ids: Collection[UUID], ended: Mapping[str, float | None], how: str
) -> None:
    """Show on the cards and tables of flow runs how they ended, if their process could not.

    Args:
        flow_run_ids: The runs.
        ended: Their canceled predictions by id, each with its seconds of model time.
        how: How the runs ended.

    Raises:
        LedgerError: Prefect's API could not be read or written.
    """
    wanted = {
        "flow_run_id": {"any_": [str(one) for one in flow_run_ids]},
        "type": {"any_": ["progress", "table"]},
    }
    reply = await request(_ACTION, "POST", "/artifacts/filter", json={"artifacts": wanted})
    counts = dict[str, str]()
    """Of a run's table, for its progress bar, which comes later and has the same."""
    for one in sorted(reply.json(), key=lambda one: one["type"], reverse=True):
        changes = dict[str, Any]()
        run, about = one["flow_run_id"], str(one.get("description") or "")
        found = re.match(r".*: (prediction (\S+) of .*)", about)
        if found is not None and found[2] in ended and not about.startswith(_TERMINAL):
            changes["description"] = f"{_ended('canceled', ended[found[2]])}: {found[1]}"
        elif found is None and re.search(r"\d (running|waiting)\b", about):
            if one["type"] == "table":
                rows, counts[run] = ended_table(json.loads(one["data"]), about, ended)
                changes["data"] = json.dumps(rows)
            changes["description"] = f"{how}: {counts.get(run, about)}"
        if changes:
            await update_artifact(UUID(one["id"]), ArtifactUpdate(**changes), _ACTION)


def ended_table(
    rows: Sequence[dict[str, Any]], counts: str, ended: Mapping[str, float | None]
) -> tuple[list[dict[str, Any]], str]:
    """Return a batch's table and its counts after its run was cut off.

    Args:
        rows: The table, in which some items are running or waiting.
        counts: Such as `3 items: 1 succeeded, 2 running`.
        ended: The canceled predictions by id, each with its seconds of model time.
    """
    # The table can be behind by the creates of its last seconds.
    is_complete = ended.keys() <= {row["prediction"] for row in rows}
    changed = list[dict[str, Any]]()
    total, _, listed = counts.partition(": ")
    states = Counter({state: int(n) for n, state in re.findall(r"(\d+) ([a-z]+)", listed)})
    for row in rows:
        new = dict(row)
        if row["state"] == "running" and row["prediction"] in ended:
            seconds = ended[row["prediction"]]
            after = "" if seconds is None else f" after {seconds:.1f} s of model time"
            new |= {"state": "canceled", "result": f"canceled{after}"}
        elif row["state"] == "waiting":
            new["state"] = "not started" if is_complete else "not finished"
        states[row["state"]] -= 1
        states[new["state"]] += 1
        changed.append(new)
    listed = ", ".join(f"{number} {state}" for state, number in states.items() if number > 0)
    return changed, f"{total}: {listed}"


def _images(previews: Sequence[Preview]) -> Iterator[str]:
    for one in previews:
        if one.moving:
            width = min(one.width or 480, 480)
            yield f'<img src="{one.moving}" alt="moving preview" width="{width}">'
        if one.still:
            width = min(one.width or 480, 240 if one.moving else 480)
            yield f'<img src="{one.still}" alt="still" width="{width}">'


def _content(output: ModelOutput) -> str:
    """Return a text as a block quote, or other output as JSON."""
    if output.text is not None:
        lines = _escaped(_cut(output.text)).splitlines()
        return "\n".join(f"> {line}" for line in lines) or "> "
    shown = _cut(json.dumps(output.output, ensure_ascii=False, indent=2))
    fence = "`" * max(3, *(len(one) + 1 for one in re.findall("`+", shown)), 3)
    return f"{fence}json\n{shown}\n{fence}"


def _cut(text: str) -> str:
    left = len(text) - _SHOWN_CHARACTERS
    return text if left <= 0 else f"{text[:_SHOWN_CHARACTERS]}\n… {left:,} more characters"


def _stored(files: Sequence[OutputFile], previews: Sequence[Preview]) -> Iterator[str]:
    """List where the files are; a table with their hashes would be too wide for the page."""
    for number, file in enumerate(files[:_SHOWN_ROWS]):
        place = cell(file.location, _LONGEST_LOCATION)
        shown = f"[{place}]({file.web_url})" if file.web_url else place
        block = f" in {cell(file.block)}" if file.block and "/" in file.block else ""
        # small, because a line can't break inside a hash
        yield f"* {shown}{block}, {file.size:,} bytes, SHA-256 <sub>{file.sha256}</sub>"
        if number < len(previews) and (problem := previews[number].problem):
            yield f"  (no preview: {cell(problem)})"
    if len(files) > _SHOWN_ROWS:
        yield f"* … {len(files) - _SHOWN_ROWS:,} more files"


def _table(title: str, values: dict[str, Any]) -> str:
    rows = [f"| {cell(name)} | {cell(_text(value))} |" for name, value in values.items()]
    if len(rows) > _SHOWN_ROWS:
        rows[_SHOWN_ROWS:] = [f"| … {len(rows) - _SHOWN_ROWS} more | |"]
    return "\n".join([f"| {title} | Value |", "| --- | --- |", *rows]) if rows else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cell(text: str, most: int = 200) -> str:
    """Shorten and escape a text for a line or a table cell of Markdown."""
    return _escaped(_UNBROKEN.sub("\\g<0>\u200b", in_line(text, most)))


def _escaped(text: str) -> str:
    return html.escape(_MARKUP.sub(r"\\\g<0>", text), quote=False)


class _Progress(NamedTuple):
    percent: float
    about: str


class Presentation:
    """The artifacts of one flow run. A failure to show something is logged and otherwise ignored.

    They are written on the engine's event loop, so that no caller's loop waits for Prefect's API.
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
        about = f"Prediction {prediction.id} of {prediction.model}"
        await self._create("markdown", link, about)
        progress = self._progress(prediction)
        self._shown = self._written = progress
        self._shown_at = time.monotonic()
        self._progress_id = await self._create("progress", progress.percent, progress.about)

    def updated(self, prediction: Prediction) -> None:
        """Advance the progress bar, at most once a second; from any thread or event loop."""
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
        """Show the output."""
        await self._move()
        page = output_page(output, await previews_of(output.files, "page"))
        is_video = isinstance(output, GeneratedVideo)
        what, key = ("Video", "generated-video") if is_video else ("Output", "model-output")
        await self._create("markdown", page, f"{what}: {cell(_title(output.prediction))}", key)

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
