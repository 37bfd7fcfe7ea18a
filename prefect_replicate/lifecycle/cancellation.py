"""Ending a prediction, and making sure that it has ended."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from prefect_replicate.api.predictions import get_prediction, post_cancel
from prefect_replicate.exceptions import APIError, PredictionError, ReplicateError
from prefect_replicate.lifecycle.bookkeeping import (
    is_kept_for_parent,
    keeps_on_crash,
    record_outcome,
)
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.run_watch import is_being_canceled, is_wholly_ended
from prefect_replicate.values import PollPolicy, Prediction

_CONFIRMATION = PollPolicy(min_interval=0.2, max_interval=2.0, factor=1.3)
_CONFIRMATION_SECONDS = 120.0


async def cancel(run: Run, prediction_id: str) -> Prediction:
    """Cancel a prediction unless it has ended, and return it as it ended.

    Raises:
        APIError: There is no such prediction, or Replicate could not be asked.
        PredictionError: It has not ended within two minutes after the cancel.
    """
    prediction = await _ask(run, prediction_id)
    give_up = time.monotonic() + _CONFIRMATION_SECONDS
    looks = 0
    while not prediction.is_terminal:
        if time.monotonic() > give_up:
            raise PredictionError(
                f"Prediction {prediction_id} is still {prediction.status}"
                f" {_CONFIRMATION_SECONDS:.0f} s after its cancel was accepted;"
                f" look at {prediction.web_url}.",
                prediction,
            )
        await asyncio.sleep(_CONFIRMATION.pause(looks, random.random()))
        prediction = await get_prediction(run.connection, prediction_id)
        looks += 1
    run.say("%s", how_it_ended(prediction))
    await record_outcome(run, prediction)
    return prediction


async def cancel_to_the_end(run: Run, prediction_id: str) -> Prediction:
    """`cancel`, which is finished although the caller be interrupted: half of it helps nobody."""
    ending = asyncio.create_task(cancel(run, prediction_id))
    try:
        return await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.wait([ending])
        if error := ending.exception():
            run.say("%s", error, level=logging.ERROR)
        raise


async def _ask(run: Run, prediction_id: str) -> Prediction:
    try:
        return await post_cancel(run.connection, prediction_id)
    except APIError as exc:
        # One that has ended may be refused; what a look says of it counts.
        if exc.status is None or not 400 <= exc.status < 500:
            raise
        return await get_prediction(run.connection, prediction_id)


async def stop(run: Run, prediction_id: str) -> Prediction | None:
    """Cancel while cleaning up: logs what it could not do, never raises."""
    try:
        return await cancel(run, prediction_id)
    except ReplicateError as exc:
        message = "Prediction %s could not be canceled and may run on until its deadline: %s"
        run.say(message, prediction_id, exc, level=logging.ERROR)
        return None


async def stop_unless_kept(run: Run, prediction_id: str) -> None:
    """Cancel for a caller that was interrupted, unless its run comes back for the prediction."""
    if await _is_kept(run, prediction_id):
        run.say("Prediction %s goes on, for this run to continue with it", prediction_id)
    else:
        await stop(run, prediction_id)


async def _is_kept(run: Run, prediction_id: str) -> bool:
    if run.caller.keeps_predictions:
        return True
    limit = run.scope.limit_passed()
    if limit is not None:
        return limit.is_retried
    return await outlives_end_of_run(run, prediction_id)


async def outlives_end_of_run(run: Run, prediction_id: str) -> bool:
    """Whether a run that has ended leaves its prediction to another: it has crashed, and is to."""
    if keeps_on_crash(prediction_id):
        return not await is_being_canceled(run)
    return is_kept_for_parent(prediction_id) and not await is_wholly_ended(run)


def how_it_ended(prediction: Prediction) -> str:
    """One line for the log: how a prediction ended, and after how many paid seconds."""
    seconds = prediction.predict_time
    after = "" if seconds is None else f" after {seconds:.1f} s"
    words = {
        "canceled": f"canceled, stopped{after}" if after else "canceled",
        "aborted": "aborted before it started, which is not charged",
        "succeeded": f"had already succeeded{after}",
    }
    ended = words.get(prediction.status, f"{prediction.status}{after}")
    return f"Prediction {prediction.id}: {ended}"
