"""The logs of calls and batches, as one process reads and writes them through Prefect."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
from prefect.client.schemas.objects import FlowRunInput
from pydantic import ValidationError

from prefect_replicate.api.connection import Address
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.facts import PREFIX, Fact, Log, OfCall, OfItems, Said
from prefect_replicate.ledger.prefect_api import request, server_clock
from prefect_replicate.text import all_printable

if TYPE_CHECKING:
    from prefect_replicate.ledger.ledger import Ledger

TOGETHER_SECONDS = 0.25
"""How long a batch item holds back its create so that others are announced with it."""

NEWS_SECONDS = 1.0
"""How long news about a batch item waits for more news to be written with it."""

_AT_ONCE = 500
_NAMED = re.compile(r'"id"\s*:\s*"(\w{8,})"')
_WRITE = "record what this flow run starts"
_logger = logging.getLogger("prefect_replicate")


def this_process() -> str:
    """Return the id of this process in the facts that it writes."""
    return process_state("process", lambda: uuid4().hex)


class _Row:
    """A row of facts, each written under the next number."""

    name: str
    next: int
    facts: set[str]
    ledger: Ledger
    unreadable: list[FlowRunInput]
    """Facts that another version or another program wrote, or whose predecessors are missing."""

    def apply(self, fact: Fact, written_at: datetime) -> None:
        raise NotImplementedError

    async def append(self, fact: Fact) -> bool:
        """Write the next fact; return whether nobody was faster.

        If somebody was, what they have written is known then.

        Raises:
            LedgerError: It could not be written.
        """
        number, root = self.next, self.ledger.root
        if root is None:
            self.apply(fact, datetime.now(timezone.utc))
        elif not await _put(root, f"{self.name}-{number}", fact):
            # It may be ours: Prefect's client repeats a write whose reply was lost.
            await self.read_on()
            return fact.id in self.facts
        else:
            written_at = (await server_clock()).now()
            if fact.id not in self.facts:  # or another call here read it before the reply came
                self.apply(fact, written_at)
        return True

    async def read_on(self) -> None:
        """Read what others have written since.

        Raises:
            LedgerError: It could not be read.
        """
        known = -1
        while known < self.next:
            known = self.next
            await self.ledger.read(f"{self.name}-{known}", is_whole=False)

    def learn(self, number: int, written: FlowRunInput, *, is_whole: bool = True) -> None:
        """Apply a fact that was read, unless it is known.

        Args:
            number: The fact's.
            written: As it was read.
            is_whole: Whether all facts before it were read, too. If so, and it is not the next one,
                a fact is missing: a process that continues after the gap would not exclude one that
                continues before it.
        """
        if number < self.next or (number > self.next and not is_whole):
            return
        if number > self.next:
            self._doubt(written)
            return
        try:
            fact = Fact.model_validate_json(written.value)
        except ValidationError:
            self._doubt(written)
            self.next += 1
            return
        self.apply(fact, written.created or datetime.now(timezone.utc))

    def _doubt(self, written: FlowRunInput) -> None:
        if all(one.id != written.id for one in self.unreadable):
            self.unreadable.append(written)


def named_in(unreadable: list[FlowRunInput]) -> set[str]:
    """Return the ids of predictions that are named in facts that can't be understood."""
    return {id for one in unreadable for id in _NAMED.findall(one.value)}


class OwnLog(Log, _Row):
    """A log of a call, with what else this process knows about it.

    Args:
        ledger: The ledger that it belongs to.
        name: `<call>-<slot>`.
    """

    def __init__(self, ledger: Ledger, name: str) -> None:
        super().__init__(name)
        self.ledger = ledger
        self.batch: BatchLog | None = None
        """The log that its facts are written to, if it is of a batch."""
        self.unreadable = []
        self.reserved: dict[str, str] = {}
        """Calls of this process that are about to claim the slot, by attempt."""
        self.is_under_way = False
        """Whether this process is preparing or sending a create for it."""
        self.address: Address | None = None
        """The API and token with which this process has made or used the prediction."""
        self._left: list[dict[str, Any]] = []
        """Facts that could not be written yet."""
        self._noting, self._writing = asyncio.Lock(), asyncio.Lock()

    @property
    def row(self) -> OwnLog | BatchLog:
        """The row that holds its facts."""
        return self.batch or self

    def _hear(self, said: Said) -> None:
        super()._hear(said)
        if said.made is not None:
            logs = self.ledger.by_prediction.setdefault(said.made.id, [])
            logs += [] if self in logs else [self]

    def holder(self, attempt: str) -> str | None:
        return super().holder(attempt) or self.reserved.get(attempt)

    async def write(self, after: int | None = None, **content: Any) -> bool:
        """Write a fact; return whether it was written.

        Args:
            after: Write only if this is the next number, so that no decision ignores what others
                have written meanwhile. If it is not, what they have written is known then.
            content: Fields of the fact.

        Raises:
            LedgerError: It could not be written.
        """
        if self.batch is not None:
            return await self.batch.write(self, after, OfCall(log=self.name, **content))
        async with self._writing:
            while after is None or self.next == after:
                if await self.append(_fact(**content)):
                    return True
            return False

    async def note(self, **content: Any) -> None:
        """Record what has happened to a create, now or with the next news.

        Args:
            content: Fields of `Said`.

        Raises:
            LedgerError: It could not be written now. This process still knows it.
        """
        if self.generation is not None:
            news = OfCall(log=self.name, of=self.generation.announced_by, **content)
            self.hear(news)
            if self.batch is not None:
                await self.batch.note(news)
                return
        self._left.append(content)
        async with self._noting:
            while self._left:
                await self.write(**self._left[0])
                del self._left[0]

    def check_readable(self) -> None:
        """Refuse to continue if others have written facts that can't be understood.

        Raises:
            LedgerError: The message names the fact.
        """
        if unreadable := self.row.unreadable:
            raise LedgerError(
                f"The input {unreadable[0].key} of flow run {self.ledger.root} can't be read"
                " by this version of prefect-replicate, so it is unknown what was paid for"
                " this call. Nothing was started; delete it if you don't need it."
            )


@dataclass
class Standing:
    """The state of a batch item."""

    by: str
    """Who works on it: `<flow run>/<execution>`."""
    changes: dict[str, Any]
    """Changed fields of its `ItemOutcome`."""

    @property
    def flow_run(self) -> str:
        return self.by.partition("/")[0]

    @property
    def is_succeeded(self) -> bool:
        return self.changes.get("state") == "succeeded"


@dataclass(eq=False)
class _Entry:
    """A call that waits for its part of a fact to be written."""

    log: OwnLog
    after: int | None
    said: OfCall
    is_there: asyncio.Future[bool]

    @property
    def is_overtaken(self) -> bool:
        return self.after is not None and self.log.next != self.after


@dataclass
class _Draft:
    """What will be written together."""

    entries: list[_Entry] = field(default_factory=list[_Entry])
    news: list[OfCall] = field(default_factory=list[OfCall])
    items: dict[tuple[str, str], dict[int, dict[str, Any]]] = field(
        default_factory=dict[tuple[str, str], dict[int, dict[str, Any]]]
    )
    """Changed fields, by part and worker, then by number."""
    stops: list[str] = field(default_factory=list[str])
    is_sign: bool = False

    @property
    def waiting(self) -> list[_Entry]:
        """The entries that a call still waits for."""
        return [one for one in self.entries if not one.is_there.done()]

    def __bool__(self) -> bool:
        return bool(self.entries or self.news or self.items or self.stops or self.is_sign)

    def change(self, part: str, by: str, number: int, changes: dict[str, Any]) -> None:
        items = self.items.setdefault((part, by), {})
        items[number] = items.get(number, {}) | changes

    def add(self, later: _Draft) -> None:
        """Add a later draft to this one."""
        self.entries += later.entries
        self.news += later.news
        self.stops += later.stops
        for (part, by), items in later.items.items():
            for number, changes in items.items():
                self.change(part, by, number, changes)

    def split(self) -> tuple[_Draft, _Draft]:
        """Return what one fact can hold, and the rest."""
        first = replace(self, entries=self.entries[:_AT_ONCE], news=self.news[:_AT_ONCE])
        return first, _Draft(self.entries[_AT_ONCE:], self.news[_AT_ONCE:])

    def fact(self) -> Fact:
        said = [one.said for one in self.entries]
        origin = said[0].origin if said else None
        if any(one.origin != origin for one in said):
            origin = None
        elif origin is not None:
            said = [one.model_copy(update={"origin": None}) if one.claim else one for one in said]
        items = [OfItems(part=part, by=by, items=one) for (part, by), one in self.items.items()]
        return _fact(origin=origin, calls=[*said, *self.news], items=items, stops=self.stops)


class BatchLog(_Row):
    """The facts about items that are processed together: those of a batch, or of a part of one.

    Facts that come within a moment of each other are written together.

    Args:
        ledger: The ledger that it belongs to.
        name: `<batch>-b<part>`.
    """

    def __init__(self, ledger: Ledger, name: str) -> None:
        self.ledger = ledger
        self.name = name
        self.next = 0
        self.facts = set()
        self.unreadable = []
        self.items: defaultdict[str, dict[int, Standing]] = defaultdict(dict)
        """By key of the part, and number within it."""
        self.stopped: set[str] = set()
        """Flow runs that must start nothing more."""
        self._own: set[str] = set()
        """The ids of the facts that this process has written."""
        self._workers = 0
        self._draft = _Draft()
        self._writing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.Task[None] | None = None

    @property
    def is_behind(self) -> bool:
        """Whether something is left to be written."""
        return bool(self._draft) or self._writing.locked()

    @contextmanager
    def worked_on(self) -> Generator[None]:
        """Let news about the items wait for more; `flush` writes it at once."""
        self._workers += 1
        try:
            yield
        finally:
            self._workers -= 1

    def apply(self, fact: Fact, written_at: datetime) -> None:
        self.next += 1
        self.facts.add(fact.id)
        self.stopped.update(fact.stops)
        is_told_here = fact.id in self._own  # then what has happened since is known, too
        for one in fact.calls:
            log = self.ledger.log_named(one.log)
            if one.of is None and log is not None:
                log.batch = self
                log.apply(fact, written_at, one)
            elif log is not None and not is_told_here:
                log.hear(one)
        for one in fact.items if not is_told_here else ():
            for number, changes in one.items.items():
                self._notice(one.part, one.by, number, changes)

    def _notice(self, part: str, by: str, number: int, changes: dict[str, Any]) -> None:
        known = self.items[part].get(number)
        if known is None or (known.by != by and not known.is_succeeded):
            self.items[part][number] = Standing(by, changes)
        elif not known.is_succeeded or changes.get("state") == "succeeded":
            self.items[part][number] = Standing(known.by, known.changes | changes)

    async def write(self, log: OwnLog, after: int | None, said: OfCall) -> bool:
        """As `OwnLog.write`."""
        entry = _Entry(log, after, said, asyncio.get_running_loop().create_future())
        self._draft.entries.append(entry)
        self._hurry(TOGETHER_SECONDS)
        return await entry.is_there

    async def note(self, news: OfCall) -> None:
        """Write news that this process has applied: soon, if it works on the batch, else now.

        Raises:
            LedgerError: It could not be written now.
        """
        self._draft.news.append(news)
        if self._workers:
            self._hurry(NEWS_SECONDS)
        else:
            await self.flush()

    def tell(self, part: str, by: str, number: int, changes: dict[str, Any]) -> None:
        """Apply changes to an item's state, and write them soon."""
        changes = all_printable(changes)
        self._notice(part, by, number, changes)
        self._draft.change(part, by, number, changes)
        self._hurry(NEWS_SECONDS)

    async def stop(self, flow_run: str) -> None:
        """Make a flow run start nothing more.

        Raises:
            LedgerError: It could not be written.
        """
        if flow_run not in self._draft.stops:
            self._draft.stops.append(flow_run)
        await self.flush()

    async def give_sign(self) -> None:
        """Write a sign that the batch is being worked on.

        Raises:
            LedgerError: It could not be written.
        """
        self._draft.is_sign = True
        await self.flush()

    async def flush(self) -> None:
        """Write everything that is pending.

        Raises:
            LedgerError: It could not be written; news that no call waits for is written next time.
        """
        # Must not be interrupted: others wait for it.
        await asyncio.shield(asyncio.create_task(self._flush()))

    async def _flush(self) -> None:
        async with self._writing:
            while self._draft:
                draft, self._draft = self._draft.split()
                for one in draft.waiting:
                    if one.is_overtaken:
                        one.is_there.set_result(False)
                draft.entries = draft.waiting
                try:
                    is_there = not draft or await self._append(draft.fact())
                except Exception as exc:
                    for one in draft.waiting:
                        one.is_there.set_exception(exc)
                    draft.entries = []
                    self._put_back(draft)
                    raise
                if not is_there:
                    self._put_back(draft)
                    continue
                for one in draft.waiting:
                    one.is_there.set_result(True)

    async def _append(self, fact: Fact) -> bool:
        self._own.add(fact.id)
        return await self.append(fact)

    def _put_back(self, draft: _Draft) -> None:
        draft.is_sign = False  # the next write is one, too
        draft.add(self._draft)
        self._draft = draft

    def _hurry(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        if self._timer is None or when < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(when, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._soon = asyncio.create_task(self._flush_quietly())

    async def _flush_quietly(self) -> None:
        try:
            await self._flush()
        except LedgerError as exc:  # written with the next news, or when the batch has ended
            _logger.warning("%s", exc)


def _fact(**content: Any) -> Fact:
    return Fact(version=1, id=uuid4().hex[:8], process=this_process(), **content)


async def _put(root: UUID, name: str, fact: Fact) -> bool:
    """Write a fact under a name; return `False` if the name was already used."""
    json = {"key": f"{PREFIX}{name}", "value": fact.model_dump_json(exclude_defaults=True)}
    try:
        await request(_WRITE, "POST", f"/flow_runs/{root}/input", 201, json=json)
    except LedgerError as exc:
        reply = exc.__cause__
        if not isinstance(reply, httpx.HTTPStatusError) or reply.response.status_code != 409:
            raise
        return False
    return True
