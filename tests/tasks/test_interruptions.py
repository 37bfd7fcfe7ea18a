"""However a caller is interrupted, its prediction ends, or is kept where the run comes back."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from benchmarks.local_account import LocalAccount
from prefect.exceptions import Abort, Pause

from prefect_replicate import (
    PollPolicy,
    Prediction,
    acreate_prediction,
    await_for_prediction,
    create_prediction,
    wait_for_prediction,
)
from prefect_replicate.emulator import Emulator

CREATE = {"method": "POST", "path": "/predictions$"}
SOON = 0.05
"""Real seconds: anyio cancels again at each turn of a loop, so that virtual time would stand."""


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """A shell starts what runs in its background deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def soon(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 it comes to hold in another thread
            await asyncio.sleep(0.005)


async def _wait_for(work: Awaitable[Any], seconds: float = SOON) -> None:
    await asyncio.wait_for(work, seconds)


async def _fail_after(work: Awaitable[Any], seconds: float = SOON) -> None:
    with anyio.fail_after(seconds):
        await work


async def _cancelled(work: Awaitable[Any], seconds: float = SOON) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.sleep(seconds)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as exc:
        raise TimeoutError from exc


async def _gathered(work: Awaitable[Any], seconds: float = SOON) -> None:
    with anyio.fail_after(seconds):
        await asyncio.gather(work, asyncio.sleep(60))


async def _in_task_group(work: Awaitable[Any], seconds: float = SOON) -> None:
    async def perform() -> None:
        await work

    with anyio.fail_after(seconds):
        async with anyio.create_task_group() as group:
            group.start_soon(perform)


INTERRUPTERS = pytest.mark.parametrize(
    "interrupted",
    [_wait_for, _fail_after, _cancelled, _gathered, _in_task_group],
    ids=lambda function: function.__name__.strip("_"),
)


@INTERRUPTERS
async def test_an_interrupted_wait_cancels_its_prediction(
    still: Emulator,
    running: Prediction,
    quick: PollPolicy,
    interrupted: Callable[[Awaitable[Any]], Awaitable[None]],
) -> None:
    with pytest.raises((asyncio.TimeoutError, TimeoutError), match=r"^$"):
        await interrupted(await_for_prediction.fn(running, policy=quick))

    # Gathered, the other work's cancellation ends the call while ours still cleans up.
    await soon(lambda: still.predictions[running.id].status == "canceled")


@INTERRUPTERS
async def test_an_interrupted_create_learns_its_prediction_and_cancels_it(
    still: Emulator, interrupted: Callable[[Awaitable[Any], float], Awaitable[None]]
) -> None:
    seconds = SOON
    while not still.predictions:  # a busy machine may be interrupted before it has sent the create
        still.faults.clear()
        still.faults.add("late_reply", **CREATE, seconds=3 * seconds)
        with pytest.raises((asyncio.TimeoutError, TimeoutError), match=r"^$"):
            await interrupted(acreate_prediction.fn("emulator/timer", {"seconds": 60}), seconds)
        seconds *= 2

    await soon(lambda: {one.status for one in still.predictions} == {"canceled"})


async def test_many_gathered_waits_are_all_canceled(still: Emulator, quick: PollPolicy) -> None:
    created = [create_prediction.fn("emulator/timer", {"seconds": 60}) for _ in range(8)]

    with pytest.raises(TimeoutError, match=r"^$"), anyio.fail_after(SOON):
        await asyncio.gather(*(await_for_prediction.fn(one, policy=quick) for one in created))

    await soon(lambda: {one.status for one in still.predictions} == {"canceled"})


def test_ctrl_c_cancels_the_prediction(
    still: Emulator,
    running: Prediction,
    quick: PollPolicy,
    eventually: Callable[[Callable[[], Any]], None],
) -> None:
    def press_ctrl_c() -> None:
        eventually(lambda: len(still.requests.matching("GET", running.id)) > 2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c).start()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        wait_for_prediction.fn(running, policy=quick)

    assert still.predictions[running.id].status == "canceled"


def test_an_impatient_second_ctrl_c_does_not_leave_it_running(
    still: Emulator,
    running: Prediction,
    quick: PollPolicy,
    eventually: Callable[[Callable[[], Any]], None],
) -> None:
    still.faults.add("delay", method="POST", path="/cancel$", seconds=0.3)

    def press_twice() -> None:
        for arrived in ("GET", running.id), ("POST", "/cancel"):
            eventually(lambda arrived=arrived: still.requests.matching(*arrived))
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_twice).start()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        wait_for_prediction.fn(running, policy=quick)

    assert still.predictions[running.id].status == "canceled"


def test_ctrl_c_during_a_create_cancels_what_it_made(
    still: Emulator, eventually: Callable[[Callable[[], Any]], None]
) -> None:
    still.faults.add("late_reply", **CREATE, seconds=0.3)

    def press_ctrl_c() -> None:
        eventually(lambda: len(still.predictions) == 1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c).start()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        create_prediction.fn("emulator/timer", {"seconds": 60})

    assert [one.status for one in still.predictions] == ["canceled"]


def test_a_create_that_is_throttled_is_not_sent_any_more_after_ctrl_c(
    still: Emulator, eventually: Callable[[Callable[[], Any]], None]
) -> None:
    still.faults.add("throttled", **CREATE, times=None, retry_after=20)

    def press_ctrl_c() -> None:
        eventually(lambda: still.requests.matching("POST"))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c).start()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        create_prediction.fn("emulator/timer", {"seconds": 60})

    assert len(still.requests.matching("POST")) == 1


class Injected(BaseException):
    """As Prefect raises a timeout in the thread of a task."""


def test_an_exception_that_is_injected_into_the_thread_cancels_the_prediction(
    still: Emulator,
    running: Prediction,
    quick: PollPolicy,
    eventually: Callable[[Callable[[], Any]], None],
) -> None:
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            wait_for_prediction.fn(running, policy=quick)
        except Injected as exc:
            raised.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: len(still.requests.matching("GET", running.id)) > 2)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Injected)
    )
    thread.join(10)

    assert len(raised) == 1
    assert still.predictions[running.id].status == "canceled"


@pytest.mark.parametrize("reason", [Pause, Abort])
def test_a_run_that_comes_back_keeps_its_prediction(
    still: Emulator, running: Prediction, quick: PollPolicy, reason: type[BaseException]
) -> None:
    def suspend(_: Prediction) -> None:
        raise reason

    with pytest.raises(reason, match=r"^$"):
        wait_for_prediction.fn(running, policy=quick, on_update=suspend)

    assert still.predictions[running.id].is_live


def test_a_wait_that_cannot_cancel_lets_the_interruption_through(
    still: Emulator,
    running: Prediction,
    quick: PollPolicy,
    impatient: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    still.faults.add("error_page", method="POST", path="/cancel$", times=None)

    def interrupt(_: Prediction) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        wait_for_prediction.fn(running, policy=quick, on_update=interrupt)

    assert "could not be canceled and may run until its deadline" in caplog.text


class BrokenConsole(logging.Handler):
    """As Prefect's handler does when nobody reads its output any more."""

    def emit(self, record: logging.LogRecord) -> None:
        raise SystemExit(1)


def test_a_console_that_is_gone_does_not_leave_the_prediction_running(
    still: Emulator, running: Prediction, quick: PollPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "prefect_replicate")
    logger, console = logging.getLogger("prefect_replicate"), BrokenConsole()
    logger.addHandler(console)

    with pytest.raises(SystemExit, match="1"):
        wait_for_prediction.fn(running, policy=quick)
    logger.removeHandler(console)

    assert still.predictions[running.id].status == "canceled"


async def test_one_caller_that_goes_away_does_not_take_the_others_with_it(
    account: LocalAccount,
) -> None:
    account.faults.add("delay", method="GET", path="/v1/models/", seconds=10)
    one, other = (
        asyncio.ensure_future(acreate_prediction.fn("emulator/timer", {})) for _ in range(2)
    )

    await asyncio.sleep(1)
    one.cancel()

    assert (await other).model == "emulator/timer"
    assert account.predictions.create_requests == 1
