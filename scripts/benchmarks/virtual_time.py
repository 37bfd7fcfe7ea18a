"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import time_machine

_EPOCH = 1_800_000_000.0


class _Impatient(selectors.DefaultSelector):
    """Never waits for a file; says how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0
        self.on_skip: Callable[[float], None] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.skipped += timeout
            if self.on_skip is not None:
                self.on_skip(_EPOCH + self.skipped)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For coroutines that wait for nothing but timers; their order stays what it was."""

    def __init__(self) -> None:
        self._selector_with_time = _Impatient()
        super().__init__(self._selector_with_time)

    def time(self) -> float:
        """Seconds that have been slept away."""
        return self._selector_with_time.skipped

    @contextmanager
    def as_the_time_of_day(self) -> Generator[None]:
        """Have the clocks show this loop's time, on a day in 2027.

        In other threads that is the time of day alone: their loops' timers are set by the other.
        """
        monotonic, thread = time.monotonic, threading.get_ident()

        def monotonic_here() -> float:
            return self.time() if threading.get_ident() == thread else monotonic()

        with time_machine.travel(_EPOCH + self.time(), tick=False) as travel:
            self._selector_with_time.on_skip = travel.move_to
            time.monotonic = monotonic_here
            try:
                yield
            finally:
                time.monotonic = monotonic
                self._selector_with_time.on_skip = None
