"""What is on its way to or from Replicate for as long as a test likes."""

from __future__ import annotations

import asyncio
import threading
from typing import Literal


class Hold:
    """Keeps the first request to a path, or the reply to it, until it is let go."""

    def __init__(self) -> None:
        self.is_held = threading.Event()
        self.let_go = threading.Event()
        self._what: tuple[str, str] | None = None

    def first(self, what: Literal["request", "reply"], end_of_path: str) -> None:
        self._what = what, end_of_path

    async def pass_by(self, what: str, path: str) -> None:
        if self._what is None or self._what[0] != what or not path.endswith(self._what[1]):
            return
        self._what = None
        self.is_held.set()
        await asyncio.to_thread(self.let_go.wait)
