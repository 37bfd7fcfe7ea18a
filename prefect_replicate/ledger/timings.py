"""How long earlier predictions took, as far as Prefect and this process know."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from prefect.events import Event
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter
from prefect.settings import PREFECT_API_URL
from pydantic import BaseModel, ConfigDict, ValidationError

from prefect_replicate.engine import Recent, process_state
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.facts import digest
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.values import Prediction
from prefect_replicate.values.expectation import Expectation

EVENT_PREFIX = "replicate.prediction."
"""Of the events of predictions. The payload of `succeeded` includes the prediction's `Timing`."""

_READ_AGAIN_SECONDS = 300.0
_PATIENCE_SECONDS = 3.0
"""How long a caller waits for Prefect before it settles for what is known without it."""

_EVENTS = 50
"""The server refuses to return more in one reply."""

_LOOK_BACK = timedelta(days=7)
"""How long Prefect's server keeps events by default."""

_LAST_RUNS = 20
_ENOUGH = 3
_CHOICE = re.compile(r"[\w.:+-]{0,16}")
_SAYS_WHAT = re.compile(r"prompt|text|seed")
_PRESENT = "…"


class Timing(BaseModel):
    """How long a prediction took to succeed, for callers that wait for another like it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    workload: str
    seconds_queued: float | None = None
    seconds: float
    """From creation to completion."""

    @classmethod
    def of(cls, prediction: Prediction) -> Timing | None:
        """Return a prediction's timing, if it has succeeded and its times can be trusted."""
        if not prediction.is_succeeded or prediction.data_removed:
            return None
        seconds = _seconds(prediction.created_at, prediction.completed_at)
        if seconds is None or seconds < 0:
            return None
        return cls(
            model=timed_model(prediction),
            workload=workload_of(prediction),
            seconds_queued=_seconds(prediction.created_at, prediction.started_at),
            seconds=seconds,
        )


def _seconds(since: datetime | None, until: datetime | None) -> float | None:
    return (until - since).total_seconds() if since and until else None


def timed_model(prediction: Prediction) -> str:
    """Return what is timed together: a model, or a deployment, which has its own machines."""
    if prediction.deployment:
        return f"deployment:{prediction.deployment}"
    return prediction.model or prediction.version or ""


def workload_of(prediction: Prediction) -> str:
    """Return a short digest of what determines how long a prediction takes.

    That is the model's version, and from the input: numbers, switches, choices such as `720p`, and
    which files there are; not what the result should show.
    """
    version = prediction.version
    return digest([timed_model(prediction), version, _deciding(prediction.input)])[:16]


def _deciding(value: Any) -> Any:
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value).items()
        return {name: _deciding(one) for name, one in fields if not _SAYS_WHAT.search(name)}
    if isinstance(value, list | tuple):
        return [_deciding(one) for one in cast("list[Any]", value)]
    if isinstance(value, str) and not _CHOICE.fullmatch(value):
        return _PRESENT
    return int(value) if isinstance(value, float) and value.is_integer() else value


def expected_of(newest_first: Iterable[Timing], model: str, workload: str) -> Expectation | None:
    """Estimate how long another run takes from earlier ones; pure.

    Args:
        newest_first: Timings of any models.
        model: All of its runs count if too few of the same workload are known.
        workload: Its runs are preferred.
    """
    runs, alike = list[float](), list[float]()
    for one in newest_first:
        if one.model == model:
            runs.append(one.seconds)
            alike += [one.seconds] if one.workload == workload else []
        if len(alike) == _LAST_RUNS:
            break
    chosen = alike if len(alike) >= _ENOUGH else runs[:_LAST_RUNS]
    return Expectation.from_runs(chosen) if len(chosen) >= _ENOUGH else None


class _Seen(Recent[tuple[str, str], Timing]):
    """By Replicate's address and prediction id: oldest first."""


def note_timing(base_url: str, prediction: Prediction) -> None:
    """Remember how long a prediction took, if it has succeeded.

    Other processes learn it from the prediction's `succeeded` event.
    """
    timing = Timing.of(prediction)
    if timing is not None:
        process_state("history", _Seen).setdefault((base_url, prediction.id), timing)


class _Reading:
    """The reads of one Prefect API, which all waits of the process share."""

    def __init__(self) -> None:
        self._begun_at = 0.0
        self._task: asyncio.Task[None] | None = None

    async def be_recent(self) -> None:
        """Read what others have recorded, if the last read is old; a failure is ignored."""
        if self._task is None or time.monotonic() - self._begun_at > _READ_AGAIN_SECONDS:
            self._begun_at = time.monotonic()
            self._task = asyncio.create_task(_read())
        await asyncio.wait({self._task}, timeout=_PATIENCE_SECONDS)


class _Readings(dict["str | None", _Reading]):
    """By API address."""


async def _read() -> None:
    try:
        page = await _newest_events()
    except LedgerError:
        return  # an estimate is worth neither an error nor a retry
    seen = process_state("history", _Seen)
    for event in reversed(page):
        with suppress(ValidationError, KeyError):  # of another version
            said = event.payload
            key = said["base_url"], said["id"]
            if key not in seen:
                seen[key] = Timing.model_validate(said)


async def _newest_events() -> Sequence[Event]:
    client = await prefect_client()
    today = datetime.now(timezone.utc)
    times = {"since": today - _LOOK_BACK, "until": today + _LOOK_BACK}
    chosen = EventFilter(
        occurred=EventOccurredFilter.model_validate(times),
        event=EventNameFilter(name=[f"{EVENT_PREFIX}succeeded"]),
    )
    with as_ledger_error("read how long predictions took"):
        return (await client.read_events(chosen, limit=_EVENTS)).events


async def expectation_for(
    prediction: Prediction, base_url: str, scope: RunScope
) -> Expectation | None:
    """Estimate how long a prediction may take, if enough others like it are known.

    Outside of runs nothing is recorded, so only what this process has seen itself counts.
    """
    if scope.is_in_run:
        readings = process_state("history readings", _Readings)
        await readings.setdefault(PREFECT_API_URL.value(), _Reading()).be_recent()
    seen = process_state("history", _Seen)
    timings = (timing for (url, _), timing in reversed(seen.items()) if url == base_url)
    return expected_of(timings, timed_model(prediction), workload_of(prediction))
