"""Which requests poll the predictions that are due; pure.

A prediction can be requested by itself, or read from a page of the account's list: the 100 newest
that were created before a time of our choice. Predictions that have ended, and those of others who
use the account, take up room on a page, too.

Creation times are seconds since the epoch.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

PAGE_ROWS = 100

SLACK_SECONDS = 0.1
"""How much later a creation time in the list may be than in the create's reply (0.03 recorded)."""

_EXACT = 0.00001
"""More than is lost when microseconds are written as a fraction of seconds."""

CROWD = 3
"""This many that have not been seen for `STALE_SECONDS` are worth a page although none is due: each
costs at most a third of a request. With fewer, a single request returns the log, too."""

STALE_SECONDS = 1.0

_SHARE_HALF_LIFE = 60.0
"""Seconds after which half of what pages have shown about others who use the account is forgotten.
Without that, one crowded page would be the last one ever requested."""

_PROGRESS = {"starting": 0, "processing": 1, "succeeded": 2, "failed": 2, "canceled": 2}
_PROGRESS["aborted"] = 2


@dataclass(frozen=True)
class Wanted:
    """A prediction that somebody waits for."""

    id: str
    created_at: float | None
    """`None` while unknown: no page can be chosen for it."""
    overdue: float
    """How late its next status is, as a share of the pause before it; negative if it is not due."""
    unseen: float = math.inf
    """Seconds since a page last showed it."""
    is_listed: bool = False
    """Whether `created_at` is what the list says."""
    alone: bool = False
    """Whether it needs a request of its own, since no page shows what is wanted."""

    @property
    def is_due(self) -> bool:
        return self.overdue >= 0

    @property
    def is_stale(self) -> bool:
        return self.unseen >= STALE_SECONDS


@dataclass(frozen=True)
class Single:
    """A request for one prediction."""

    id: str
    overdue: float = 0.0

    @property
    def ids(self) -> tuple[str, ...]:
        """The predictions that it is sent for."""
        return (self.id,)


@dataclass(frozen=True)
class Page:
    """A request for the newest 100 predictions that were created in a span of time."""

    created_after: float
    created_before: float
    ids: tuple[str, ...]
    """The predictions that it is sent for, newest first; others may be on it."""
    overdue: float = 0.0


Look = Single | Page


def plan_looks(wanted: Sequence[Wanted], rows: Sequence[float], share: float) -> list[Look]:
    """Return the fewest requests that show all that is due, and crowds, the most urgent first.

    Args:
        wanted: All that can be polled, including those that are not due.
        rows: Creation times of all predictions that we know on the account, in order; those wanted
            are among them.
        share: How much of a page the predictions that we know take up.
    """
    looks: list[Look] = [_single(one) for one in wanted if one.is_due and not _has_place(one)]
    placed = [(one.created_at or 0.0, one) for one in wanted if _has_place(one)]
    placed.sort(key=lambda pair: pair[0], reverse=True)
    room = max(1, int(PAGE_ROWS * share))
    at, end = 0, math.inf
    while at < len(placed):
        newest = placed[at][1]
        oldest, before = _page_from(newest, rows, room, end)
        on_it = [one for moment, one in placed[at : at + room] if moment >= oldest]
        look = _look_at(newest, on_it, oldest, before)
        looks.extend([look] if look else [])
        at += len(on_it) if isinstance(look, Page) else 1
        end = oldest if isinstance(look, Page) else end
    return sorted(looks, key=lambda look: look.overdue, reverse=True)


def _has_place(one: Wanted) -> bool:
    return one.created_at is not None and not one.alone


def _single(one: Wanted) -> Single:
    return Single(one.id, math.inf if one.alone else one.overdue)


def _page_from(newest: Wanted, rows: Sequence[float], room: int, end: float) -> tuple[float, float]:
    """Return the oldest creation that should fit on the page from `newest`, and the page's end.

    The end is no later than the oldest of the page before; otherwise the two pages could be the
    same if many were created at once.
    """
    assert newest.created_at is not None
    before = min(newest.created_at + (_EXACT if newest.is_listed else SLACK_SECONDS), end)
    stop = bisect_left(rows, before)
    return rows[max(0, stop - room)], max(before, newest.created_at + _EXACT)


def _look_at(newest: Wanted, on_it: Sequence[Wanted], oldest: float, before: float) -> Look | None:
    due = [one for one in on_it if one.is_due]
    if sum(one.is_stale for one in on_it) >= CROWD or (newest.is_due and len(due) > 1):
        most = max(one.overdue for one in on_it)
        return Page(oldest - SLACK_SECONDS, before, tuple(one.id for one in due), most)
    return _single(newest) if newest.is_due else None


def share_on(rows: Sequence[float], since: float, before: float, listed: int) -> float:
    """Return how much of a page the predictions that we know take up.

    Args:
        rows: As for `plan_looks`.
        since: The earliest creation that the page covers.
        before: The end of the time that the page covers.
        listed: How many are on it.
    """
    known = bisect_left(rows, before) - bisect_left(rows, since)
    return min(1.0, known / listed) if listed else 1.0


def recovered(share: float, seconds: float) -> float:
    """Return an observed share, moved back toward 1 after some time without a page."""
    return 1 - (1 - share) * 0.5 ** (seconds / _SHARE_HALF_LIFE)


def is_behind(shown: str, known: str | None) -> bool:
    """Whether a page shows a state that is known to have passed, as a lagging list can."""
    return _PROGRESS.get(shown, 2) < _PROGRESS.get(known or "", 0)
