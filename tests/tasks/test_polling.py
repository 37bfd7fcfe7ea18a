"""All waits of a process share one poller, which prefers pages of the list to single looks."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from itertools import pairwise
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

SECONDS = 30.0
RARE = PollPolicy(min_interval=600, max_interval=600)
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
Eventually = Callable[[Callable[[], Any]], None]


async def created(count: int, **input: Any) -> list[Prediction]:
    given = {"seconds": SECONDS, **input}
    creates = (acreate_prediction.fn("emulator/timer", given) for _ in range(count))
    return await asyncio.gather(*creates)


def waits(
    predictions: Sequence[Prediction], policy: PollPolicy = RARE, **more: Any
) -> list[asyncio.Task[Prediction]]:
    return [
        asyncio.ensure_future(await_for_prediction.fn(one, policy=policy, **more))
        for one in predictions
    ]


async def test_many_waits_take_few_requests(account: LocalAccount) -> None:
    predictions = await created(105)

    done = await asyncio.gather(*waits(predictions, PollPolicy()))

    assert all(one.is_succeeded for one in done)
    assert account.requests["list"] == 62  # of two pages at a time, for half a minute
    assert account.requests["get"] == 105  # each result once, with its log


async def test_one_wait_looks_singly(account: LocalAccount) -> None:
    await asyncio.gather(*waits(await created(1), PollPolicy()))

    assert account.requests["get"] == 20
    assert account.requests["list"] == 0


async def test_a_page_brings_news_to_those_that_are_not_due(account: LocalAccount) -> None:
    loop, seen = asyncio.get_running_loop(), dict[str, dict[str, float]]()
    predictions = await created(4, queue_seconds=10)

    def note(prediction: Prediction) -> None:
        seen.setdefault(prediction.status, {}).setdefault(prediction.id, loop.time())

    done = await asyncio.gather(*waits(predictions, on_update=note))

    assert [one.output is not None for one in done] == [True] * 4
    assert {status: len(ids) for status, ids in seen.items()} == {
        "starting": 4,
        "processing": 4,
        "succeeded": 4,
    }
    assert max(seen["processing"].values()) - min(seen["starting"].values()) < 12
    assert account.requests["get"] == 4


async def test_a_canceled_wait_leaves_the_others(account: LocalAccount) -> None:
    predictions = await created(5)
    first, *others = waits(predictions)
    await asyncio.sleep(5)

    first.cancel()
    await asyncio.wait([first])
    done = await asyncio.gather(*others)

    assert account.predictions[predictions[0].id].status == "canceled"
    assert all(one.is_succeeded for one in done)
    assert account.predictions.cancel_requests == 1


async def test_an_outage_is_one_back_off_for_all(
    account: LocalAccount, caplog: pytest.LogCaptureFixture
) -> None:
    running = waits(await created(40), PollPolicy())
    await asyncio.sleep(5)

    account.faults.add("error_page", method="GET", times=None)
    await asyncio.sleep(60)
    account.faults.clear()
    done = await asyncio.gather(*running)

    failed = [one.time for one in account.traffic if one.status == 502]
    assert len(done) == 40
    assert len(failed) == 8
    assert max(failed) - min(failed) > 25
    assert len([line for line in caplog.messages if line.startswith("A status request for")]) == 1


async def test_a_list_that_fails_is_done_without(account: LocalAccount) -> None:
    account.faults.add("error_page", method="GET", path="/predictions$", times=None)

    await asyncio.gather(*waits(await created(5), PollPolicy()))

    assert account.requests["list"] == 5
    assert account.requests["get"] == 95
    assert longer_each_time(account)


async def test_pages_that_repeat_images_are_done_without(account: LocalAccount) -> None:
    await asyncio.gather(*waits(await created(5, prompt="i" * 250_000), PollPolicy()))

    assert account.requests["list"] == 4
    assert account.requests["get"] == 91
    assert longer_each_time(account)


def longer_each_time(account: LocalAccount) -> bool:
    """Whether the pauses between the pages grew."""
    pages = [one.time for one in account.traffic.matching("GET") if one.path == "/v1/predictions"]
    pauses = [later - earlier for earlier, later in pairwise(pages)]
    return all(longer > shorter for shorter, longer in pairwise(pauses))


def test_waits_of_several_threads_and_loops_share_the_poller(
    still: Emulator, quick: PollPolicy, eventually: Eventually
) -> None:
    one, two, three = (
        create_prediction.fn("emulator/timer", {"seconds": SECONDS}) for _ in range(3)
    )
    seen: Counter[str] = Counter()
    options: dict[str, Any] = {"policy": quick, "on_update": lambda one: seen.update([one.id])}
    functions: list[Callable[[], Any]] = [
        lambda: wait_for_prediction.fn(one, **options),
        lambda: asyncio.run(await_for_prediction.fn(two, **options)),
        lambda: asyncio.run(await_for_prediction.fn(three, **options)),
    ]
    threads = [threading.Thread(target=function) for function in functions]

    for thread in threads:
        thread.start()
    eventually(lambda: len(seen) == 3 and min(seen.values()) > 1)  # first, as it was made
    still.requests.clear()
    eventually(lambda: len(still.requests) >= 2)
    paths = {one.path for one in still.requests}
    still.clock.advance(SECONDS)
    for thread in threads:
        thread.join(20)

    assert paths == {"/v1/predictions"}  # with a poller of its own, each would look singly
    assert not any(thread.is_alive() for thread in threads)


async def test_others_on_the_account_are_no_hindrance(account: LocalAccount) -> None:
    headers, path = {"Authorization": f"Bearer {TOKEN}"}, "/v1/models/emulator/timer/predictions"
    ours: list[Prediction] = []
    async with httpx.AsyncClient(
        base_url=URL, headers=headers, transport=Network(account, seed=2)
    ) as others:
        for _ in range(12):
            ours += await created(1)
            for _ in range(2):
                await others.post(path, json={"input": {"seconds": SECONDS}})

    done = await asyncio.gather(*waits(ours))

    assert len(account.predictions) == 36
    assert all(one.is_succeeded for one in done)
    assert account.requests["get"] == 12


async def test_one_that_its_page_does_not_show_is_asked_for_singly(account: LocalAccount) -> None:
    misplaced = [one.model_copy(update={"created_at": LONG_AGO}) for one in await created(3)]

    done = await asyncio.gather(*waits(misplaced, PollPolicy(), timeout=None))

    assert all(one.is_succeeded for one in done)
    assert account.requests["list"] == 34
    assert account.requests["get"] == 48


async def test_a_page_with_items_that_make_no_sense_is_read_all_the_same(
    scripted: Any, quick: PollPolicy
) -> None:
    items = [{"id": "a"}, 7, {"id": "b", "status": "aborted"}, {"id": "c", "status": "melting"}]

    def reply() -> tuple[int, Any, dict[str, str]]:
        path = scripted.paths[-1].partition("?")[0]
        one = path.rpartition("/")[2]
        if one == "predictions":
            return 200, {"results": items}, {}
        has_listed = any("?" in path for path in scripted.paths)
        ended = {"a": "succeeded", "b": "aborted", "c": "succeeded"}[one]
        return 200, {"id": one, "status": ended if has_listed else "starting"}, {}

    scripted.next_reply = reply
    known = [Prediction(id=one, status="starting", created_at=LONG_AGO) for one in "abc"]

    outcomes = await asyncio.gather(
        *waits(known, quick, credentials=scripted.credentials, timeout=None),
        return_exceptions=True,
    )

    a, b, c = outcomes
    assert isinstance(a, Prediction)
    assert isinstance(b, PredictionCanceledError)
    assert isinstance(c, Prediction)
