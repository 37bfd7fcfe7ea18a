from __future__ import annotations

import asyncio
from typing import Any

import pytest

from prefect_replicate import (
    PollPolicy,
    Prediction,
    acancel_prediction,
    cancel_prediction,
    create_prediction,
    wait_for_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import APIError, PredictionError
from prefect_replicate.lifecycle import cancellation

CANCEL = {"method": "POST", "path": "/cancel$"}


def test_a_live_prediction_is_canceled(still: Emulator, running: Prediction) -> None:
    canceled = cancel_prediction.fn(running)

    assert (canceled.id, canceled.status) == (running.id, "canceled")
    assert still.predictions.live() == []


def test_a_cancel_is_confirmed_and_its_end_is_logged(
    still: Emulator, running: Prediction, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "prefect_replicate")
    still.behave(cancel_lag=5.0)
    still.clock.speed = 20

    canceled = cancel_prediction.fn(running.id)

    assert canceled.status == "canceled"
    assert (
        f"Prediction {running.id}: canceled, stopped after {canceled.predict_time:.1f} s"
        in caplog.text
    )
    assert len(still.requests.matching("GET", running.id)) >= 1


def test_one_that_finishes_before_the_cancel_takes_hold_is_returned_as_it_ended(
    still: Emulator,
) -> None:
    still.behave(cancel_lag=60.0)
    still.clock.speed = 100
    almost_done = create_prediction.fn("emulator/timer", {"seconds": 20})

    assert cancel_prediction.fn(almost_done).is_succeeded


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


def test_an_unknown_prediction_is_an_error(replicate_emulator: Emulator) -> None:
    with pytest.raises(APIError, match=r"^GET /v1/predictions/nosuch: HTTP 404: .*not be found"):
        cancel_prediction.fn("nosuch")


@pytest.mark.parametrize("kind", ["lost_reply", "reset", "error_page", "html", "throttled"])
def test_a_cancel_whose_reply_is_lost_is_sent_again(
    still: Emulator, running: Prediction, kind: Any
) -> None:
    still.faults.add(kind, **CANCEL)

    assert cancel_prediction.fn(running).status == "canceled"
    assert still.predictions.live() == []


def test_a_cancel_that_never_takes_hold_is_an_error(
    still: Emulator, running: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "_CONFIRMATION_SECONDS", 0.1)
    still.behave(cancel_lag=60.0)

    with pytest.raises(PredictionError, match=r"is still processing .* after its cancel") as stuck:
        cancel_prediction.fn(running)
    assert stuck.value.prediction.id == running.id


async def test_an_interrupted_cancel_goes_on_to_its_end(
    still: Emulator, running: Prediction
) -> None:
    still.faults.add("delay", **CANCEL, seconds=0.3)

    with pytest.raises(asyncio.TimeoutError, match=r"^$"):
        await asyncio.wait_for(acancel_prediction.fn(running), 0.05)

    assert still.predictions.live() == []
