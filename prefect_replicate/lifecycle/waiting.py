"""Waiting for a prediction: polling it until it has ended."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, NoReturn

from prefect_replicate.api.predictions import get_prediction
from prefect_replicate.exceptions import (
    APIError,
    ConfigurationError,
    PredictionCanceledError,
    PredictionFailedError,
    PredictionTimeoutError,
    ReplicateError,
)
from prefect_replicate.lifecycle.bookkeeping import (
    announce,
    expectation_of,
    record_interest,
    record_outcome,
)
from prefect_replicate.lifecycle.cancellation import (
    how_it_ended,
    outlives_end_of_run,
    stop,
    stop_unless_kept,
)
from prefect_replicate.lifecycle.model_logs import LogTail
from prefect_replicate.lifecycle.poller import Watch, watch_of
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.run_watch import end_of_run
from prefect_replicate.values import PollPolicy, Prediction
from prefect_replicate.values.expectation import Expectation

OnUpdate = Callable[[Prediction], object]
"""A function or a coroutine function."""

_UNKNOWN_SECONDS = 5.0
"""How long an id that was never seen may be refused before it counts as wrong."""

_LAST_LOOK_SECONDS = 5.0
"""How long a limit that has passed waits for the status request that is due with it."""

_VERBS = {
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "was canceled",
    "aborted": "was aborted",
}
"""For log lines; any other status follows "is"."""

_FAILED = "on_update failed; the wait continues"

_TELL_AGAIN_SECONDS = 5.0
"""The longest time between calls of `on_update`, so that progress displays can move on."""


class _Wait:
    """What one wait has seen so far."""

    def __init__(self, run: Run, policy: PollPolicy, on_update: OnUpdate | None) -> None:
        self.run = run
        self.policy = policy
        self._on_update = on_update
        self._logs = LogTail()
        self._looks = -1
        self._began = time.monotonic()
        self._failing_since: float | None = None
        self._refusals = 0
        self._started: float | None = None
        self._seen_at = 0.0
        self._born: float | None = None
        self._knew_time = False
        self._is_ours = False
        self._has_asked = False
        self._asking: asyncio.Task[Expectation | None] | None = None
        self._expected: Expectation | None = None
        self._is_overdue = False
        self._is_near_end = False
        self.last: Prediction | None = None

    def saw(self, prediction: Prediction) -> None:
        """Record a prediction's status, and report it to the caller."""
        changed = self.last is None or self.last.status != prediction.status
        self._looks = 0 if changed else self._looks + 1
        self._failing_since, self._refusals = None, 0
        clock, now = self.run.connection.clock, time.monotonic()
        if self._born is None or not self._knew_time:
            self._born = now - clock.seconds_since(prediction.created_at)
        if prediction.status != "starting" and (self._started is None or not self._knew_time):
            self._started = now - clock.seconds_since(prediction.started_at)
        self._seen_at, self.last, self._knew_time = now, prediction, clock.is_known
        verb = _VERBS.get(prediction.status, f"is {prediction.status}")
        news = f"Prediction {prediction.id} {verb}"
        if changed and not prediction.is_terminal:
            self.run.say("%s", news)
        if changed and prediction.status == "processing":
            announce(self.run, prediction, "processing")
        self._say_if_overdue()
        self._forward(prediction)
        if changed and prediction.is_terminal:
            self.run.say("%s", news)

    async def learn(self, patience: float) -> None:
        """Request an estimate of its duration, once; a late reply counts from then on."""
        if self.last is None:
            return
        if not self._has_asked:
            self._has_asked = True
            self._asking = asyncio.create_task(expectation_of(self.run, self.last))
            await asyncio.wait({self._asking}, timeout=min(patience, self.policy.min_interval))
        if self._asking is not None and self._asking.done():
            self._expected, self._asking = self._asking.result(), None
            if self._expected is not None:
                usually = self._expected.estimate
                self.run.say("%s usually takes %s", self.last.model or self.last.id, usually)

    def stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    async def record_interest(self) -> None:
        """Record, once it is seen, that it belongs to this run, even if another has started it."""
        if self.last is not None and not self._is_ours:
            self._is_ours = True
            await record_interest(self.run, self.last)

    def _say_if_overdue(self) -> None:
        assert self.last is not None
        if self._is_overdue or self._expected is None or self.last.is_terminal:
            return
        age = self._times()[0]
        self._is_overdue = self._expected.is_overdue(age)
        if self._is_overdue:
            self.run.say("Prediction %s is %s", self.last.id, self._expected.excuse)
            announce(self.run, self.last, "overdue", expected=self._expected, age=age)

    @property
    def tells_every(self) -> float:
        """Seconds without news after which `on_update` is called again."""
        return math.inf if self._on_update is None else _TELL_AGAIN_SECONDS

    def tell_again(self) -> None:
        if self.last is not None and self._on_update is not None:
            self._tell(self.last)

    def _forward(self, prediction: Prediction) -> None:
        for line in self._logs.new_lines(prediction.logs, is_complete=prediction.is_terminal):
            self.run.say("[%s] %s", prediction.model or prediction.id, line)
        if self._on_update is not None:
            self._tell(prediction)

    def _tell(self, prediction: Prediction) -> None:
        self.run.caller.tell(lambda: self._call_back(prediction))

    def _call_back(self, prediction: Prediction) -> Coroutine[Any, Any, None] | None:
        assert self._on_update is not None
        try:
            rest = self._on_update(prediction)
        except Exception:
            self.run.logger.exception(_FAILED)
            return None
        return self._await(rest) if inspect.isawaitable(rest) else None

    async def _await(self, rest: Awaitable[object]) -> None:
        try:
            await rest
        except Exception:
            self.run.logger.exception(_FAILED)

    def failed_to_look(self, error: APIError | ConfigurationError, watch: Watch) -> None:
        """Tolerate a failed status request, up to the policy's budget."""
        now, prediction_id = time.monotonic(), watch.id
        is_new = self._failing_since is None
        self._refusals += isinstance(error, APIError) and error.is_refusal
        self._failing_since = self._failing_since or now
        if self._is_final(error) or now - self._failing_since >= self.policy.failure_budget:
            known = f"last seen {self.last.status}" if self.last else "never seen"
            message = (
                f"Prediction {prediction_id} ({known}) can't be read: {error} It may still"
                " run until its deadline, and cost money; a retry continues with it."
            )
            if isinstance(error, APIError):
                raise type(error)(message, error.status) from error
            raise ConfigurationError(message) from error
        if is_new and watch.is_first_to_fail(self.run.scope.flow_run_id):
            self.run.say(
                "A status request for %s failed: %s", prediction_id, error, level=logging.WARNING
            )

    def _is_final(self, error: APIError | ConfigurationError) -> bool:
        """Whether a retry can't help. If a request has worked before, it may work again."""
        if self.last is not None:
            return False
        if isinstance(error, ConfigurationError):
            return True
        return error.is_refusal and time.monotonic() - self._began > _UNKNOWN_SECONDS

    def pause(self) -> float:
        """Return the seconds until the policy's next status request."""
        if self._refusals:
            return self.policy.pause(self._refusals, random.random())
        if self._looks < 0 or self._failing_since is not None:
            return 0.0  # the poller has its own pause after a failure, for all
        left = self._until_expected()
        if left <= 0 and not self._is_near_end:
            self._looks, self._is_near_end = 0, True  # as if the status had changed
        pause = self.policy.pause(self._looks, random.random())
        spent = time.monotonic() - self._seen_at
        return max(0.0, min(pause - spent, left if left > 0 else math.inf))

    def _until_expected(self) -> float:
        """Return the seconds until its earliest expected success. It may fail or succeed before."""
        if self._expected is None:
            return math.inf
        return self._expected.earliest_end - self._times()[0]

    def time_left(self, timeout: float | None) -> float:
        """Return the seconds until the next limit."""
        if self.last is None:
            return math.inf
        age, running = self._times()
        left = self.policy.time_left(self.last.status, age, running)
        return max(0.0, min(left, math.inf if timeout is None else timeout - age))

    def _times(self) -> tuple[float, float]:
        """Return the seconds since the creation, and since the start; 0 before it."""
        now = time.monotonic()
        age = now - self._born if self._born is not None else 0.0
        return age, now - self._started if self._started is not None else 0.0

    def exceeded(self, timeout: float | None) -> str | None:
        """Return which limit has passed, if one has."""
        if self.last is None:
            return None
        age, running = self._times()
        if timeout is not None and age > timeout:
            return f"not done {age:.0f} s after its creation (timeout {timeout:g} s)"
        return self.policy.exceeded(self.last.status, age, running)


async def wait(
    run: Run,
    prediction: Prediction | str,
    timeout: float | None,
    policy: PollPolicy,
    on_update: OnUpdate | None,
) -> Prediction:
    """Poll a prediction until it succeeds.

    Raises:
        PredictionFailedError: The model failed.
        PredictionCanceledError: It was canceled or aborted, or its flow run was ended.
        PredictionTimeoutError: A limit passed, and it was canceled.
        APIError: Status requests failed for longer than the policy allows.
    """
    waiting = _Wait(run, policy, on_update)
    prediction_id = prediction if isinstance(prediction, str) else prediction.id
    try:
        if isinstance(prediction, Prediction):
            waiting.saw(prediction)
        with watch_of(run.connection, prediction_id) as watch:
            async with end_of_run(run) as ended:
                await _look_until_over(waiting, watch, timeout, ended)
    except ReplicateError:
        raise
    except BaseException as exc:
        # Whatever the reason, nobody waits anymore.
        await stop_unless_kept(run, prediction_id, is_known=waiting.last is not None)
        if not isinstance(exc, Exception):
            raise
        raise ReplicateError(
            f"The wait for prediction {prediction_id} was interrupted: {type(exc).__name__}: {exc}."
            " The log says what happened to it; a retry continues with it if it is still running."
        ) from exc
    assert waiting.last is not None
    await record_outcome(run, waiting.last)
    return _succeeded(waiting.last)


async def _look_until_over(
    waiting: _Wait, watch: Watch, timeout: float | None, ended: asyncio.Event
) -> None:
    if waiting.last is not None:
        watch.shows(waiting.last)
    end = asyncio.create_task(ended.wait())
    try:
        while waiting.last is None or not waiting.last.is_terminal:
            if ended.is_set():
                await _give_up_for_run(waiting, watch.id)
            if limit := waiting.exceeded(timeout):
                await _give_up(waiting, limit)
                return
            await waiting.record_interest()
            await waiting.learn(waiting.time_left(timeout))
            await _look(waiting, watch, timeout, end)
    finally:
        end.cancel()
        waiting.stop_asking()


async def _look(
    waiting: _Wait, watch: Watch, timeout: float | None, end: asyncio.Task[Literal[True]]
) -> None:
    left = waiting.time_left(timeout)
    news = watch.look_in(min(waiting.pause(), left))
    await _until_one_of({news, end}, left + _LAST_LOOK_SECONDS, waiting)
    if not news.done():
        watch.lose_interest()
        return
    try:
        waiting.saw(news.result())
    except (APIError, ConfigurationError) as exc:
        waiting.failed_to_look(exc, watch)


async def _until_one_of(awaited: set[asyncio.Future[Any]], patience: float, waiting: _Wait) -> None:
    give_up = time.monotonic() + patience
    while (left := give_up - time.monotonic()) > 0:
        pause = min(left, waiting.tells_every)
        done, _ = await asyncio.wait(
            awaited,
            timeout=None if pause == math.inf else pause,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if done:
            return
        waiting.tell_again()


async def _give_up(waiting: _Wait, limit: str) -> None:
    assert waiting.last is not None
    prediction = await stop(waiting.run, waiting.last.id) or waiting.last
    if prediction.is_succeeded:
        waiting.saw(prediction)  # it succeeded at the last moment, and is paid: keep it
        return
    raise PredictionTimeoutError(
        f"Prediction {prediction.id} was {limit}; {_fate(prediction)}", prediction
    )


async def _give_up_for_run(waiting: _Wait, prediction_id: str) -> NoReturn:
    last = waiting.last or await get_prediction(waiting.run.connection, prediction_id)
    if await outlives_end_of_run(waiting.run, prediction_id):
        raise PredictionCanceledError(
            f"The flow run was ended while it waited for prediction {last.id}, which is"
            f" {last.status} and keeps running, as `on_crash` says; a retry continues with it.",
            last,
        )
    prediction = await stop(waiting.run, prediction_id) or last
    raise PredictionCanceledError(
        f"The flow run was ended while it waited for prediction {prediction.id}:"
        f" {_fate(prediction)}",
        prediction,
    )


def _fate(prediction: Prediction) -> str:
    if not prediction.is_terminal:
        return (
            f"it could not be canceled and may still run until its deadline: {prediction.web_url};"
            " a retry continues with it."
        )
    return f"{how_it_ended(prediction).partition(': ')[2]}. A retry pays for a new one."


def _succeeded(prediction: Prediction) -> Prediction:
    if prediction.is_succeeded:
        return prediction
    if prediction.status != "failed":
        raise PredictionCanceledError(
            f"{how_it_ended(prediction)}. A retry pays for a new one.", prediction
        )
    reason = (prediction.reason or "Replicate gave no reason").rstrip(".")
    kind, retry = "permanent", "A retry finds the same failure and pays nothing."
    if prediction.is_transient_failure:
        kind, retry = "trying again may help", "A retry pays for a new one."
    raise PredictionFailedError(
        f"Prediction {prediction.id} of {prediction.model} failed ({kind}): {reason}. {retry}",
        prediction,
    )
