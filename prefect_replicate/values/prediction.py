"""Replicate's description of a prediction, read tolerantly."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from prefect_replicate.values.poll_policy import LONGEST_SECONDS

TERMINAL_STATUSES = frozenset({"succeeded", "failed", "canceled", "aborted"})
KNOWN_STATUSES = TERMINAL_STATUSES | {"starting", "processing"}

# https://replicate.com/docs/reference/error-codes and the errors of official models: these come
# from the platform, not from the input, so a new prediction may succeed.
_TRANSIENT_CODES = frozenset(
    {"PA", "E003", "E004", "E1000", "E6716", "E8367", "E8765", "E9243", "E9825", "E9828"}
)
_ERROR_CODE = re.compile(r"\b(?:code\"?: \"?(PA)|(E\d{3,4}))\b")
_FLAGGED = re.compile(r"\bE005\b|\bflagged\b|\bNSFW\b", re.IGNORECASE)
_UNKNOWN_ERROR = "Unknown error handling prediction"
_FRACTION = re.compile(r"\.(\d{6})\d+")


PROMPTS = ("prompt", "text_prompt", "positive_prompt")
"""The names that most models use for their text prompt."""


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _another_shape_is_absent(
        cls, value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        """Treat an unreadable optional field as absent, to keep the rest, which is paid for."""
        field = cls.model_fields[str(info.field_name)]
        try:
            return validate(value)
        except ValidationError:
            if field.is_required():
                raise
            return field.get_default(call_default_factory=True)


class PredictionURLs(_Reply):
    """The URLs to read, cancel, view and stream a prediction."""

    get: str | None = None
    cancel: str | None = None
    web: str | None = None
    stream: str | None = None


class Prediction(_Reply):
    """One run of a model, as Replicate last described it.

    Only `id` and `status` are required: the API omits fields in some replies, adds new ones, and
    sometimes returns a field with another type, which then counts as absent. `status` is kept as
    received; an unknown status is not terminal.
    """

    id: str = Field(min_length=1)
    """Its id at Replicate."""
    status: str
    """`starting`, `processing`, `succeeded`, `failed`, `canceled` or `aborted`."""
    model: str | None = None
    """`owner/name`."""
    version: str | None = None
    """The version's 64-hex id, or a word that Replicate shows instead, such as `hidden`."""
    input: dict[str, Any] = Field(default_factory=dict)
    """The input as Replicate shows it, which can differ from what was sent."""
    output: Any = None
    """URLs of files, text or JSON; Replicate deletes it an hour after completion."""
    error: str | None = None
    """Why it failed."""
    logs: str = ""
    """What the model has printed."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    """What Replicate measured, by its own names."""
    created_at: datetime | None = None
    """When Replicate accepted it."""
    started_at: datetime | None = None
    """When the model began; `None` while the prediction is queued."""
    completed_at: datetime | None = None
    """When it ended, in whatever status."""
    deadline: datetime | None = None
    """When Replicate ends it if it is still running."""
    data_removed: bool = False
    """Whether Replicate has deleted its input, output and logs."""
    deployment: str | None = None
    """The deployment at Replicate that ran it, as `owner/name`."""
    source: str | None = None
    """How it was created: `api` or `web`."""
    urls: PredictionURLs = Field(default_factory=PredictionURLs)
    """Where it can be read, canceled and viewed."""

    @field_validator("error", mode="before")
    @classmethod
    def _any_error_as_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False, default=str) if value else None

    @field_validator("created_at", "started_at", "completed_at", "deadline", mode="before")
    @classmethod
    def _nanoseconds_to_microseconds(cls, value: Any) -> Any:
        return _FRACTION.sub(r".\1", value) if isinstance(value, str) else value

    @field_validator("created_at", "started_at", "completed_at", "deadline")
    @classmethod
    def _of_our_time(cls, value: datetime | None) -> datetime | None:
        """Assume UTC if there is no zone; drop implausible years, where sums overflow."""
        if value is None or not 2000 < value.year < 3000:
            return None
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)

    @property
    def is_terminal(self) -> bool:
        """Whether the prediction has ended, successfully or not."""
        return self.status in TERMINAL_STATUSES

    @property
    def is_succeeded(self) -> bool:
        return self.status == "succeeded"

    @property
    def is_transient_failure(self) -> bool:
        """Whether it failed because of the platform, or without giving a reason."""
        if self.status != "failed":
            return False
        reason = self.reason
        if reason is None:
            return True
        code = _ERROR_CODE.search(reason)
        return bool(code and (code[1] or code[2]) in _TRANSIENT_CODES) or _UNKNOWN_ERROR in reason

    @property
    def is_flagged(self) -> bool:
        """Whether it failed because its input or output was flagged as sensitive."""
        return self.status == "failed" and bool(_FLAGGED.search(self.reason or ""))

    @property
    def prompt(self) -> str | None:
        """Its text prompt, if it has one."""
        said = [self.input.get(name) for name in PROMPTS]
        return next((one for one in said if isinstance(one, str)), None)

    @property
    def reason(self) -> str | None:
        """Why it failed, on one line; `None` if Replicate gives no reason in words."""
        said = " ".join((self.error or "").split())
        return said if any(character.isalnum() for character in said) else None

    @property
    def predict_time(self) -> float | None:
        """Seconds of model time; models priced by hardware are billed by it.

        Official models are billed by their output, as `metrics` shows. `None` while unknown.
        """
        seconds = self.metrics.get("predict_time")
        if not isinstance(seconds, int | float) or not 0 <= seconds < LONGEST_SECONDS:
            return None
        return float(seconds)

    @property
    def web_url(self) -> str:
        """The prediction's web page."""
        return self.urls.web or f"https://replicate.com/p/{self.id}"
