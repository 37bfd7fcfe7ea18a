"""All waits of a process share one poller, which prefers pages of the list to single looks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest
from benchmarks.local_account import TOKEN, URL, LocalAccount, Network

from prefect_replicate import (
    PollPolicy,
    Prediction,
    acreate_prediction,
    await_for_prediction,
    create_prediction,
    wait_for_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import PredictionCanceledError

SECONDS = 60.0
RARE = PollPolicy(min_interval=600, max_interval=600)
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
Eventually = Callable[[Callable[[], Any]], None]


async def created(count: int, **input: Any) -> list[Prediction]:
    given = {"seconds": SECONDS, **input}
    return [await acreate_prediction.fn("emulator/timer", given) for _ in range(count)]


def waits(
    predictions: Sequence[Prediction], policy: PollPolicy = RARE, **more: Any
) -> list[asyncio.Task[Prediction]]:
    return [
        asyncio.ensure_future(await_for_prediction.fn(one, policy=policy, **more))
        for one in predictions
    ]


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_many_waits_take_few_requests(account: LocalAccount) -> None:
    predictions = await created(150)
    begun = now()

    done = await asyncio.gather(*waits(predictions, PollPolicy()))

    assert all(one.is_succeeded for one in done)
    assert account.requests["get"] == 150  # each result once, with its log
    print("PAGES", account.requests, now() - begun)


async def test_one_wait_looks_singly(account: LocalAccount) -> None:
    await asyncio.gather(*waits(await created(1), PollPolicy()))

    print(account.requests)
    assert account.requests["list"] == 0


async def test_a_page_brings_news_to_those_that_are_not_due(account: LocalAccount) -> None:
    seen: list[tuple[str, float]] = []
    begun = now()
    predictions = await created(4, queue_seconds=10)

    done = await asyncio.gather(
        *waits(predictions, on_update=lambda one: seen.append((one.status, now() - begun)))
    )
    print(seen, account.requests)


async def test_a_canceled_wait_leaves_the_others(account: LocalAccount) -> None:
    predictions = await created(5)
    first, *others = waits(predictions)
    await asyncio.sleep(5)

    first.cancel()
    await asyncio.wait([first])
    done = await asyncio.gather(*others)

    print([one.status for one in account.platform.history], account.requests)
    assert all(one.is_succeeded for one in done)


async def test_an_outage_is_one_back_off_for_all(
    account: LocalAccount, caplog: pytest.LogCaptureFixture
) -> None:
    running = waits(await created(40), PollPolicy())
    await asyncio.sleep(10)

    account.platform.faults.add("error_page", method="GET", times=None)
    await asyncio.sleep(30)
    account.platform.faults.clear()
    done = await asyncio.gather(*running)

    failed = [one for one in account.platform.traffic if one.status == 502]
    print("FAILED", len(failed), [one.time - failed[0].time for one in failed])
    assert len(done) == 40
    assert len([line for line in caplog.messages if line.startswith("A look at")]) == 1


async def test_a_list_that_fails_is_done_without(account: LocalAccount) -> None:
    account.platform.faults.add("error_page", method="GET", path="/predictions$", times=None)

    await asyncio.gather(*waits(await created(5), PollPolicy()))

    print("LISTFAIL", account.requests)


async def test_pages_that_repeat_images_are_done_without(account: LocalAccount) -> None:
    await asyncio.gather(*waits(await created(5, prompt="i" * 250_000), PollPolicy()))

    print("IMAGES", account.requests)


async def test_others_on_the_account_are_no_hindrance(account: LocalAccount) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    ours: list[Prediction] = []
    async with httpx.AsyncClient(
        base_url=URL, headers=headers, transport=Network(account, seed=2)
    ) as others:
        body = {"input": {"seconds": SECONDS}}
        for _ in range(12):
            ours += await created(1)
            for _ in range(2):
                await others.post("/v1/models/emulator/timer/predictions", json=body)

    done = await asyncio.gather(*waits(ours))

    assert len(account.platform.history) == 36
    assert all(one.is_succeeded for one in done)
    print("OTHERS", account.requests)


async def test_one_that_its_page_does_not_show_is_asked_for_singly(account: LocalAccount) -> None:
    misplaced = [one.model_copy(update={"created_at": LONG_AGO}) for one in await created(3)]

    done = await asyncio.gather(*waits(misplaced, PollPolicy(), timeout=None))

    assert all(one.is_succeeded for one in done)
    print("MISPLACED", account.requests)
