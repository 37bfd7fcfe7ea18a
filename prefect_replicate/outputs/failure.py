"""Where foreign errors become ours.

The three exceptions here never leave `outputs`; `output_error` turns them, and those of httpx and
the operating system, into the errors that users see.
"""

from __future__ import annotations

from pathlib import Path

import httpx

from prefect_replicate.exceptions import OutputError, OutputExpiredError
from prefect_replicate.values import Prediction


class TryAgain(Exception):
    """The next attempt may succeed."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Refused(Exception):
    """No attempt will succeed; the text says why, to follow "…: "."""


class Gone(Exception):
    """The host doesn't have the file any more."""


TRANSIENT = (httpx.TransportError, TryAgain)
FAILURES = (httpx.TransportError, TryAgain, Refused, Gone, OSError)


def output_error(exc: Exception, prediction: Prediction, what: str, folder: Path) -> OutputError:
    """Say what happened to the file `what` that was on its way into `folder`."""
    if isinstance(exc, Gone):
        return expired_error(prediction)
    about = f"Prediction {prediction.id} is done and paid, but {what}"
    if isinstance(exc, OSError):
        return OutputError(
            f"{about} could not be written to {folder}: {exc.strerror or exc}."
            " Make room or choose another destination, and download again within the hour."
        )
    if isinstance(exc, Refused):
        return OutputError(f"{about} was not stored: {exc}.")
    return OutputError(
        f"{about} could not be downloaded: {one_line(exc)}. Download again within the hour for"
        " which Replicate keeps it: what has arrived is kept, and nothing is paid again."
    )


def expired_error(prediction: Prediction) -> OutputExpiredError:
    """Say that the files are gone, and what can still be done."""
    completed = prediction.completed_at
    when = f"on {completed:%Y-%m-%d at %H:%M:%S} UTC" if completed else "at an unknown time"
    return OutputExpiredError(
        f"The files of prediction {prediction.id} are gone: it completed {when}, and Replicate"
        " deletes files one hour after that. Only a new prediction can make them again, and is paid"
        " again: a retry makes one if `regenerate_expired` says so."
    )


def one_line(exc: BaseException) -> str:
    """An exception as `Type: text`, short enough for Prefect's UI."""
    text = " ".join(str(exc).split())[:200]
    if isinstance(exc, TryAgain):
        return text
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
