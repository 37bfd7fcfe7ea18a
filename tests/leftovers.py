"""The processes that a test has started, directly or not, and that live on when it has failed."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from pathlib import Path

_MARK = "PREFECT_REPLICATE_TESTS"
"""A variable in the environment of all that the tests start, which children inherit."""

KEPT = "PREFECT_REPLICATE_TESTS_KEPT"
"""Set for processes that more than one test uses; whoever has started them ends them."""


def mark_what_is_started() -> None:
    """Have the processes that this one starts known from now on."""
    os.environ[_MARK] = uuid.uuid4().hex


def started_so_far(*, with_kept: bool = False) -> set[int]:
    """The living processes that were started since `mark_what_is_started`."""
    mark, kept = f"{_MARK}={os.environ[_MARK]}\0".encode(), f"{KEPT}=".encode()
    environs = {pid: _environ(pid) for pid in _pids()}
    ours = {pid: environ for pid, environ in environs.items() if mark in environ}
    return {pid for pid, environ in ours.items() if with_kept or kept not in environ}


def end(pids: set[int]) -> None:
    """Kill them."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(one.name) for one in Path("/proc").glob("[0-9]*")]


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it is gone by now, or another user's
        return b""
