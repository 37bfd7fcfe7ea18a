"""What Replicate's rate limits do to creates: they wait, and none is lost or made twice."""

from __future__ import annotations

import asyncio
import logging

import pytest
from benchmarks.local_account import LocalAccount

from prefect_replicate import ReplicateCredentials, acreate_prediction, aget_prediction
from prefect_replicate.api.connection import connection_to
from prefect_replicate.emulator import limits

CREATE = {"method": "POST", "path": "/predictions$"}
MODEL, INPUT = "emulator/timer", {"seconds": 1000}


def under_way() -> int:
    """Creates that the queue takes for sent and not answered."""
    return connection_to(ReplicateCredentials().address()).gates.creates.budget.under_way


async def create_many(count: int) -> set[str]:
    made = await asyncio.gather(*(acreate_prediction.fn(MODEL, INPUT) for _ in range(count)))
    return {one.id for one in made}


async def test_with_little_credit_creates_go_one_by_one(account: LocalAccount) -> None:
    account.behave(rate_limits="low-credit")

    assert len(await create_many(4)) == 4

    assert account.predictions.create_requests == 4
    assert account.requests["create"] == 4
    assert asyncio.get_running_loop().time() > 30


async def test_who_waits_for_longer_is_told_why_and_for_how_long(
    account: LocalAccount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    account.behave(rate_limits="low-credit")

    await create_many(3)

    told = [line for line in caplog.messages if "predictions a minute" in line]
    assert told == [
        "Replicate lets this account create 6 predictions a minute: 2 waiting, about 20 s"
    ]


async def test_a_bucket_that_others_have_drained_is_not_overdrawn(account: LocalAccount) -> None:
    account.behave(rate_limits="standard")
    now = account.clock.now()
    while account.platform.meter.take(limits.STANDARD, "create", now).allowed:
        pass

    assert len(await create_many(20)) == 20

    assert account.predictions.create_requests == 20
    assert account.requests["create"] == 20


async def test_refusals_in_the_middle_lose_none_and_double_none(account: LocalAccount) -> None:
    account.faults.add("throttled", **CREATE, nth=4, times=3, retry_after=0)

    assert len(await create_many(12)) == 12

    assert account.predictions.create_requests == 12
    assert account.requests["create"] == 15
    assert under_way() == 0


async def test_whoever_is_interrupted_in_the_queue_sends_nothing(account: LocalAccount) -> None:
    account.faults.add("throttled", **CREATE, retry_after=60)
    refused = asyncio.create_task(acreate_prediction.fn(MODEL, INPUT))
    await asyncio.sleep(1)

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(acreate_prediction.fn(MODEL, INPUT), 30)

    assert account.requests["create"] == 1
    assert under_way() == 0
    refused.cancel()
    await asyncio.wait([refused])
    assert account.predictions.create_requests == 0


async def test_a_create_that_is_invalid_leaves_its_place_to_the_next(account: LocalAccount) -> None:
    with pytest.raises(ValueError, match="seconds"):
        await acreate_prediction.fn(MODEL, {"seconds": "soon"})

    assert len(await create_many(2)) == 2
    assert under_way() == 0


async def test_a_refused_read_keeps_the_others_waiting_too(account: LocalAccount) -> None:
    prediction = await acreate_prediction.fn(MODEL, INPUT)
    account.faults.add("throttled", method="GET", path="/predictions/", retry_after=60)
    refused = asyncio.create_task(aget_prediction.fn(prediction))
    await asyncio.sleep(1)

    others = [asyncio.create_task(aget_prediction.fn(prediction)) for _ in range(4)]
    found = await asyncio.gather(refused, *others)

    assert {one.id for one in found} == {prediction.id}
    first, *later = account.traffic.matching("GET", "/predictions/")
    assert len(later) == 5
    assert all(one.time >= first.time + 60 for one in later)
