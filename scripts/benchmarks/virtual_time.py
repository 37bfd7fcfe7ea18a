"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors


class _Impatient(selectors.DefaultSelector):
    """Never waits for a file; says how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.skipped += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For coroutines that wait for nothing but timers; their order stays what it was."""

    def __init__(self) -> None:
        self._selector_with_time = _Impatient()
        super().__init__(self._selector_with_time)

    def time(self) -> float:
        """Seconds that have been slept away."""
        return self._selector_with_time.skipped
