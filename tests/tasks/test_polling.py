"""All waits of a process share one poller, which prefers pages of the list to single looks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

import pytest
import replicate

from prefect_replicate import (
    PollPolicy,
    Prediction,
    await_for_prediction,
    create_prediction,
    wait_for_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import PredictionCanceledError

NEVER = 1000.0
RARE = PollPolicy(min_interval=60, max_interval=60)
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
Eventually = Callable[[Callable[[], Any]], None]


def created(count: int, **input: Any) -> list[Prediction]:
    return [
        create_prediction.fn("emulator/timer", {"seconds": NEVER, **input}) for _ in range(count)
    ]


def pages(emulator: Emulator) -> int:
    return sum(one.path == "/v1/predictions" for one in emulator.requests.matching("GET"))


def single_looks(emulator: Emulator) -> int:
    return len(emulator.requests.matching("GET", "/v1/predictions/"))


async def until(condition: Callable[[], Any]) -> None:
    async def poll() -> None:
        while not condition():  # noqa: ASYNC110 it comes to hold in another thread
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), 30)


def waits(
    predictions: Sequence[Prediction], policy: PollPolicy = RARE, **more: Any
) -> list[asyncio.Task[Prediction]]:
    return [
        asyncio.ensure_future(await_for_prediction.fn(one, policy=policy, **more))
        for one in predictions
    ]


async def test_many_waits_take_few_requests(still: Emulator) -> None:
    predictions: list[Prediction] = []
    for _ in range(150):
        predictions += created(1)
        still.clock.advance(0.1)  # 600 creates a minute, which is Replicate's limit
    running = waits(predictions, PollPolicy())

    await until(lambda: pages(still) > 10)
    looked = single_looks(still)
    still.clock.advance(NEVER)
    done = await asyncio.gather(*running)

    assert all(one.is_succeeded for one in done)
    assert looked < 150  # of some 1500, if each of ten pages were looks of 150
    assert single_looks(still) < 300  # each result is fetched singly, with its log


async def test_one_wait_looks_singly(still: Emulator, quick: PollPolicy) -> None:
    running = waits(created(1), quick)

    await until(lambda: single_looks(still) > 5)
    still.clock.advance(NEVER)
    await asyncio.gather(*running)

    assert pages(still) == 0


async def test_a_page_brings_news_to_those_that_are_not_due(still: Emulator) -> None:
    seen: list[str] = []
    running = waits(created(4, queue_seconds=10), on_update=lambda one: seen.append(one.status))

    still.clock.advance(20)
    await until(lambda: seen.count("processing") == 4)
    await until(lambda: pages(still) > 3)
    still.clock.advance(NEVER)
    done = await asyncio.gather(*running)

    assert [one.output is not None for one in done] == [True] * 4
    assert sorted(seen) == ["processing"] * 4 + ["starting"] * 4 + ["succeeded"] * 4


async def test_a_canceled_wait_leaves_the_others(still: Emulator) -> None:
    predictions = created(5)
    first, *others = waits(predictions)
    await until(lambda: pages(still))

    first.cancel()
    await asyncio.wait([first])
    still.clock.advance(NEVER)
    done = await asyncio.gather(*others)

    assert still.predictions[predictions[0].id].status == "canceled"
    assert all(one.is_succeeded for one in done)
    assert still.predictions.cancel_requests == 1


async def test_an_outage_is_one_back_off_for_all(
    still: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    running = waits(created(40), PollPolicy())
    await until(lambda: pages(still))

    still.faults.add("error_page", method="GET", times=None)
    before = len(still.requests)
    await until(lambda: len(still.requests) - before >= 4)
    still.faults.clear()
    still.clock.advance(NEVER)
    done = await asyncio.gather(*running)

    failed = [one for one in still.requests if one.status == 502]
    assert len(failed) < 15
    assert len(done) == 40
    assert len([line for line in caplog.messages if line.startswith("A look at")]) == 1


async def test_a_list_that_fails_is_done_without(still: Emulator, quick: PollPolicy) -> None:
    still.faults.add("error_page", method="GET", path="/predictions$", times=None)
    running = waits(created(5), quick)

    await until(lambda: single_looks(still) > 20)
    still.clock.advance(NEVER)

    assert len(await asyncio.gather(*running)) == 5
    assert pages(still) < 10


async def test_pages_that_repeat_images_are_done_without(
    still: Emulator, quick: PollPolicy
) -> None:
    running = waits(created(5, prompt="i" * 250_000), quick)

    await until(lambda: single_looks(still) > 20)
    still.clock.advance(NEVER)

    assert len(await asyncio.gather(*running)) == 5
    assert pages(still) < 10


def test_waits_of_several_threads_and_loops_share_the_poller(
    still: Emulator, eventually: Eventually
) -> None:
    one, two, three = created(3)
    functions: list[Callable[[], Any]] = [
        lambda: wait_for_prediction.fn(one, policy=RARE),
        lambda: asyncio.run(await_for_prediction.fn(two, policy=RARE)),
        lambda: asyncio.run(await_for_prediction.fn(three, policy=RARE)),
    ]
    threads = [threading.Thread(target=function) for function in functions]

    for thread in threads:
        thread.start()
    eventually(lambda: pages(still) > 2)  # three make a page worthwhile, fewer don't
    still.clock.advance(NEVER)
    for thread in threads:
        thread.join(20)

    assert not any(thread.is_alive() for thread in threads)


async def test_others_on_the_account_are_no_hindrance(still: Emulator) -> None:
    client = replicate.Client(api_token=still.token, base_url=still.base_url)
    ours: list[Prediction] = []
    for _ in range(12):
        still.clock.advance(0.2)
        ours += created(1)
        for _ in range(2):
            client.predictions.create(model="emulator/timer", input={"seconds": NEVER})
    running = waits(ours)

    await until(lambda: pages(still) > 3)
    still.clock.advance(NEVER)

    assert all(one.is_succeeded for one in await asyncio.gather(*running))
    assert single_looks(still) < 24


async def test_one_that_its_page_does_not_show_is_asked_for_singly(
    still: Emulator, quick: PollPolicy
) -> None:
    misplaced = [one.model_copy(update={"created_at": LONG_AGO}) for one in created(3)]
    running = waits(misplaced, quick, timeout=None)

    await until(lambda: pages(still) and single_looks(still) >= 3)
    still.clock.advance(NEVER)

    assert all(one.is_succeeded for one in await asyncio.gather(*running))


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
