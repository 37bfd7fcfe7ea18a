from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from benchmarks.local_account import chance_of_this_thread
from benchmarks.virtual_time import VirtualTimeLoop
from pydantic import SecretStr

from prefect_replicate.api.connection import Address, Connection
from prefect_replicate.api.throttle import (
    CREATES,
    FIRST_ALONE_SECONDS,
    Budget,
    Gate,
    Gates,
    Limit,
    learned,
)
from prefect_replicate.emulator import limits

LOW = Limit(0.1, 1)
FRESH = Budget.of(CREATES, 0.0, window=1)
KNOWN = replace(FRESH, window=math.inf)


@pytest.mark.parametrize(
    ("assumed", "remaining", "reset", "holds"),
    [
        (CREATES, 599, 1, CREATES),
        (CREATES, 300, 30, CREATES),
        (CREATES, 0, 60, CREATES),
        (CREATES, 0, 10, LOW),
        (CREATES, 300, 5, CREATES),
        (LOW, 0, 10, LOW),
        (LOW, 0, 3, LOW),
        (LOW, 599, 1, CREATES),
        (LOW, 0, 60, CREATES),
        (LOW, 700, 1, CREATES),
        (LOW, 0, 0, LOW),
    ],
)
def test_a_reply_shows_which_limit_holds(
    assumed: Limit, remaining: float, reset: float, holds: Limit
) -> None:
    assert learned(assumed, CREATES, remaining, reset) == holds


@pytest.mark.parametrize(
    ("budget", "opens_at"),
    [
        (FRESH, 10.0),
        (FRESH.taken(10.0), 10.0 + FIRST_ALONE_SECONDS),
        (FRESH.taken(9.0).given_back(), 10.0),
        (FRESH.taken(9.0).spent(9.5), 10.0),
        (FRESH.taken(9.0).answered(10.0, 599, 1), 10.0),
        (KNOWN.taken(9.9).answered(10.0, 31, 57), 10.0),
        (KNOWN.taken(10.0).answered(10.0, 30, 57), 10.1),
        (KNOWN.taken(9.5).answered(10.0, 0, 60), 10.35),
        (KNOWN.taken(10.0).answered(10.0, 0, 60), 10.55),
        (KNOWN.taken(9.7).answered(10.0, 0, 10), 20.0),
        (KNOWN.taken(9.7).answered(10.0, 0, 10).taken(20.0), math.inf),
        (KNOWN.taken(9.7).refused(10.0, 7.0, None), 17.0),
        (KNOWN.taken(9.7).refused(10.0, 7.0, LOW).taken(17.0).answered(17.1, 0, 10), 27.1),
        (KNOWN.taken(9.7).taken(9.8).refused(9.9, 7.0, None).answered(10.0, 599, 1), 16.9),
    ],
)
def test_the_next_may_be_sent(budget: Budget, opens_at: float) -> None:
    assert max(10.0, budget.opens_at(10.0)) == pytest.approx(opens_at, abs=0.01)


def test_refusals_that_do_not_say_for_how_long_close_for_longer_each_time() -> None:
    pauses, budget = list[float](), KNOWN
    for now in (0, 100, 200, 300, 400, 500, 600, 700, 800):
        pauses.append(budget.own_pause(60))
        budget = budget.taken(now).refused(now, pauses[-1], None)

    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_those_refused_together_count_once() -> None:
    budget = KNOWN.taken(0).taken(0).refused(1, 5, None).refused(1.1, 5, None)

    assert (budget.refusals, budget.under_way) == (1, 0)


@pytest.mark.parametrize("others", [0, 2, 9])
def test_what_others_ask_shows_in_how_fast_the_requests_left_go_down(others: int) -> None:
    budget = replace(KNOWN, tokens=6000.0, counted_at=0.0, limit=Limit(10, 6000))
    for n in range(1, 100):
        budget = budget.taken(0.0).answered(0.0, 6000 - n * (1 + others), 30)

    assert budget.sharers == pytest.approx(1 + others, rel=0.1)


@pytest.mark.parametrize(
    ("method", "path", "which"),
    [
        ("POST", "/v1/predictions", "creates"),
        ("POST", "/v1/models/a/b/predictions", "creates"),
        ("POST", "/v1/deployments/a/b/predictions", "creates"),
        ("GET", "/v1/predictions/abc", "gets"),
        ("GET", "/v1/predictions?cursor=abc", "others"),
        ("GET", "/v1/models/a/b", "others"),
        ("POST", "/v1/predictions/abc/cancel", "others"),
    ],
)
def test_each_request_waits_at_its_own_gate(method: str, path: str, which: str) -> None:
    gates = Gates()
    assert gates.turn(method, path).gate is getattr(gates, which)


def in_virtual_time(work: Coroutine[Any, Any, None]) -> float:
    """Run it, and say how many seconds have passed for it."""
    loop = VirtualTimeLoop()
    try:
        with chance_of_this_thread(seed=1):
            loop.run_until_complete(work)
        return loop.time()
    finally:
        loop.close()


def test_they_go_in_the_order_in_which_they_came_but_for_those_ahead() -> None:
    gone: list[int] = []

    async def go(gate: Gate, number: int, ahead: bool = False) -> None:
        turn = gate.turn(is_urgent=ahead)
        await turn.come()
        gone.append(number)
        turn.answered(0, 10)

    async def work() -> None:
        gate = Gate(LOW)
        await asyncio.gather(*(go(gate, n, ahead=n == 3) for n in range(4)))

    assert in_virtual_time(work()) == pytest.approx(30)
    assert gone == [0, 3, 1, 2]


def test_one_that_is_refused_keeps_its_place_in_front() -> None:
    gone: list[str] = []

    async def go(gate: Gate, name: str, refusals: int = 0) -> None:
        turn = gate.turn()
        for _ in range(refusals):
            await turn.come()
            turn.refused(5.0, 60.0, None)
        await turn.come()
        gone.append(name)
        turn.answered(500, 10)

    async def work() -> None:
        gate = Gate(CREATES)
        await asyncio.gather(go(gate, "refused", 2), go(gate, "next"), go(gate, "last"))

    assert 10 < in_virtual_time(work()) < 11
    assert gone == ["refused", "next", "last"]


@pytest.mark.parametrize("let_in_meanwhile", [False, True])
def test_whoever_gives_up_waiting_takes_nothing(let_in_meanwhile: bool) -> None:
    async def work() -> None:
        gate = Gate(LOW)
        first, second = gate.turn(), gate.turn()
        await first.come()
        waiting = asyncio.create_task(second.come())
        await asyncio.sleep(0)
        if let_in_meanwhile:
            first.give_back()
        waiting.cancel()
        await asyncio.wait([waiting])
        first.give_back()
        assert (gate.waiting, gate.budget.under_way, second.is_held) == (0, 0, False)

    assert in_virtual_time(work()) == 0


@dataclass
class Account:
    """Replicate's side of one account, in virtual time."""

    limit: limits.Limit
    left: float
    latency: float = 0.3
    made: list[str] = field(default_factory=list[str])
    refused: int = 0

    def __post_init__(self) -> None:
        self.level = limits.Level(self.left, 0.0)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(random.uniform(0.3, 0.7) * self.latency)
        now = asyncio.get_running_loop().time()
        verdict, self.level = limits.take(self.limit, self.level, now)
        await asyncio.sleep(random.uniform(0.3, 0.7) * self.latency)
        if not verdict.allowed:
            self.refused += 1
            return httpx.Response(429, json={"retry_after": verdict.retry_after})
        self.made.append(request.url.params["n"])
        stated = {"remaining": verdict.remaining, "reset": verdict.reset}
        headers = {f"ratelimit-{name}": str(value) for name, value in stated.items()}
        return httpx.Response(201, json={}, headers=headers)

    def connection(self, process: int) -> Connection:
        """That of a process that knows of no other."""
        connection = Connection(Address("http://replicate.test", SecretStr(f"r8_{process}")))
        transport = httpx.MockTransport(self.answer)
        connection._http = httpx.AsyncClient(base_url="http://replicate.test", transport=transport)
        return connection


async def create(connection: Connection, number: int) -> None:
    turn = connection.gates.creates.turn()
    path = f"/v1/predictions?n={number}"
    await connection.retrying(turn)(connection.write_once, path, turn, json={})


@pytest.mark.parametrize(("processes", "left"), [(1, 600.0), (10, 600.0), (3, 0.0)])
def test_creates_use_the_limit_up_and_share_it_with_hardly_a_refusal(
    processes: int, left: float
) -> None:
    account, count = Account(limits.STANDARD["create"], left), int(left) + 300

    async def work() -> None:
        connections = [account.connection(process) for process in range(processes)]
        await asyncio.gather(*(create(connections[n % processes], n) for n in range(count)))

    wall = in_virtual_time(work())

    assert sorted(account.made) == sorted(map(str, range(count)))
    assert wall <= (count - left) / 10 + 5
    assert account.refused <= 0.01 * count


def test_at_one_create_at_a_time_nothing_is_refused() -> None:
    account = Account(limits.LOW_CREDIT["create"], 1)

    async def work() -> None:
        connection = account.connection(0)
        await asyncio.gather(*(create(connection, n) for n in range(10)))

    assert in_virtual_time(work()) <= 1.05 * 90
    assert (len(account.made), account.refused) == (10, 0)


def test_an_account_that_is_topped_up_goes_fast_again() -> None:
    account = Account(limits.LOW_CREDIT["create"], 1)

    async def work() -> None:
        connection = account.connection(0)
        await asyncio.gather(*(create(connection, n) for n in range(3)))
        account.limit = limits.STANDARD["create"]
        account.level = limits.Level(600.0, asyncio.get_running_loop().time())
        await asyncio.gather(*(create(connection, n) for n in range(3, 100)))

    assert in_virtual_time(work()) < 40
