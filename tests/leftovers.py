"""The processes that a test has started, directly or not, and that live on when it has failed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from pathlib import Path

_MARK = "PREFECT_REPLICATE_TESTS"
"""A variable in the environment of all that the tests start, which children inherit."""

KEPT = "PREFECT_REPLICATE_TESTS_KEPT"
"""Set for processes that more than one test uses; whoever has started them ends them."""


def mark_what_is_started() -> None:
    """Have the processes that this one starts known from now on."""
    os.environ[_MARK] = uuid.uuid4().hex


def now() -> float:
    """A moment for `started_since`: seconds since the machine was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else 0.0


def started_since(moment: float = 0.0, *, with_kept: bool = False) -> set[int]:
    """The living processes that were started after `moment`; none where there is no /proc."""
    mark, kept = f"{_MARK}={os.environ[_MARK]}\0".encode(), f"{KEPT}=".encode()
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone by now, or another user's
            environ = (folder / "environ").read_bytes()
            if mark in environ and (with_kept or kept not in environ) and _start(folder) > moment:
                found.add(int(folder.name))
    return found


def end(pids: set[int]) -> None:
    """Kill them."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _start(folder: Path) -> float:
    # The name, in parentheses, may have spaces; the field is the 22nd, in ticks.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
