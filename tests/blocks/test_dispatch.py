"""Methods of the blocks block where no event loop runs, and are awaited where one does."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Iterator
from typing import Any

import anyio
import pytest
from prefect import flow, task

from prefect_replicate import PollPolicy, PredictionRun, ReplicateModel
from prefect_replicate.emulator import Emulator

pytestmark = pytest.mark.usefixtures("replicate_emulator")
ADVICE = (
    "^`trigger` returned a coroutine, because an event loop is running here: `await` it, or call"
    r" `trigger\(…, _sync=True\)`, which blocks.$"
)


@pytest.fixture
def timer(quick: PollPolicy) -> Any:
    """A model, untyped: what its methods return depends on where they are called."""
    return ReplicateModel(model="emulator/timer", policy=quick)


@pytest.fixture
def forgotten(timer: Any) -> Iterator[Any]:
    """What a notebook's cell has that forgets to await."""

    async def cell() -> Any:
        return timer.trigger({"output": "hello"})

    forgotten = asyncio.run(cell())
    yield forgotten
    forgotten.close()


def helper(timer: Any) -> Any:
    """As people write it for sync flows."""
    run = timer.trigger({"output": "hello"})
    run.wait_for_completion()
    return run.fetch_result()


async def test_where_a_loop_runs_all_methods_are_awaited(timer: Any) -> None:
    run = await timer.trigger({"output": "hello"})

    await run.wait_for_completion()

    assert await run.fetch_result() == "hello"
    assert (await run.cancel()).status == "succeeded"


async def test_a_thread_of_async_code_is_sync(timer: Any) -> None:
    assert await asyncio.to_thread(helper, timer) == "hello"


def test_a_thread_of_an_async_flow_is_sync(timer: Any, prefect_api: None) -> None:
    @flow
    async def outer() -> Any:
        return await asyncio.to_thread(helper, timer)

    assert asyncio.run(outer()) == "hello"


def test_a_sync_flow_or_task_in_an_async_flow_is_sync(timer: Any, prefect_api: None) -> None:
    inner = flow(name="inner")(helper)
    step = task(name="step")(helper)

    @flow
    async def outer() -> list[Any]:
        return [inner(timer), step(timer)]

    assert asyncio.run(outer()) == ["hello", "hello"]


def test_async_code_that_a_sync_flow_runs_awaits(timer: Any, prefect_api: None) -> None:
    async def together() -> list[Any]:
        runs = await asyncio.gather(*(timer.trigger({"output": output}) for output in "ab"))
        return [(await run.wait_for_completion(), await run.fetch_result()) for run in runs]

    @flow
    def outer() -> list[Any]:
        return asyncio.run(together())

    assert outer() == [(None, "a"), (None, "b")]


def test_an_async_task_of_a_sync_flow_awaits(timer: Any, prefect_api: None) -> None:
    @task
    async def step() -> Any:
        run = await timer.trigger({"output": "hello"})
        await run.wait_for_completion()
        return await run.fetch_result()

    @flow
    def outer() -> Any:
        return step.submit().result()

    assert outer() == "hello"


def test_a_sync_flow_where_a_loop_runs_is_sync(timer: Any, prefect_api: None) -> None:
    async def cell() -> Any:
        return flow(helper)(timer)

    assert asyncio.run(cell()) == "hello"


def test_a_sync_helper_of_an_async_flow_is_told_what_to_call(
    timer: Any, prefect_api: None, replicate_emulator: Emulator
) -> None:
    @flow
    async def outer() -> Any:
        return helper(timer)

    with pytest.raises(AttributeError, match=ADVICE):
        asyncio.run(outer())
    assert replicate_emulator.predictions.create_requests == 0


async def test_sync_code_in_a_loop_may_ask_to_block(timer: Any) -> None:
    run = timer.trigger({"output": "hello"}, _sync=True)
    run.wait_for_completion(_sync=True)

    assert run.fetch_result(_sync=True) == "hello"


def test_sync_code_may_ask_for_a_coroutine(timer: Any) -> None:
    run = asyncio.run(timer.trigger(_sync=False))

    assert isinstance(run, PredictionRun)


@pytest.mark.parametrize("name", ["prediction", "wait_for_completion", "whatever"])
def test_a_forgotten_await_is_said_where_its_result_is_used(forgotten: Any, name: str) -> None:
    with pytest.raises(AttributeError, match=ADVICE):
        getattr(forgotten, name)


def test_a_forgotten_await_is_said_where_its_result_is_read(forgotten: Any) -> None:
    with pytest.raises(TypeError, match=ADVICE):
        forgotten[0]
    with pytest.raises(TypeError, match=ADVICE):
        list(forgotten)


def test_a_forgotten_await_is_said_where_it_is_shown(forgotten: Any) -> None:
    assert repr(forgotten).startswith("<`trigger` returned a coroutine, because")


async def test_what_is_returned_is_a_coroutine_like_any_other(timer: Any) -> None:
    kept = timer.trigger()
    started = asyncio.create_task(timer.trigger())
    gathered = await asyncio.gather(timer.trigger(), asyncio.wait_for(timer.trigger(), 60))

    assert isinstance(kept, Coroutine)
    assert inspect.isawaitable(kept)
    assert "trigger" in repr(started)
    runs = [await kept, await started, *gathered]
    assert {type(run) for run in runs} == {PredictionRun}
    assert len({run.prediction.id for run in runs}) == 4


async def test_a_task_group_of_anyio_takes_it(timer: Any, replicate_emulator: Emulator) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(timer.trigger)

    assert replicate_emulator.predictions.create_requests == 1


async def test_a_wait_is_canceled_as_any_other(timer: Any, still: Emulator) -> None:
    run = await timer.trigger({"seconds": 600})

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(run.wait_for_completion(), 0.2)
    assert still.predictions.live() == []
