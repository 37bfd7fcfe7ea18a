"""How the emulator's account and platform behave: every switch in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

RateLimits = Literal["off", "standard", "low-credit"]
_HOUR = 3600.0


@dataclass(frozen=True)
class Behaviour:
    """The platform's switches. The defaults are as recorded from Replicate, without rate limits.

    Args:
        rate_limits: `standard` allows 600 creates, 60,000 reads of a prediction and 3,000 other
            requests per minute; `low-credit` allows 6 creates per minute, one at a time.
        credit: `False` refuses every create with a 402.
        duration_factor: Multiplies the time that models take, except the timers and added models.
        retention: Seconds after completion until input, output, logs and files are removed.
        file_lifetime: Seconds until an uploaded file is deleted.
        gone_status: The file host's status for a removed output.
        strict_input: Refuse input keys that the model's schema does not have.
        finished_cancel_status: Status for canceling a finished prediction; with 200, the reply is
            the unchanged prediction.
        cancel_lag: Seconds that a running model continues after it is told to stop.
        pending_create_status: Status of a create whose output isn't ready yet, 201 or 202.
        sync_status_lags: With `Prefer: wait`, the reply has the output while its status is still
            `processing`.
        sync_data_uri_limit: With `Prefer: wait`, files up to this many bytes come as `data:` URIs.
        archived_after: Seconds after completion until GET returns the database form, whose
            `created_at` is some milliseconds later.
        version_substitution: Run the latest version of a community model, whichever was requested.
        hidden_versions: Return 404 for the pages of all versions, as Replicate does for some
            versions that can be run.
        omit_model: Leave `model` out of predictions, as one recorded reply does.
        duplicate_webhooks: Send every webhook twice.
    """

    rate_limits: RateLimits = "off"
    credit: bool = True
    duration_factor: float = 1.0
    retention: float = _HOUR
    file_lifetime: float = 24 * _HOUR
    gone_status: int = 404
    strict_input: bool = False
    finished_cancel_status: int = 200
    cancel_lag: float = 0.0
    pending_create_status: int = 201
    sync_status_lags: bool = True
    sync_data_uri_limit: int = 256_000
    archived_after: float = 60.0
    version_substitution: bool = False
    hidden_versions: bool = False
    omit_model: bool = False
    duplicate_webhooks: bool = False

    def __post_init__(self) -> None:
        if self.rate_limits not in get_args(RateLimits):
            choices = ", ".join(get_args(RateLimits))
            raise ValueError(f"rate_limits must be one of {choices}, not {self.rate_limits!r}")
        for name in ("duration_factor", "retention", "file_lifetime", "cancel_lag"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} cannot be negative: {getattr(self, name)}")


def changed(behaviour: Behaviour, changes: Mapping[str, Any]) -> Behaviour:
    """Return `behaviour` with some switches changed.

    Raises:
        ValueError: There is no such switch, or it cannot have that value.
    """
    try:
        return replace(behaviour, **changes)
    except TypeError as exc:
        raise ValueError(f"no such switch or value: {exc}") from exc
