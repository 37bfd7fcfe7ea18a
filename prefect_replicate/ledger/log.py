"""The ledger of a flow run and all that runs below it: its logs, read and written through Prefect.

The flow run at the top has them, whichever process a call is made in.
"""

from __future__ import annotations

import asyncio
import re
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.schemas.objects import FlowRun, FlowRunInput
from prefect.settings import PREFECT_API_URL
from pydantic import ValidationError

from prefect_replicate.api.connection import Address
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.facts import PREFIX, Claim, Fact, Generation, Log, choose
from prefect_replicate.ledger.flow_runs import OPEN_TAG, TAG, set_tags, tagged_runs
from prefect_replicate.ledger.prefect_api import (
    as_ledger_error,
    prefect_client,
    request,
    server_clock,
)
from prefect_replicate.ledger.scope import Ancestry, Occurrences, RunScope, ancestry_of

_KEY = re.compile(rf"{PREFIX}([0-9a-z]+)-(\d+)-(\d+)")
_NAMED = re.compile(r'"id"\s*:\s*"(\w{8,})"')
_ALL = 100_000
"""Facts of one flow run in a reply; the server has no limit of its own."""

_AT_ONCE = 10
_KEPT = 32
"""Ledgers of this process that nobody uses at the moment."""

_WRITE = "write what is about to be started"
_READ = "read what was started before"


def this_process() -> str:
    """What tells this process from others in the facts that it writes."""
    return process_state("process", lambda: uuid4().hex)


class OwnLog(Log):
    """A log, with what this process knows of it besides.

    Args:
        ledger: Whose it is.
        name: `<call>-<slot>`.
    """

    def __init__(self, ledger: Ledger, name: str) -> None:
        super().__init__(name)
        self.ledger = ledger
        self.unreadable: list[FlowRunInput] = []
        """What was written by another version, or by somebody else."""
        self.reserved: dict[str, str] = {}
        """Calls of this process that are about to claim the slot, by attempt."""
        self.is_under_way = False
        """Whether this process is about to send the create that it has announced, or does so."""
        self.address: Address | None = None
        """As whom this process has made or used the prediction."""
        self._left: list[dict[str, Any]] = []
        """Facts that could not be written yet."""
        self._writing = asyncio.Lock()

    @property
    def named_in_unreadable(self) -> set[str]:
        """The predictions that its unreadable facts are of, as far as they name one."""
        return {id for one in self.unreadable for id in _NAMED.findall(one.value)}

    def holder(self, attempt: str) -> str | None:
        return super().holder(attempt) or self.reserved.get(attempt)

    async def write(self, after: int | None = None, **content: Any) -> bool:
        """Write a fact; says whether it is there.

        Args:
            after: Only if the next number is this one, so that nothing is written that was decided
                without what others have written meanwhile. What they have is known then.
            content: Of the fact.

        Raises:
            LedgerError: It could not be written.
        """
        async with self._writing:
            while True:
                if after is not None and self.next != after:
                    return False
                if await self._write(content):
                    return True

    async def note(self, **content: Any) -> None:
        """Write down what has happened, now or with what happens next.

        Raises:
            LedgerError: It could not be written now.
        """
        self._left.append(content)
        while self._left:
            await self.write(**self._left[0])
            del self._left[0]

    async def _write(self, content: dict[str, Any]) -> bool:
        fact = Fact(version=1, id=uuid4().hex[:8], process=this_process(), **content)
        if self.ledger.root is None:
            self.apply(fact, datetime.now(timezone.utc))
            return True
        key, value = f"{PREFIX}{self.name}-{self.next}", fact.model_dump_json(exclude_defaults=True)
        path = f"/flow_runs/{self.ledger.root}/input"
        try:
            await request(_WRITE, "POST", path, 201, json={"key": key, "value": value})
        except LedgerError as exc:
            reply = exc.__cause__
            if not isinstance(reply, httpx.HTTPStatusError) or reply.response.status_code != 409:
                raise
            # Prefect's client repeats a write whose reply was lost.
            return fact.id in await self.ledger.read(self.name)
        self.apply(fact, (await server_clock()).now())
        return True

    def check_readable(self) -> None:
        """Refuse to go on where others have written what can't be understood.

        Raises:
            LedgerError: It says which fact.
        """
        if self.unreadable:
            raise LedgerError(
                f"The input {self.unreadable[0].key} of flow run {self.ledger.root} can't be read"
                " by this version of prefect-replicate, so that it isn't known what was paid for"
                " this call. Nothing was started; delete it if nothing of yours depends on it."
            )


class Ledger:
    """What is written down on one flow run at the top, as far as this process knows it.

    Args:
        root: The run; `None` for what is remembered within this process alone.
    """

    def __init__(self, root: UUID | None) -> None:
        self.root = root
        self.logs: defaultdict[str, dict[int, OwnLog]] = defaultdict(dict)
        """By call and slot."""
        self.occurrences = Occurrences()
        self._tagged: set[int] = set()
        """Attempts; between two of them, a sweep may have found the run settled."""
        self.contexts: list[weakref.ref[Any]] = []

    async def choose(self, claim: Claim, call: str, *, is_retry: bool) -> OwnLog:
        """The log that a call goes on with, or begins."""
        if is_retry and call not in self.logs:
            await self.read(call)
        slots = self.logs[call]
        slot = choose(slots, claim)
        if slot not in slots:
            slots[slot] = OwnLog(self, f"{call}-{slot}")
        # Before it is written, so that no equal call of this process takes it meanwhile.
        slots[slot].reserved[claim.attempt] = claim.name
        return slots[slot]

    async def read(self, name: str = "") -> set[str]:
        """Read what others have written, and return the ids of the facts that are new here.

        Args:
            name: Of a log, or of a call; all, if not given.

        Raises:
            LedgerError: It could not be read.
        """
        if self.root is None:
            return set()
        prefix = f"{PREFIX}{name}-" if name else PREFIX
        reply = await request(
            _READ,
            "POST",
            f"/flow_runs/{self.root}/input/filter",
            json={"prefix": prefix, "limit": _ALL},
        )
        with as_ledger_error(_READ):
            inputs = FlowRunInput.model_validate_list(reply.json())
        return self._learn(inputs)

    def _learn(self, inputs: Sequence[FlowRunInput]) -> set[str]:
        ids = set[str]()
        rows = [(match, one) for one in inputs if (match := _KEY.fullmatch(one.key))]
        for match, one in sorted(rows, key=lambda row: int(row[0][3])):
            call, slot, number = match[1], int(match[2]), int(match[3])
            log = self.logs[call].setdefault(slot, OwnLog(self, f"{call}-{slot}"))
            if number < log.next:
                continue
            log.next = number
            try:
                fact = Fact.model_validate_json(one.value)
            except ValidationError:
                log.unreadable.append(one)
                log.next += 1
                continue
            ids.add(fact.id)
            log.apply(fact, one.created or datetime.now(timezone.utc))
        return ids

    async def tag(self, ancestry: Ancestry) -> None:
        """Have the run be found by sweeps, and by people who filter for it.

        Raises:
            LedgerError: Prefect's API could not be asked to.
        """
        if not ancestry.is_tagged and ancestry.attempt not in self._tagged:
            await set_tags(ancestry.root, {*ancestry.tags, TAG, OPEN_TAG})
        self._tagged.add(ancestry.attempt)

    @property
    def is_in_use(self) -> bool:
        """Whether a run of this process may still write to it."""
        is_alive = any(one() is not None for one in self.contexts)
        return is_alive or any(log.is_under_way for log in self.all)

    @property
    def all(self) -> list[OwnLog]:
        return [log for slots in self.logs.values() for log in slots.values()]

    def of(self, prediction_id: str) -> list[OwnLog]:
        """The logs that a prediction is in, as far as this process knows."""
        return [
            log
            for log in self.all
            if log.generation is not None and log.generation.prediction_id == prediction_id
        ]

    def generation(self, prediction_id: str) -> Generation | None:
        """What is known of a prediction in this process."""
        return next((log.generation for log in self.of(prediction_id)), None)


class _Ledgers(OrderedDict[tuple["str | None", UUID], Ledger]):
    """By API address and run at the top, the one that was used last at the end."""

    def let_go(self) -> None:
        """Forget what is over in this process."""
        for key in list(self)[: -_KEPT or None]:
            if not self[key].is_in_use:
                del self[key]


async def ledger_of(scope: RunScope) -> Ledger:
    """The ledger that a call is written down in.

    Outside of flow runs it is one in memory, for the task run if there is one.

    Raises:
        LedgerError: Prefect's API could not be asked for the run at the top.
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
        ledger.contexts.append(weakref.ref(scope.outermost))
    return ledger


async def ledgers_since(moment: datetime, tag: str) -> list[tuple[FlowRun, Ledger]]:
    """The ledgers of all tagged flow runs that go on, or ended after a time of the server's.

    They are read anew, and are nobody else's.
    """
    runs = await tagged_runs(tag, moment)
    free = asyncio.Semaphore(_AT_ONCE)

    async def read(run: FlowRun) -> Ledger:
        ledger = Ledger(run.id)
        async with free:
            await ledger.read()
        return ledger

    await prefect_client()
    return list(zip(runs, await asyncio.gather(*map(read, runs)), strict=True))
