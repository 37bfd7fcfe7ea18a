"""Failures of a file transfer, how often it is retried, and the errors that users see.

The three exceptions here never leave `outputs`; `output_error` turns them, and those of httpx and
the operating system, into errors for users.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx
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

from prefect_replicate.exceptions import OutputError, OutputExpiredError
from prefect_replicate.values import Prediction


class TryAgain(Exception):
    """The next attempt may succeed."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Refused(Exception):
    """No attempt will succeed; the text says why, and follows "…: "."""


class Gone(Exception):
    """The host no longer has the file."""


TRANSIENT = (httpx.TransportError, TryAgain)


def output_error(exc: Exception, prediction: Prediction, what: str, folder: Path) -> OutputError:
    """Return the error for the file `what`, which was to be stored in `folder`."""
    if isinstance(exc, Gone):
        return expired_error(prediction)
    about = f"Prediction {prediction.id} succeeded and is paid for, but {what}"
    if isinstance(exc, OSError):
        return OutputError(
            f"{about} could not be written to {folder}: {exc.strerror or exc}."
            " Make room or choose another destination, and download again within the hour."
        )
    if isinstance(exc, Refused):
        return OutputError(f"{about} was not stored: {exc}.")
    return OutputError(
        f"{about} could not be downloaded: {one_line(exc)}. Download again within the hour that"
        " Replicate keeps it: the part received so far is kept, and nothing is paid again."
    )


def expired_error(prediction: Prediction, what: str = "files") -> OutputExpiredError:
    """Return the error for files, or an output, that are gone; it says what to do."""
    completed = prediction.completed_at
    when = f"on {completed:%Y-%m-%d at %H:%M:%S} UTC" if completed else "at an unknown time"
    are, them = ("are", "them") if what == "files" else ("is", "it")
    return OutputExpiredError(
        f"The {what} of prediction {prediction.id} {are} gone: it completed {when}, and Replicate"
        f" deletes {what} one hour after that. Only a new prediction, which is paid again, can make"
        f" {them} again: a retry creates one if `regenerate_expired` is True."
    )


def one_line(exc: BaseException) -> str:
    """Format an exception as `Type: text`, short enough for Prefect's UI."""
    text = " ".join(str(exc).split())[:200]
    if isinstance(exc, TryAgain):
        return text
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


@dataclass(frozen=True)
class TransferPolicy:
    """Retry limits for one file; the prediction itself is never repeated.

    Durations are in seconds. `total_time` is half of the hour that Replicate keeps files.
    """

    download_attempts: int = 10
    upload_attempts: int = 4
    total_time: float = 1800.0
    first_wait: float = 0.5
    longest_wait: float = 30.0

    def downloading(self, on: tuple[type[Exception], ...], unwanted: Event) -> Retrying:
        """Return retries for a thread, which end early once the file is no longer wanted."""
        return Retrying(
            retry=retry_if_exception_type(on),
            stop=self._stop(self.download_attempts) | stop_when_event_set(unwanted),
            wait=self._wait,
            sleep=sleep_using_event(unwanted),
            reraise=True,
        )

    def uploading(self, on: tuple[type[BaseException], ...]) -> AsyncRetrying:
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
