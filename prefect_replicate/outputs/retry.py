"""How stubbornly a file is fetched and handed over."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_random_exponential,
)

from prefect_replicate.outputs.failure import TryAgain


@dataclass(frozen=True)
class TransferPolicy:
    """Limits of the retries of one file; the prediction itself is never repeated.

    Durations are seconds. `total_time` is half of the hour for which Replicate keeps files.
    """

    download_attempts: int = 10
    upload_attempts: int = 4
    total_time: float = 1800.0
    first_wait: float = 0.5
    longest_wait: float = 30.0

    def downloading(self, on: tuple[type[Exception], ...], unwanted: Event) -> Retrying:
        """Attempts in a thread, which end early when nobody wants the file any more."""
        return Retrying(
            retry=retry_if_exception_type(on),
            stop=self._stop(self.download_attempts) | stop_when_event_set(unwanted),
            wait=self._wait,
            sleep=sleep_using_event(unwanted),
            reraise=True,
        )

    def uploading(self, on: tuple[type[Exception], ...]) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type(on),
            stop=self._stop(self.upload_attempts),
            wait=self._wait,
        )

    def _stop(self, attempts: int) -> stop_any:
        return stop_after_attempt(attempts) | stop_after_delay(self.total_time)

    def _wait(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after if isinstance(failure, TryAgain) else 0.0
        jittered = wait_random_exponential(multiplier=self.first_wait, max=self.longest_wait)
        return min(asked, self.longest_wait) + jittered(state)
