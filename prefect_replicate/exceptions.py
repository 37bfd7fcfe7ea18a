"""Every error of this package, arranged by what the caller does next.

```
ReplicateError
├── ConfigurationError          fix the settings; nothing was sent or paid
├── InvalidInputError           fix the call; nothing was paid          (also a ValueError)
├── APIError                    Replicate refused or could not be understood
│   └── APIUnreachableError     the network or Replicate was down for longer than we retry
├── UncertainCreateError        a create was sent and its fate is unknown: look before paying again
├── LedgerError                 Prefect's API could not be read or written, so nothing was paid
├── RunEndedError               Prefect has ended the flow run, so nothing more was started
├── PredictionError             a prediction exists; `.prediction` says which and how it stands
│   ├── PredictionFailedError   the model failed; `.is_transient` says whether trying again can help
│   ├── PredictionCanceledError canceled by someone, or ended by its deadline
│   └── PredictionTimeoutError  we stopped waiting and canceled it      (also a TimeoutError)
├── OutputError                 the prediction is paid and done, its files could not be stored
│   └── OutputExpiredError      Replicate has deleted the files: they cannot be fetched any more
└── BatchError                  some items of a batch have not succeeded; `.videos` has the others
```

Messages are one line, since Prefect shows them in its UI.
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
    """Base of every error that this package raises; its message is one line, fit to be shown."""

    def __init__(self, message: str = "") -> None:
        super().__init__(in_line(message, _MOST))


class ConfigurationError(ReplicateError):
    """A key, URL or installation is missing or wrong."""


class InvalidInputError(ReplicateError, ValueError):
    """A model reference, input or parameter that was refused before anything was paid."""


class APIError(ReplicateError):
    """A reply of the API that is an error, or that could not be understood.

    `status` is the HTTP status, `None` where there was no reply.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_refusal(self) -> bool:
        """Whether the API has understood the request, and would not do it.

        Of a prediction that is known, that can pass: 404 is on record for some that were running.
        """
        return self.status is not None and 400 <= self.status < 500

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.status)


class APIUnreachableError(APIError):
    """No usable reply for longer than we retry."""


class UncertainCreateError(ReplicateError):
    """A create was sent, its reply was lost, and no matching prediction was found."""


class LedgerError(ReplicateError):
    """What this flow run has started could not be read from or written to Prefect's API."""


class RunEndedError(ReplicateError):
    """The flow run goes on although it has been canceled, or the run around it has ended."""


class PredictionError(ReplicateError):
    """A prediction ended, or was ended, without a result."""

    def __init__(self, message: str, prediction: Prediction) -> None:
        super().__init__(message)
        self.prediction = prediction

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.prediction)


class PredictionFailedError(PredictionError):
    """The model reported a failure."""

    @property
    def is_transient(self) -> bool:
        """Whether the same input may succeed in a new prediction."""
        return self.prediction.is_transient_failure


class PredictionCanceledError(PredictionError):
    """The prediction was canceled, or its deadline passed before it started (`aborted`)."""


class PredictionTimeoutError(PredictionError, TimeoutError):
    """The wait's limit passed; the prediction was canceled and `.prediction` says how it ended."""


class OutputError(ReplicateError):
    """A file of a finished prediction could not be fetched or stored; `.files` has the others."""

    def __init__(self, message: str, files: Sequence[OutputFile] = ()) -> None:
        super().__init__(message)
        self.files = list(files)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.files)


class OutputExpiredError(OutputError):
    """Replicate has removed the prediction's data, as it does one hour after completion."""


class BatchError(ReplicateError):
    """Some items of a batch have failed or were not started."""

    def __init__(self, message: str, videos: ModelOutputs) -> None:
        super().__init__(message)
        self.videos = videos

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.videos)
