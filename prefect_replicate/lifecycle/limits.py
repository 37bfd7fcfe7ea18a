"""How long a prediction may run, and whether it outlives a crash; pure."""

from __future__ import annotations

from typing import Literal, get_args

from prefect_replicate.exceptions import InvalidInputError

DEFAULT_TIMEOUT = 3600.0
"""Seconds from creation. Replicate itself stops a model after 30 minutes of running; the rest is
for the queue and the boot (https://replicate.com/docs/topics/predictions/lifecycle)."""

UNWATCHED_SECONDS = 24 * 3600.0
"""The deadline of a prediction whose wait has no limit: nobody may be left to end it."""

OnCrash = Literal["cancel", "keep"]
"""What becomes of a prediction when its run crashes."""

_MARGIN = 60.0


def deadline_for(timeout: float | None) -> float:
    """Seconds after creation at which Replicate ends what nobody watches any more.

    A little after the wait's own timeout, so that the wait can cancel and say how it ended.
    """
    return UNWATCHED_SECONDS if timeout is None else timeout + _MARGIN


def keeps(on_crash: str) -> bool:
    """Whether a prediction goes on when its run crashes.

    Raises:
        InvalidInputError: `on_crash` is neither `cancel` nor `keep`.
    """
    if on_crash not in get_args(OnCrash):
        raise InvalidInputError(f"on_crash is 'cancel' or 'keep', not {on_crash!r}.")
    return on_crash == "keep"
