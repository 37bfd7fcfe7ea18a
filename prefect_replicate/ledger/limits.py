"""The limit on creates that all workers of a Prefect server share, if one is set up.

It is a global concurrency limit whose slots are released over time. A request for slots takes
milliseconds, or seconds when many runs write at once. So slots are taken in blocks, ahead of need,
by one request at a time for all creates of a process.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import httpx
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate as LimitCreate
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate as LimitUpdate
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import ConfigurationError
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client

NAME = "replicate-creates"

AHEAD_SECONDS = 3.0
"""How far ahead upcoming creates are counted when a block is taken."""

_ABSENT_SECONDS = 180.0
"""How long to go without a limit that does not exist before checking for it again."""

_SPARE_SECONDS = 30.0
"""How long an unused slot is valid."""

_LONGEST_PAUSE = 60.0
_SPREAD = 0.2  # or all waiting processes would ask at once, and one would get all


@dataclass(frozen=True)
class GlobalLimit:
    """The state of a limit."""

    limit: int
    per_second: float
    used: int
    """Slots taken and not released yet."""

    @property
    def block(self) -> int:
        """The most slots to take at once, which leaves enough for others."""
        free = self.limit - self.used
        return max(1, self.limit // 20, free // 4)

    def seconds_until(self, slots: int) -> float:
        """Return the seconds until this many are free, if nobody takes any."""
        return max(0.0, self.used + slots - self.limit) / self.per_second


async def read_limit() -> GlobalLimit | None:
    """Return the limit in force, if there is one.

    Raises:
        ConfigurationError: It would never admit anything.
        LedgerError: Prefect's API could not be read.
    """
    client = await prefect_client()
    with as_ledger_error(f"read the limit {NAME}"):
        try:
            found = await client.read_global_concurrency_limit_by_name(NAME)
        except ObjectNotFound:
            return None
    if not found.active:
        return None
    rate = found.slot_decay_per_second
    if not found.limit or not rate:
        wrong = "is 0" if not found.limit else "has a slot decay of 0"
        raise ConfigurationError(
            f"Prefect's global concurrency limit {NAME} {wrong}, so no prediction can be created."
            " Set it with `prefect-replicate limits`, or deactivate it."
        )
    return GlobalLimit(found.limit, rate, found.active_slots)


async def set_limit(per_minute: int) -> GlobalLimit:
    """Limit the predictions created per minute by everyone who uses this server."""
    client = await prefect_client()
    rate = per_minute / 60
    wanted: dict[str, Any] = {"limit": per_minute, "slot_decay_per_second": rate, "active": True}
    with as_ledger_error(f"set the limit {NAME}"):
        try:
            await client.update_global_concurrency_limit(NAME, LimitUpdate(**wanted))
        except ObjectNotFound:
            await client.create_global_concurrency_limit(LimitCreate(name=NAME, **wanted))
    limit = await read_limit()
    assert limit is not None
    return limit


async def remove_limit() -> bool:
    """Remove the limit; return whether there was one."""
    client = await prefect_client()
    with as_ledger_error(f"remove the limit {NAME}"):
        try:
            await client.delete_global_concurrency_limit_by_name(NAME)
        except ObjectNotFound:
            return False
    return True


async def _take(slots: int) -> float | None:
    """Take slots, or return how many seconds Prefect asks us to wait instead."""
    client = await prefect_client()
    with as_ledger_error(f"take slots of the limit {NAME}"):
        try:
            await client.increment_concurrency_slots([NAME], slots, mode="rate_limit")
        except httpx.HTTPStatusError as exc:
            if exc.response.status_code != 423:
                raise
            return min(_LONGEST_PAUSE, float(exc.response.headers.get("retry-after", 1)))
    return None


class Slots:
    """The slots of one process, from one Prefect server. Lives on the engine's loop."""

    def __init__(self) -> None:
        self._spare: deque[float] = deque()  # when they were taken
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._fetching: asyncio.Task[None] | None = None
        self._absent_until = 0.0
        self.limit: GlobalLimit | None = None
        """As it was when last read."""

    @property
    def waiting(self) -> int:
        return len(self._those_waiting())

    @property
    def _is_used(self) -> bool:
        return time.monotonic() >= self._absent_until

    async def take(self, soon: Callable[[], int]) -> bool:
        """Wait for a slot; return whether one was needed.

        Args:
            soon: Returns how many more creates will need one within `AHEAD_SECONDS`.

        Raises:
            ConfigurationError: The limit would never admit anything.
            LedgerError: The limit could not be read, or no slot be taken, through Prefect's API.
        """
        if not self._is_used:
            return False
        is_there = self._use_spare()
        if self._fetching is None and not (is_there and soon() <= len(self._spare)):
            self._fetching = asyncio.create_task(self._fetch(soon))
        if is_there:
            return True
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return await self._result(future)

    def _use_spare(self) -> bool:
        oldest = time.monotonic() - _SPARE_SECONDS
        while self._spare:
            if self._spare.popleft() > oldest:
                return True
        return False

    async def _result(self, future: asyncio.Future[bool]) -> bool:
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled() and not future.exception() and future.result():
                self.give_back()
            raise

    def give_back(self) -> None:
        """Pass an unused slot to the next create."""
        self._hand_out(1)

    async def _fetch(self, soon: Callable[[], int]) -> None:
        try:
            while self._is_used and (wanted := self.waiting + soon() - len(self._spare)) > 0:
                await self._fetch_block(wanted)
        except Exception as exc:  # noqa: BLE001 - it is raised in the waiting creates
            for one in self._those_waiting():
                one.set_exception(exc)
        finally:
            self._fetching = None

    async def _fetch_block(self, wanted: int) -> None:
        self.limit = limit = await read_limit()
        if limit is None:
            self._absent_until = time.monotonic() + _ABSENT_SECONDS
            _answer(self._those_waiting(), needed=False)
            self._spare.clear()
            return
        # A refusal costs everyone: Prefect then forgets the slots released since the last request.
        block = min(wanted, limit.block)
        await asyncio.sleep(limit.seconds_until(block) * random.uniform(1, 1 + _SPREAD))
        pause = await _take(block)
        if pause is None:
            self._hand_out(block)
        else:
            await asyncio.sleep(pause)

    def _hand_out(self, slots: int) -> None:
        first = self._those_waiting()[:slots]
        _answer(first, needed=True)
        self._spare.extend([time.monotonic()] * (slots - len(first)))

    def _those_waiting(self) -> list[asyncio.Future[bool]]:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return [one for one in self._waiting if not one.done()]


def _answer(those: Collection[asyncio.Future[bool]], *, needed: bool) -> None:
    for one in those:
        one.set_result(needed)


class _AllSlots(dict["str | None", Slots]):
    """By API address."""


def slots() -> Slots:
    """Return the slots from the server that the caller's settings name."""
    return process_state("global limits", _AllSlots).setdefault(PREFECT_API_URL.value(), Slots())
