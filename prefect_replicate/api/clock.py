"""Replicate's time, independent of this machine's clock."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime


class Clock:
    """Replicate's time, from the `Date` of its replies and this machine's monotonic clock.

    A reply's date is truncated to whole seconds, and was written between sending the request and
    receiving the reply. So each reply bounds how far Replicate's time is ahead of the monotonic
    clock. Several replies narrow this to a fraction of a second; the reply to a create, which
    states its exact time, narrows it to the time that the create took.
    """

    def __init__(self) -> None:
        self._ahead: tuple[float, float] | None = None
        """The bounds, in seconds."""

    @property
    def is_known(self) -> bool:
        """Whether a reply has stated the time."""
        return self._ahead is not None

    def heard(self, date: str | None, sent_at: float, received_at: float) -> None:
        """Learn from the date of a reply.

        Args:
            date: Its `Date` header.
            sent_at: When the request was sent, by the monotonic clock.
            received_at: When the reply had arrived, likewise.
        """
        if (stated := _seconds(date)) is not None:
            self._learn(stated - received_at, stated + 1 - sent_at)

    def saw_create(self, created_at: datetime | None, sent_at: float, received_at: float) -> None:
        """Learn from the creation time in a create's reply; times as for `heard`."""
        if created_at is not None:
            stated = created_at.timestamp()
            self._learn(stated - received_at, stated - sent_at)

    def _learn(self, least: float, most: float) -> None:
        if self._ahead is not None:
            closer = max(least, self._ahead[0]), min(most, self._ahead[1])
            # If the bounds contradict each other, one of the two clocks was set or has drifted.
            least, most = closer if closer[0] <= closer[1] else (least, most)
        self._ahead = least, most

    def now(self) -> datetime:
        """Return Replicate's time, or this machine's until a reply has stated it."""
        if self._ahead is None:
            return datetime.now(timezone.utc)
        return datetime.fromtimestamp(time.monotonic() + sum(self._ahead) / 2, timezone.utc)

    def seconds_since(self, moment: datetime | None) -> float:
        """Return the seconds since a time that Replicate stated; 0 if unknown."""
        if moment is None or not self.is_known:
            return 0.0
        return max(0.0, (self.now() - moment).total_seconds())


def _seconds(date: str | None) -> float | None:
    try:
        stated = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return None
    if not 2000 < stated.year < 3000:
        return None
    return (stated if stated.tzinfo else stated.replace(tzinfo=timezone.utc)).timestamp()
