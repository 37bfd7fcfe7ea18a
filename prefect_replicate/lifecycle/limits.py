"""How long a prediction may take; pure."""

from __future__ import annotations

DEFAULT_TIMEOUT = 3600.0
"""Seconds from creation. Replicate itself stops a model after 30 minutes of running; the rest is
for the queue and the boot (https://replicate.com/docs/topics/predictions/lifecycle)."""

UNWATCHED_SECONDS = 24 * 3600.0
"""The deadline of a prediction whose wait has no limit: nobody may be left to end it."""

_MARGIN = 60.0


def deadline_for(timeout: float | None) -> float:
    """Seconds after creation at which Replicate ends what nobody watches any more.

    A little after the wait's own timeout, so that the wait can cancel and say how it ended.
    """
    return UNWATCHED_SECONDS if timeout is None else timeout + _MARGIN
