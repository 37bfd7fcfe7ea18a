"""Moments that Replicate names, beside this machine's clock."""

from __future__ import annotations

from datetime import datetime, timezone


def as_utc(moment: datetime) -> datetime:
    """The moment with its zone, which is UTC where none is named."""
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def seconds_since(moment: datetime | None) -> float:
    """How long ago a moment was; 0 where it is still to come, or not known."""
    if moment is None:
        return 0.0
    return max(0.0, (datetime.now(timezone.utc) - as_utc(moment)).total_seconds())
