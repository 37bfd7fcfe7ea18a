"""The ledger of a flow run and all runs below it: its logs, read and written through Prefect.

The flow run at the top holds them, whichever process makes a call.
"""

from __future__ import annotations

import asyncio
import re
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, FlowRunInput
from prefect.settings import PREFECT_API_URL

from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.facts import PREFIX, Claim, choose
from prefect_replicate.ledger.flow_runs import OPEN_TAG, TAG, set_tags, tagged_runs
from prefect_replicate.ledger.log import BatchLog, OwnLog
from prefect_replicate.ledger.prefect_api import as_ledger_error, request
from prefect_replicate.ledger.scope import Ancestry, Occurrences, RunScope, ancestry_of

_NAME = re.compile(r"([0-9a-z]+)-([0-9]{1,9})")
_KEY = re.compile(rf"{PREFIX}([0-9a-z]+)-(b?)([0-9]{{1,9}})-([0-9]{{1,9}})")
_ALL = 100_000
"""Most facts of one flow run in a reply; the server has no limit of its own."""

_AT_ONCE = 10
_KEPT = 32
"""Unused ledgers that this process keeps, with up to `_KEPT_LOGS` logs in all but the last."""

_KEPT_LOGS = 1000

_READ = "read what was started before"


class Ledger:
    """What is recorded on one flow run at the top, as far as this process knows it.

    Args:
        root: The run; `None` to keep the record in this process's memory only.
    """

    def __init__(self, root: UUID | None) -> None:
        self.root = root
        self.logs: defaultdict[str, dict[int, OwnLog]] = defaultdict(dict)
        """By call and slot."""
        self.batches: dict[str, BatchLog] = {}
        self.by_prediction: dict[str, list[OwnLog]] = {}
        """Logs that have a prediction, or had it."""
        self.occurrences = Occurrences()
        self._reads: dict[str, asyncio.Task[None]] = {}
        """By attempt: a retry's read of everything written before."""
        self._tagged: set[int] = set()
        """Attempts that have set the tags. A sweep removes `OPEN_TAG` once the run is settled."""
        self.contexts: list[weakref.ref[Any]] = []

    async def choose(
        self, claim: Claim, call: str, batch: BatchLog | None = None, *, is_retry: bool
    ) -> OwnLog:
        """Return the log that a call continues or begins, in its batch's log if it has one."""
        if is_retry and call not in self.logs:
            if claim.attempt not in self._reads:
                self._reads[claim.attempt] = asyncio.create_task(self.read())
            try:
                await asyncio.shield(self._reads[claim.attempt])
            except LedgerError:
                self._reads.pop(claim.attempt, None)
                raise
        log = self.log(call, choose(self.logs[call], claim))
        # Reserved before it is written, so that no equal call of this process takes it meanwhile.
        log.reserved[claim.attempt] = claim.name
        if log.next == 0:
            log.batch = batch
        return log

    def log(self, call: str, slot: int) -> OwnLog:
        """Return a log, made if unknown."""
        if slot not in self.logs[call]:
            self.logs[call][slot] = OwnLog(self, f"{call}-{slot}")
        return self.logs[call][slot]

    def log_named(self, name: str) -> OwnLog | None:
        """Return a log as `log` does; `None` if the name is not a log's."""
        match = _NAME.fullmatch(name)
        return self.log(match[1], int(match[2])) if match is not None else None

    def batch(self, name: str) -> BatchLog:
        """Return the log of a batch or part, made if unknown."""
        return self.batches.setdefault(name, BatchLog(self, name))

    async def read(self, start: str = "", *, is_whole: bool = True) -> None:
        """Read what others have written.

        Args:
            start: Prefix of the facts' names; by default, all facts are read.
            is_whole: Whether these are complete logs.

        Raises:
            LedgerError: It could not be read.
        """
        if self.root is None:
            return
        reply = await request(
            _READ,
            "POST",
            f"/flow_runs/{self.root}/input/filter",
            json={"prefix": f"{PREFIX}{start}", "limit": _ALL},
        )
        with as_ledger_error(_READ):
            inputs = FlowRunInput.model_validate_list(reply.json())
        self.learn(inputs, is_whole=is_whole)

    def learn(self, inputs: Sequence[FlowRunInput], *, is_whole: bool = True) -> None:
        """Apply facts that were read; `is_whole` as for `read`."""
        rows = [(match, one) for one in inputs if (match := _KEY.fullmatch(one.key))]
        for match, one in sorted(rows, key=lambda row: int(row[0][4])):
            call, kind, slot, number = match.groups()
            row = self.batch(f"{call}-b{slot}") if kind else self.log(call, int(slot))
            row.learn(int(number), one, is_whole=is_whole)

    async def tag(self, ancestry: Ancestry) -> None:
        """Tag the run, so that sweeps, and people who filter by tag, find it.

        Raises:
            LedgerError: Prefect's API could not be written to.
        """
        if not ancestry.is_tagged and ancestry.attempt not in self._tagged:
            await set_tags(ancestry.root, {*ancestry.tags, TAG, OPEN_TAG})
        self._tagged.add(ancestry.attempt)

    @property
    def is_in_use(self) -> bool:
        """Whether a run of this process may still write to it."""
        is_alive = any(one() is not None for one in self.contexts)
        is_behind = any(batch.is_behind for batch in self.batches.values())
        return is_alive or is_behind or any(log.is_under_way for log in self.all)

    @property
    def all(self) -> list[OwnLog]:
        return [log for slots in self.logs.values() for log in slots.values()]

    @property
    def unreadable(self) -> list[FlowRunInput]:
        """The facts of all logs that can't be understood."""
        rows = [*self.all, *self.batches.values()]
        return [one for row in rows for one in row.unreadable]

    def of(self, prediction_id: str) -> list[OwnLog]:
        """Return the logs that contain a prediction, as far as this process knows."""
        return [
            log
            for log in self.by_prediction.get(prediction_id, ())
            if log.generation is not None and log.generation.prediction_id == prediction_id
        ]


class _Ledgers(OrderedDict[tuple["str | None", UUID], Ledger]):
    """By API address and run at the top, the most recently used one last."""

    def let_go(self) -> None:
        """Forget older ledgers that this process no longer uses."""
        logs = 0
        for place, key in enumerate(reversed(list(self))):
            if (place >= _KEPT or logs > _KEPT_LOGS) and not self[key].is_in_use:
                del self[key]
            else:
                logs += len(self[key].all)


async def ledger_of(scope: RunScope) -> Ledger:
    """Return the ledger that records a call.

    Outside of flow runs it is in memory, for the task run if there is one.

    Raises:
        LedgerError: The run at the top could not be read from Prefect's API.
    """
    ancestry = await ancestry_of(scope)
    own = ancestry.root if ancestry else scope.levels[-1].run_id if scope.levels else None
    if own is None:
        return Ledger(None)
    ledgers = process_state("ledgers", _Ledgers)
    key = PREFECT_API_URL.value(), own
    if key not in ledgers:
        ledgers[key] = Ledger(ancestry and ancestry.root)
        ledgers.let_go()
    ledger = ledgers[key]
    ledgers.move_to_end(key)
    if scope.outermost is not None and all(one() is not scope.outermost for one in ledger.contexts):
        alive = [one for one in ledger.contexts if one() is not None]
        ledger.contexts = [*alive, weakref.ref(scope.outermost)]
    return ledger


async def ledgers_since(moment: datetime, tag: str) -> list[tuple[FlowRun, Ledger]]:
    """Return the ledgers of all tagged flow runs that have not ended, or did after `moment`.

    They are freshly read, and not shared with other callers. `moment` is by the server's clock.
    """
    runs = await tagged_runs(tag, moment)
    free = asyncio.Semaphore(_AT_ONCE)

    async def read(run: FlowRun) -> Ledger:
        ledger = Ledger(run.id)
        async with free:
            await ledger.read()
        return ledger

    return list(zip(runs, await asyncio.gather(*map(read, runs)), strict=True))
