"""What time it is at Replicate, whatever the clock of this machine says."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime


class Clock:
    """Replicate's time, from the `Date` of its replies and this machine's monotonic clock.

    A reply's date is cut to whole seconds, and was written between the sending of the request and
    the receiving of the reply. Each reply so bounds how far Replicate's time is ahead of the
    monotonic clock, several together to a fraction of a second, and that to a create, which says
    exactly when it was done, to the time that it took.
    """

    def __init__(self) -> None:
        self._ahead: tuple[float, float] | None = None
        """The bounds, in seconds."""

    @property
    def is_known(self) -> bool:
        """Whether a reply has said what time it is."""
        return self._ahead is not None

    def heard(self, date: str | None, sent_at: float, received_at: float) -> None:
        """Take note of a reply.

        Args:
            date: Its `Date` header.
            sent_at: When the request was sent, by the monotonic clock.
            received_at: When the reply had come, likewise.
        """
        if (stated := _seconds(date)) is not None:
            self._learn(stated - received_at, stated + 1 - sent_at)

    def saw_create(self, created_at: datetime | None, sent_at: float, received_at: float) -> None:
        """Take note of the reply to a create; as `heard`."""
        if created_at is not None:
            stated = created_at.timestamp()
            self._learn(stated - received_at, stated - sent_at)

    def _learn(self, least: float, most: float) -> None:
        if self._ahead is not None:
            closer = max(least, self._ahead[0]), min(most, self._ahead[1])
            # Where they contradict each other, one of the two clocks was set or has drifted.
            least, most = closer if closer[0] <= closer[1] else (least, most)
        self._ahead = least, most

    def now(self) -> datetime:
        """What time it is at Replicate; by this machine's clock, while no reply has said it."""
        if self._ahead is None:
            return datetime.now(timezone.utc)
        return datetime.fromtimestamp(time.monotonic() + sum(self._ahead) / 2, timezone.utc)

    def seconds_since(self, moment: datetime | None) -> float:
        """How long ago a moment was that Replicate has named; 0 if it is not known."""
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
