"""Waiting for something that another process does."""

from __future__ import annotations

import time
from collections.abc import Callable

_INTERVAL = 0.5


class NeverHappenedError(Exception):
    """What was waited for did not come."""


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a condition holds.

    Raises:
        NeverHappenedError: It does not within `seconds`.
    """
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise NeverHappenedError(f"not within {seconds:.0f} s: {what}")
        time.sleep(_INTERVAL)
