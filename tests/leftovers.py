"""The processes that a test has started, directly or not, and that live on when it has failed."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

_MARK = "PREFECT_REPLICATE_TESTS"
"""A variable in the environment of all that the tests start, which children inherit."""

KEPT = "PREFECT_REPLICATE_TESTS_KEPT"
"""Set for processes that more than one test uses; whoever has started them ends them."""


def mark_what_is_started() -> None:
    """Have the processes that this one starts known from now on, and ended at its own end.

    That is seen to by a process of its own, which a kill of this one leaves alone.
    """
    os.environ.pop(_MARK, None)
    mark = uuid.uuid4().hex
    reaper = subprocess.Popen(
        [sys.executable, __file__, mark], stdin=subprocess.PIPE, start_new_session=True
    )
    atexit.register(reaper.communicate)
    os.environ[_MARK] = mark


def now() -> float:
    """A moment for `started_since`: seconds since the machine was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else 0.0


def started_since(moment: float) -> set[int]:
    """The living processes that were started after `moment`, without those that are kept."""
    ours = processes_with(_MARK, os.environ[_MARK]) - processes_with(KEPT)
    return {pid for pid in ours if _start(pid) > moment}


def processes_with(variable: str, value: str | None = None) -> set[int]:
    """Those with this in their environment, which processes have from those that started them.

    None where there is no /proc.
    """
    setting = f"{variable}=".encode() if value is None else f"{variable}={value}\0".encode()
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone by now, or another user's
            if setting in (folder / "environ").read_bytes():
                found.add(int(folder.name))
    return found


def end(pids: set[int]) -> None:
    """Kill them."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _start(pid: int) -> float:
    try:
        # The name, in parentheses, may have spaces; the field is the 22nd, in ticks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


if __name__ == "__main__":
    sys.stdin.read()  # until whoever has started us is gone
    end(processes_with(_MARK, sys.argv[1]))
