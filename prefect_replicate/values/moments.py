"""Moments that Replicate names."""

from __future__ import annotations

from datetime import datetime, timezone


def as_utc(moment: datetime) -> datetime:
    """The moment with its zone, which is UTC where none is named."""
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
