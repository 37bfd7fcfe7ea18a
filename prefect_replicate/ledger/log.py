"""The ledger of a flow run and all that runs below it: its logs, read and written through Prefect.

The flow run at the top has them, whichever process a call is made in.
"""

from __future__ import annotations

import asyncio
import logging
import re
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from contextlib import suppress
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
from prefect_replicate.ledger.facts import PREFIX, Claim, Fact, Log, News, choose
from prefect_replicate.ledger.flow_runs import OPEN_TAG, TAG, set_tags, tagged_runs
from prefect_replicate.ledger.prefect_api import (
    as_ledger_error,
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

NEWS_SECONDS = 1.0
"""How long what happens to an item of a batch waits for more to be written down with it."""

_NEWS_AT_ONCE = 500
_logger = logging.getLogger("prefect_replicate")

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
        self.is_of_batch = False
        """Whether what happens is written down together with what happens to others."""
        self._left: list[dict[str, Any]] = []
        """Facts that could not be written yet."""
        self._noting, self._writing = asyncio.Lock(), asyncio.Lock()

    @property
    def named_in_unreadable(self) -> set[str]:
        """The predictions that its unreadable facts are of, as far as they name one."""
        return {id for one in self.unreadable for id in _NAMED.findall(one.value)}

    def _hear(self, said: Fact | News) -> None:
        super()._hear(said)
        if said.made is not None:
            logs = self.ledger.by_prediction.setdefault(said.made.id, [])
            logs += [] if self in logs else [self]

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
        """Write down what has become of a create, now or with what happens next.

        Args:
            content: As `News` has it.

        Raises:
            LedgerError: It could not be written now. This process knows it all the same.
        """
        if self.generation is not None:
            news = News(log=self.name, of=self.generation.announced_by, **content)
            self.hear(news)
            if self.is_of_batch and self.ledger.root is not None:
                self.ledger.tell(news)
                return
        self._left.append(content)
        async with self._noting:
            while self._left:
                await self.write(**self._left[0])
                del self._left[0]

    async def _write(self, content: dict[str, Any]) -> bool:
        fact = Fact(version=1, id=uuid4().hex[:8], process=this_process(), **content)
        if self.ledger.root is None:
            self.apply(fact, datetime.now(timezone.utc))
            return True
        if not await _put(self.ledger.root, f"{self.name}-{self.next}", fact):
            # It may be ours: Prefect's client repeats a write whose reply was lost.
            await self.ledger.read(self.name)
            return fact.id in self.facts
        written_at = (await server_clock()).now()
        if fact.id not in self.facts:  # or somebody here has read it before the reply came
            self.apply(fact, written_at)
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


async def _put(root: UUID, name: str, fact: Fact) -> bool:
    """Write a fact under a name that nobody has used; says whether that is so."""
    json = {"key": f"{PREFIX}{name}", "value": fact.model_dump_json(exclude_defaults=True)}
    try:
        await request(_WRITE, "POST", f"/flow_runs/{root}/input", 201, json=json)
    except LedgerError as exc:
        reply = exc.__cause__
        if not isinstance(reply, httpx.HTTPStatusError) or reply.response.status_code != 409:
            raise
        return False
    return True


class Ledger:
    """What is written down on one flow run at the top, as far as this process knows it.

    Args:
        root: The run; `None` for what is remembered within this process alone.
    """

    def __init__(self, root: UUID | None) -> None:
        self.root = root
        self.logs: defaultdict[str, dict[int, OwnLog]] = defaultdict(dict)
        """By call and slot."""
        self.by_prediction: dict[str, list[OwnLog]] = {}
        """Those that have a prediction, or had it."""
        self.occurrences = Occurrences()
        self._reads: dict[str, asyncio.Task[None]] = {}
        """By attempt: what a retry has read of all that was written before."""
        self._news: list[News] = []
        """What is to be written down together."""
        self._told: dict[str, int] = {}
        """By process: how many of its facts with news are known."""
        self._telling = asyncio.Lock()
        self._soon: asyncio.Task[None] | None = None
        self._tagged: set[int] = set()
        """Attempts; between two of them, a sweep may have found the run settled."""
        self.contexts: list[weakref.ref[Any]] = []

    async def choose(self, claim: Claim, call: str, *, is_retry: bool) -> OwnLog:
        """The log that a call goes on with, or begins."""
        if is_retry and call not in self.logs:
            if claim.attempt not in self._reads:
                self._reads[claim.attempt] = asyncio.create_task(self.read())
            try:
                await asyncio.shield(self._reads[claim.attempt])
            except LedgerError:
                self._reads.pop(claim.attempt, None)
                raise
        log = self.log(call, choose(self.logs[call], claim))
        # Before it is written, so that no equal call of this process takes it meanwhile.
        log.reserved[claim.attempt] = claim.name
        return log

    def log(self, call: str, slot: int) -> OwnLog:
        """A log, made if it is not known."""
        if slot not in self.logs[call]:
            self.logs[call][slot] = OwnLog(self, f"{call}-{slot}")
        return self.logs[call][slot]

    async def read(self, name: str = "") -> None:
        """Read what others have written.

        Args:
            name: Of a log, or of a call; all, if not given.

        Raises:
            LedgerError: It could not be read.
        """
        if self.root is None:
            return
        prefix = f"{PREFIX}{name}-" if name else PREFIX
        reply = await request(
            _READ,
            "POST",
            f"/flow_runs/{self.root}/input/filter",
            json={"prefix": prefix, "limit": _ALL},
        )
        with as_ledger_error(_READ):
            inputs = FlowRunInput.model_validate_list(reply.json())
        self.learn(inputs)

    def learn(self, inputs: Sequence[FlowRunInput]) -> None:
        """Take note of what was read."""
        news = list[News]()
        rows = [(match, one) for one in inputs if (match := _KEY.fullmatch(one.key))]
        for match, one in sorted(rows, key=lambda row: int(row[0][3])):
            call, slot, number = match[1], int(match[2]), int(match[3])
            if slot == 0:
                if number >= self._told.get(call, 0):
                    self._told[call] = number + 1
                    with suppress(ValidationError):  # what it is of is looked for then
                        news += Fact.model_validate_json(one.value).news
                continue
            log = self.log(call, slot)
            if number < log.next:
                continue
            log.next = number
            try:
                fact = Fact.model_validate_json(one.value)
            except ValidationError:
                log.unreadable.append(one)
                log.next += 1
                continue
            log.apply(fact, one.created or datetime.now(timezone.utc))
        for one in news:
            call, _, slot = one.log.partition("-")
            log = self.logs[call].get(int(slot)) if slot.isdecimal() else None
            if log is not None:
                log.hear(one)

    def tell(self, news: News) -> None:
        """Write something down soon, together with what else happens."""
        self._news.append(news)
        if self._soon is None or self._soon.done():
            self._soon = asyncio.create_task(self._tell_soon())

    async def _tell_soon(self) -> None:
        await asyncio.sleep(NEWS_SECONDS)
        try:
            await self.tell_now()
        except LedgerError as exc:  # with what happens next, or when the batch has ended
            _logger.warning("%s", exc)

    async def tell_now(self) -> None:
        """Write down what there is to tell.

        Raises:
            LedgerError: It could not be written.
        """
        async with self._telling:
            process = this_process()
            while self._news and self.root is not None:
                some = self._news[:_NEWS_AT_ONCE]
                fact = Fact(version=1, id=uuid4().hex[:8], process=process, news=some)
                number = self._told.get(process, 0)
                self._told[process] = number + 1  # before it is there, so that no read repeats it
                # A number that is taken has the same news, or those that were known before.
                if await _put(self.root, f"{process}-0-{number}", fact):
                    del self._news[: len(some)]

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
        return is_alive or bool(self._news) or any(log.is_under_way for log in self.all)

    @property
    def all(self) -> list[OwnLog]:
        return [log for slots in self.logs.values() for log in slots.values()]

    def of(self, prediction_id: str) -> list[OwnLog]:
        """The logs that a prediction is in, as far as this process knows."""
        return [
            log
            for log in self.by_prediction.get(prediction_id, ())
            if log.generation is not None and log.generation.prediction_id == prediction_id
        ]


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
        alive = [one for one in ledger.contexts if one() is not None]
        ledger.contexts = [*alive, weakref.ref(scope.outermost)]
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

    return list(zip(runs, await asyncio.gather(*map(read, runs)), strict=True))
