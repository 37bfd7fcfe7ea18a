"""Ending a prediction, and making sure that it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time

from prefect.exceptions import Abort, Pause
from tenacity import AsyncRetrying, retry_if_result

from prefect_replicate.api.predictions import get_prediction, post_cancel
from prefect_replicate.exceptions import APIError, LedgerError, PredictionError, ReplicateError
from prefect_replicate.ledger.ledger import ledger_of
from prefect_replicate.lifecycle.bookkeeping import record_outcome
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.run_watch import is_being_canceled, is_wholly_ended
from prefect_replicate.values import PollPolicy, Prediction

_CONFIRMATION = PollPolicy(min_interval=0.2, max_interval=2.0, factor=1.3)
_CONFIRMATION_SECONDS = 120.0

_ASK_AGAIN_SECONDS = 10.0
"""After this, a cancel that was accepted and has had no effect is requested again."""

_UNKNOWN_SECONDS = 5.0
"""How long Replicate may say that there is no such prediction before it is believed."""


async def cancel(run: Run, prediction_id: str, *, is_known: bool) -> Prediction:
    """`end`, and record how it ended."""
    prediction = await end(run, prediction_id, is_known=is_known)
    await record_outcome(run, prediction)
    return prediction


async def end(run: Run, prediction_id: str, *, is_known: bool) -> Prediction:
    """Cancel a prediction unless it has ended, and return its final state.

    Args:
        run: The run that cancels it.
        prediction_id: Its id.
        is_known: Whether it certainly exists; otherwise a refusal is believed after five seconds.

    Raises:
        APIError: There is no such prediction, or the requests to Replicate failed.
        PredictionError: It did not end within two minutes after the cancel.
    """
    cancel = _Cancel(run, prediction_id, _CONFIRMATION_SECONDS if is_known else _UNKNOWN_SECONDS)
    attempts = AsyncRetrying(
        retry=retry_if_result(lambda prediction: prediction is None),
        wait=lambda state: _CONFIRMATION.pause(state.attempt_number - 1, random.random()),
    )
    prediction: Prediction = await attempts(cancel.step)
    run.say("%s", how_it_ended(prediction))
    return prediction


async def cancel_to_the_end(run: Run, prediction_id: str, *, is_known: bool) -> Prediction:
    """`cancel`, finished even if the caller is interrupted: half a cancel is of no use."""
    ending = asyncio.create_task(cancel(run, prediction_id, is_known=is_known))
    try:
        return await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.wait([ending])
        if error := ending.exception():
            run.say("%s", error, level=logging.ERROR)
        raise


class _Cancel:
    """Requests a cancel, again if it is refused or has no effect, and polls the prediction."""

    def __init__(self, run: Run, prediction_id: str, patience: float) -> None:
        self._connection = run.connection
        self._id = prediction_id
        self._patience = patience
        """Seconds for which refusals are tolerated while the prediction has not been seen."""
        self._began = time.monotonic()
        self._asked_at = -math.inf
        self._refusal: APIError | None = None
        self._last: Prediction | None = None

    async def step(self) -> Prediction | None:
        """Return the prediction if it has ended."""
        asks = time.monotonic() - self._asked_at > _ASK_AGAIN_SECONDS
        try:
            self._last = await (self._ask() if asks else self._look())
        except APIError as exc:
            if not exc.is_refusal:
                raise
            self._refusal, self._asked_at = exc, -math.inf
            if asks:
                await self._look_after_refusal()
        if self._last is not None and self._last.is_terminal:
            return self._last
        self._give_up_in_time()
        return None

    async def _ask(self) -> Prediction:
        self._asked_at = time.monotonic()
        return await post_cancel(self._connection, self._id)

    async def _look(self) -> Prediction:
        return await get_prediction(self._connection, self._id)

    async def _look_after_refusal(self) -> None:
        """Poll the prediction: Replicate may refuse to cancel one that has ended."""
        try:
            self._last = await self._look()
        except APIError as exc:
            if not exc.is_refusal:
                raise
            self._refusal = exc

    def _give_up_in_time(self) -> None:
        passed = time.monotonic() - self._began
        if self._last is None and self._refusal is not None and passed > self._patience:
            raise self._refusal
        if self._last is not None and passed > _CONFIRMATION_SECONDS:
            refused = f"; it replied: {self._refusal}" if self._refusal else ""
            raise PredictionError(
                f"Prediction {self._id} is still {self._last.status} {_CONFIRMATION_SECONDS:.0f} s"
                f" after Replicate was first asked to cancel it{refused}. It costs money until it"
                f" ends; cancel it at {self._last.web_url}.",
                self._last,
            )


async def stop(run: Run, prediction_id: str, *, is_known: bool = True) -> Prediction | None:
    """Cancel during cleanup: log a failure, never raise."""
    try:
        return await cancel(run, prediction_id, is_known=is_known)
    except ReplicateError as exc:
        message = "Prediction %s could not be canceled and may run until its deadline: %s"
        run.say(message, prediction_id, exc, level=logging.ERROR)
        return None


async def stop_unless_kept(run: Run, prediction_id: str, *, is_known: bool = True) -> None:
    """Cancel for an interrupted caller, unless its run will continue with the prediction."""
    if await _is_kept(run, prediction_id):
        run.say("Prediction %s keeps running; a retry of this run continues with it", prediction_id)
    else:
        await stop(run, prediction_id, is_known=is_known)


async def _is_kept(run: Run, prediction_id: str) -> bool:
    if isinstance(run.caller.reason, Pause | Abort):  # a suspension, after which the run resumes
        return True
    limit = run.scope.limit_passed()
    if limit is not None:
        return limit.is_retried
    return await outlives_end_of_run(run, prediction_id)


async def outlives_end_of_run(run: Run, prediction_id: str) -> bool:
    """Whether an ended run leaves its prediction running, for a retry or for its parent run.

    It does unless it was canceled, if the call has `keep_on_crash`; or `keep_for_parent`, as long
    as no run around it has ended.
    """
    with contextlib.suppress(LedgerError):
        origins = [
            log.generation.origin
            for log in (await ledger_of(run.scope)).of(prediction_id)
            if log.generation is not None
        ]
        if any(one.keep_on_crash for one in origins):
            return not await is_being_canceled(run)
        if any(one.keep_for_parent for one in origins):
            return not await is_wholly_ended(run)
    return False


def how_it_ended(prediction: Prediction) -> str:
    """Return one line for the log: how a prediction ended, and after how many paid seconds."""
    seconds = prediction.predict_time
    after = "" if seconds is None else f" after {seconds:.1f} s"
    words = {
        "canceled": f"canceled, stopped{after}" if after else "canceled",
        "aborted": "aborted before it started, which is not charged",
        "succeeded": f"had already succeeded{after}",
    }
    ended = words.get(prediction.status, f"{prediction.status}{after}")
    return f"Prediction {prediction.id}: {ended}"
