"""What Replicate's rate limits do to creates: they wait, and none is lost or made twice."""

from __future__ import annotations

import asyncio
import logging
import selectors
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from prefect_replicate import ReplicateCredentials, acreate_prediction, create_prediction, engine
from prefect_replicate import get_prediction as get
from prefect_replicate.api.connection import Connection, connection_to
from prefect_replicate.api.throttle import Budget
from prefect_replicate.emulator import Emulator

CREATE = {"method": "POST", "path": "/predictions$"}
MODEL, INPUT = "emulator/timer", {"seconds": 1000}
HURRY = 10.0

Eventually = Callable[[Callable[[], Any]], None]


class _HurriedSelector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / HURRY if timeout else timeout)


class _HurriedLoop(asyncio.SelectorEventLoop):
    """One whose seconds are shorter."""

    def __init__(self) -> None:
        super().__init__(_HurriedSelector())

    def time(self) -> float:
        return super().time() * HURRY


@pytest.fixture
def hurried(replicate_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """The emulator, and an engine of our own, in a time that goes ten times as fast."""
    monkeypatch.setattr(engine, "_engine", None)
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "new_event_loop", _HurriedLoop)
        engine._running_engine()
    replicate_emulator.clock.speed = HURRY
    yield replicate_emulator
    loop = engine._running_engine().loop
    loop.call_soon_threadsafe(loop.stop)


def connection() -> Connection:
    async def look(caller: object) -> Connection:
        return connection_to(ReplicateCredentials().address())

    return engine.call(look)


def budget() -> Budget:
    return connection().gates.creates.budget


def create_many(count: int) -> set[str]:
    with ThreadPoolExecutor(count) as threads:
        made = [threads.submit(create_prediction.fn, MODEL, INPUT) for _ in range(count)]
        return {one.result().id for one in made}


def test_with_little_credit_creates_go_one_by_one(hurried: Emulator) -> None:
    hurried.behave(rate_limits="low-credit")

    assert len(create_many(4)) == 4

    assert hurried.predictions.create_requests == 4
    assert len(hurried.requests.matching("POST")) <= 5


def test_who_waits_for_longer_is_told_why_and_for_how_long(
    hurried: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hurried.behave(rate_limits="low-credit")

    create_many(3)

    told = [line for line in caplog.messages if "predictions a minute" in line]
    assert told == ["Replicate lets this account create 6 predictions a minute: 2 wait, about 20 s"]


def test_a_bucket_that_others_have_drained_is_not_overdrawn(hurried: Emulator) -> None:
    hurried.behave(rate_limits="standard")
    with httpx.Client(base_url=hurried.base_url, headers=token(hurried)) as others:
        hurried.clock.speed = 0
        while others.post("/v1/predictions", json={}).status_code != 429:
            pass
    hurried.requests.clear()
    hurried.clock.speed = HURRY

    assert len(create_many(20)) == 20

    assert hurried.predictions.create_requests == 20
    assert len(hurried.requests.matching("POST")) <= 21


def token(emulator: Emulator) -> dict[str, str]:
    return {"Authorization": f"Bearer {emulator.token}"}


def test_refusals_in_the_middle_lose_none_and_double_none(replicate_emulator: Emulator) -> None:
    replicate_emulator.faults.add("throttled", **CREATE, nth=4, times=3, retry_after=0)

    assert len(create_many(12)) == 12

    assert replicate_emulator.predictions.create_requests == 12
    assert len(replicate_emulator.requests.matching("POST")) == 15
    assert budget().under_way == 0


async def test_whoever_is_interrupted_in_the_queue_sends_nothing(
    still: Emulator, eventually: Eventually
) -> None:
    still.faults.add("throttled", **CREATE, retry_after=60)
    refused = asyncio.create_task(acreate_prediction.fn(MODEL, INPUT))
    await asyncio.to_thread(eventually, lambda: still.requests.matching("POST"))

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(acreate_prediction.fn(MODEL, INPUT), 0.2)

    assert len(still.requests.matching("POST")) == 1
    assert budget().under_way == 0
    refused.cancel()
    await asyncio.wait([refused])
    assert still.predictions.create_requests == 0


def test_a_create_that_is_invalid_leaves_its_place_to_the_next(still: Emulator) -> None:
    with pytest.raises(ValueError, match="seconds"):
        create_prediction.fn(MODEL, {"seconds": "soon"})

    assert len(create_many(2)) == 2
    assert budget().under_way == 0


def test_a_refused_read_keeps_the_others_waiting_too(
    replicate_emulator: Emulator, eventually: Eventually
) -> None:
    prediction = create_prediction.fn(MODEL, INPUT)
    replicate_emulator.faults.add("throttled", method="GET", path="/predictions/", retry_after=1)

    with ThreadPoolExecutor(5) as threads:
        refused = threads.submit(get.fn, prediction)
        eventually(lambda: connection().gates.gets.budget.refusals)
        others = [threads.submit(get.fn, prediction) for _ in range(4)]
        assert {one.result().id for one in (refused, *others)} == {prediction.id}

    first, *later = replicate_emulator.requests.matching("GET", "/predictions/")
    assert len(later) == 5
    assert all(one.time >= first.time + 1 for one in later)
