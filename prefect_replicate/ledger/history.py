"""How long predictions took before, as far as the ledger and this process know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from prefect.settings import PREFECT_API_URL

from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.record import Timing, timed_model, workload_of
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.ledger.store import newest_records
from prefect_replicate.values import Prediction
from prefect_replicate.values.expectation import Expectation

_READ_AGAIN_SECONDS = 300.0
_PATIENCE_SECONDS = 3.0
"""How long a caller waits for the ledger before it does with what is known without it."""

_REMEMBERED = 1000
_LAST_RUNS = 20
_ENOUGH = 3


def expected_of(newest_first: Iterable[Timing], model: str, workload: str) -> Expectation | None:
    """What earlier runs lead to expect of another one; pure.

    Args:
        newest_first: Of any models.
        model: Whose all runs count where too few of the same workload are known.
        workload: What is preferred.
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


class _Seen(dict[tuple[str, str], Timing]):
    """By Replicate's address and prediction id: oldest first."""

    def add(self, base_url: str, prediction_id: str, timing: Timing) -> None:
        self.setdefault((base_url, prediction_id), timing)
        while len(self) > _REMEMBERED:
            del self[next(iter(self))]


def note_timing(base_url: str, prediction: Prediction) -> None:
    """Remember how long a prediction took, if it has succeeded."""
    if timing := Timing.of(prediction):
        process_state("history", _Seen).add(base_url, prediction.id, timing)


class _Reading:
    """The reads of one Prefect API, which all waits of the process share."""

    def __init__(self) -> None:
        self._begun_at = 0.0
        self._task: asyncio.Task[None] | None = None

    async def be_recent(self) -> None:
        """Read what others have recorded, if that was long ago; in vain where that fails."""
        if self._task is None or time.monotonic() - self._begun_at > _READ_AGAIN_SECONDS:
            self._begun_at = time.monotonic()
            self._task = asyncio.create_task(_read())
        await asyncio.wait({self._task}, timeout=_PATIENCE_SECONDS)


class _Readings(dict["str | None", _Reading]):
    """By API address."""


async def _read() -> None:
    try:
        records = await newest_records()
    except LedgerError:
        return  # an estimate is not worth an error, nor another try
    seen = process_state("history", _Seen)
    for record in reversed(records):
        if record.timing and record.prediction_id:
            seen.add(record.base_url, record.prediction_id, record.timing)


async def expectation_for(
    prediction: Prediction, base_url: str, scope: RunScope
) -> Expectation | None:
    """How long a prediction may take, if enough is known of others like it.

    Outside of runs nothing is recorded, and only what this process has seen itself counts.
    """
    if scope.is_recorded:
        readings = process_state("history readings", _Readings)
        await readings.setdefault(PREFECT_API_URL.value(), _Reading()).be_recent()
    seen = process_state("history", _Seen)
    timings = (timing for (url, _), timing in reversed(seen.items()) if url == base_url)
    return expected_of(timings, timed_model(prediction), workload_of(prediction))
