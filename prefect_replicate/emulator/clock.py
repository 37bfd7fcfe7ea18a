"""The one clock of the emulator's models, deadlines, rate limits and retention."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable


class Clock:
    """The emulator's clock, which can run faster than real time, stand still, or be moved.

    Args:
        speed: Seconds that pass on this clock per real second. `0` stops it; then only `advance`
            moves it.
        ahead: Seconds that it is initially ahead of this machine's clock.
    """

    def __init__(self, speed: float = 1.0, ahead: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._sleepers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._speed = _checked_speed(speed)
        self._base = time.time() + ahead
        self._started = time.monotonic()

    @property
    def speed(self) -> float:
        """Seconds that pass on this clock per real second."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        checked = _checked_speed(speed)
        with self._lock:
            self._rebase(0.0)
            self._speed = checked
        self.wake()

    def now(self) -> float:
        """Return the emulator's time as seconds since the epoch."""
        with self._lock:
            return self._now()

    def advance(self, seconds: float) -> float:
        """Move the time forward by `seconds` at once, and return the new time."""
        if seconds < 0:
            raise ValueError(f"the clock cannot go back: advance({seconds})")
        with self._lock:
            self._rebase(seconds)
            now = self._base
        self.wake()
        return now

    def reset(self, speed: float, ahead: float = 0.0) -> None:
        """Return to the real time, plus `ahead` seconds, at `speed`."""
        checked = _checked_speed(speed)
        with self._lock:
            self._base = time.time() + ahead
            self._started, self._speed = time.monotonic(), checked
        self.wake()

    def wake(self) -> None:
        """Make all sleepers check again how long to sleep."""
        for event, loop in list(self._sleepers.items()):
            loop.call_soon_threadsafe(event.set)

    async def sleep_until(
        self, moment: Callable[[], float], *, real_limit: float | None = None
    ) -> None:
        """Sleep until the clock reaches what `moment` returns, or `real_limit` real seconds pass.

        The clock calls `moment` again whenever it is moved or `wake` is called.
        """
        stop = None if real_limit is None else time.monotonic() + real_limit
        moved = asyncio.Event()
        self._sleepers[moved] = asyncio.get_running_loop()
        try:
            while (wait := self._real_wait(moment(), stop)) is None or wait > 0:
                await _wait_for_event(moved, wait)
                moved.clear()
        finally:
            del self._sleepers[moved]

    def _real_wait(self, moment: float, stop: float | None) -> float | None:
        left = moment - self.now()
        if left <= 0:
            return 0.0
        waits = [left / self._speed] if self._speed else []
        if stop is not None:
            waits.append(stop - time.monotonic())
        return min(waits, default=None)

    def _now(self) -> float:
        return self._base + (time.monotonic() - self._started) * self._speed

    def _rebase(self, seconds: float) -> None:
        self._base = self._now() + seconds
        self._started = time.monotonic()


def _checked_speed(speed: float) -> float:
    if not 0 <= speed < float("inf"):
        raise ValueError(f"speed must be zero (a stopped clock) or more, not {speed}")
    return speed


async def _wait_for_event(event: asyncio.Event, timeout: float | None) -> None:
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiter}, timeout=timeout)
    finally:
        waiter.cancel()
