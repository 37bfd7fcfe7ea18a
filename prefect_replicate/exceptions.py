"""Every error of this package, arranged by what the caller does next.

```
ReplicateError
├── ConfigurationError          fix the settings
├── InvalidInputError           fix the call; nothing was paid
├── APIError                    Replicate refused, or its reply made no sense
│   └── APIUnreachableError     the network or Replicate was down too long
├── UncertainCreateError        a create was sent, and its outcome is unknown
├── LedgerError                 no usable record in Prefect's API; nothing more was paid
├── RunEndedError               Prefect has ended the run; nothing more was started
├── PredictionError             a prediction exists, but no result
│   ├── PredictionFailedError   the model failed
│   ├── PredictionCanceledError canceled, or ended by its deadline
│   └── PredictionTimeoutError  canceled because a time limit passed
├── OutputError                 paid and done, but not all files are stored
│   └── OutputExpiredError      Replicate has deleted the files
└── BatchError                  some items of a batch did not succeed
```

`InvalidInputError` is also a `ValueError`, `PredictionTimeoutError` a `TimeoutError`. Messages are
one line, since Prefect shows them in its UI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_replicate.text import in_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect_replicate.values import ModelOutputs, OutputFile, Prediction

__all__ = [
    "APIError",
    "APIUnreachableError",
    "BatchError",
    "ConfigurationError",
    "InvalidInputError",
    "LedgerError",
    "OutputError",
    "OutputExpiredError",
    "PredictionCanceledError",
    "PredictionError",
    "PredictionFailedError",
    "PredictionTimeoutError",
    "ReplicateError",
    "RunEndedError",
    "UncertainCreateError",
]


_MOST = 2000


class ReplicateError(Exception):
    """Base class of every error in this package; its message is one line that is safe to show."""

    def __init__(self, message: str = "") -> None:
        super().__init__(in_line(message, _MOST))


class ConfigurationError(ReplicateError):
    """A key, URL or installation is missing or wrong.

    Correct the setting, block or installation that the message names. Nothing was paid, unless the
    token was rejected while a prediction was running, which the message says.
    """


class InvalidInputError(ReplicateError, ValueError):
    """A model reference, input or parameter was refused before anything was paid.

    Correct the call: the message says what is wrong, and for an input, what the model accepts.
    """


class APIError(ReplicateError):
    """The API replied with an error, or its reply could not be understood.

    The message has Replicate's reason. Retry the run if the reason can pass; a retry continues with
    what has been started.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status; `None` if there was no reply."""

    @property
    def is_refusal(self) -> bool:
        """Whether the API understood the request and refused it.

        For a known prediction, this can be temporary: some that were running have returned 404.
        """
        return self.status is not None and 400 <= self.status < 500

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.status)


class APIUnreachableError(APIError):
    """No usable reply came for as long as we retry.

    Retry the run when the network or Replicate is back.
    """


class UncertainCreateError(ReplicateError):
    """A create was sent, its reply was lost, and its prediction was not found for certain.

    A prediction may be running, until the deadline of the create at the latest. A retry of the run
    searches for it before it pays; outside of a flow run, check the account's predictions first.
    """


class LedgerError(ReplicateError):
    """The record of what this flow run started could not be read or written in Prefect's API.

    Nothing more was paid. Retry the run when Prefect's API is back; if a record can't be used, the
    message says which.
    """


class RunEndedError(ReplicateError):
    """The flow run is still executing, although it was canceled or its parent run has ended.

    Nothing more was started. Start a new run, or retry the one that has ended.
    """


class PredictionError(ReplicateError):
    """A prediction ended, or was ended, without a result."""

    def __init__(self, message: str, prediction: Prediction) -> None:
        super().__init__(message)
        self.prediction = prediction
        """The prediction, as Replicate last described it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.prediction)


class PredictionFailedError(PredictionError):
    """The model reported a failure.

    If `is_transient`, try again; if not, change the input. Flows do the first by themselves, as
    often as their parameter `retries` says.
    """

    @property
    def is_transient(self) -> bool:
        """Whether the same input may succeed in a new prediction."""
        return self.prediction.is_transient_failure


class PredictionCanceledError(PredictionError):
    """The prediction was canceled, or its deadline passed before it started (`aborted`).

    A retry of the run makes a new prediction.
    """


class PredictionTimeoutError(PredictionError, TimeoutError):
    """A time limit passed; the prediction was canceled, and `.prediction` says how it ended.

    Raise the limit that the message names, or choose a faster model or a smaller input.
    """


class OutputError(ReplicateError):
    """A file of a finished prediction could not be fetched or stored.

    The prediction is paid. Retry the run within the hour for which Replicate keeps files: only what
    is missing is fetched.
    """

    def __init__(self, message: str, files: Sequence[OutputFile] = ()) -> None:
        super().__init__(message)
        self.files = list(files)
        """The files of the prediction that were stored."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.files)


class OutputExpiredError(OutputError):
    """Replicate has removed the prediction's data, as it does one hour after completion.

    Only a new prediction can bring the result back: `regenerate_expired=True` pays for one.
    """


class BatchError(ReplicateError):
    """Some items of a batch have failed or were not started.

    The others are stored. A retry of the run makes only what is missing.
    """

    def __init__(self, message: str, videos: ModelOutputs) -> None:
        super().__init__(message)
        self.videos = videos
        """The outcome of each item, whatever the model makes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.videos)
