from __future__ import annotations

import asyncio
from typing import Any

import pytest
from benchmarks.local_account import LocalAccount

from prefect_replicate import (
    PollPolicy,
    Prediction,
    acancel_prediction,
    acreate_prediction,
    cancel_prediction,
    create_prediction,
    wait_for_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import APIError, PredictionError

CANCEL = {"method": "POST", "path": "/cancel$"}


def test_a_live_prediction_is_canceled(still: Emulator, running: Prediction) -> None:
    canceled = cancel_prediction.fn(running)

    assert (canceled.id, canceled.status) == (running.id, "canceled")
    assert still.predictions.live() == []


async def test_a_cancel_is_confirmed_and_its_end_is_logged(
    account: LocalAccount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "prefect_replicate")
    account.behave(cancel_lag=5.0)
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})

    canceled = await acancel_prediction.fn(running.id)

    assert canceled.status == "canceled"
    assert canceled.predict_time == pytest.approx(5, abs=0.5)
    assert (
        f"Prediction {running.id}: canceled, stopped after {canceled.predict_time:.1f} s"
        in caplog.text
    )
    assert account.requests["get"] > 1


async def test_one_that_finishes_before_the_cancel_takes_hold_is_returned_as_it_ended(
    account: LocalAccount,
) -> None:
    account.behave(cancel_lag=60.0)
    almost_done = await acreate_prediction.fn("emulator/timer", {"seconds": 20})

    assert (await acancel_prediction.fn(almost_done)).is_succeeded


@pytest.mark.parametrize("status", [200, 400, 404, 409, 422])
def test_a_finished_prediction_is_returned_unchanged(
    replicate_emulator: Emulator, quick: PollPolicy, status: int
) -> None:
    replicate_emulator.behave(finished_cancel_status=status)
    done = wait_for_prediction.fn(create_prediction.fn("emulator/timer", {}), policy=quick)

    again = cancel_prediction.fn(done.id)

    assert (again.status, again.output, again.metrics) == ("succeeded", done.output, done.metrics)


def test_a_value_that_has_ended_needs_no_request(
    replicate_emulator: Emulator, quick: PollPolicy
) -> None:
    done = wait_for_prediction.fn(create_prediction.fn("emulator/timer", {}), policy=quick)

    assert cancel_prediction.fn(done) is done
    assert replicate_emulator.predictions.cancel_requests == 0


def test_one_that_never_ran_is_canceled_too(still: Emulator) -> None:
    queued = create_prediction.fn("emulator/timer", {"queue_seconds": 99})

    assert cancel_prediction.fn(queued).status == "canceled"


async def test_an_unknown_prediction_is_an_error_after_some_seconds(account: LocalAccount) -> None:
    with pytest.raises(APIError, match=r"^GET /v1/predictions/nosuch: HTTP 404: .*not be found"):
        await acancel_prediction.fn("nosuch")


@pytest.mark.parametrize("status", [404, 409, 422])
async def test_a_cancel_that_is_refused_is_asked_for_again(
    account: LocalAccount, status: int
) -> None:
    account.faults.add("error_text", **CANCEL, status=status, times=2)
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})

    assert (await acancel_prediction.fn(running)).status == "canceled"
    assert account.predictions.cancel_requests == 1
    assert account.predictions.live() == []


async def test_a_cancel_and_the_look_at_it_may_both_be_refused(account: LocalAccount) -> None:
    account.faults.add("not_found", times=2, path="/predictions/.")
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})

    assert (await acancel_prediction.fn(running)).status == "canceled"


async def test_what_is_known_to_run_is_canceled_however_long_that_is_refused(
    account: LocalAccount,
) -> None:
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})
    account.faults.add("not_found", times=None, path="/predictions/.")
    cancel = asyncio.create_task(acancel_prediction.fn(running))
    await asyncio.sleep(60)
    account.faults.clear()

    assert (await cancel).status == "canceled"


async def test_a_cancel_without_effect_is_asked_for_again(account: LocalAccount) -> None:
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})
    account.behave(cancel_lag=25.0)

    await acancel_prediction.fn(running)

    assert account.predictions.cancel_requests == 3


@pytest.mark.parametrize("kind", ["lost_reply", "reset", "error_page", "html", "throttled"])
async def test_a_cancel_whose_reply_is_lost_is_sent_again(account: LocalAccount, kind: Any) -> None:
    account.faults.add(kind, **CANCEL)
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})

    assert (await acancel_prediction.fn(running)).status == "canceled"
    assert account.predictions.live() == []


async def test_a_cancel_does_not_wait_as_long_as_an_error_asks(account: LocalAccount) -> None:
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})
    account.faults.add("error_text", **CANCEL, status=503, retry_after=60)
    began = asyncio.get_running_loop().time()

    assert (await acancel_prediction.fn(running)).status == "canceled"
    assert asyncio.get_running_loop().time() - began < 10


async def test_a_cancel_that_never_takes_hold_is_an_error(account: LocalAccount) -> None:
    account.behave(cancel_lag=600.0)
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})

    with pytest.raises(
        PredictionError, match=r"is still processing 120 s after Replicate was"
    ) as stuck:
        await acancel_prediction.fn(running)
    assert stuck.value.prediction.id == running.id


async def test_an_interrupted_cancel_goes_on_to_its_end(account: LocalAccount) -> None:
    account.faults.add("delay", **CANCEL, seconds=10)
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})

    with pytest.raises(asyncio.TimeoutError, match=r"^$"):
        await asyncio.wait_for(acancel_prediction.fn(running), 1)

    assert account.predictions.live() == []
