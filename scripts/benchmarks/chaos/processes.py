"""The processes of a flow run, found by what Prefect puts into their environment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

_ENGINE = b"prefect.engine"


def processes_of(flow_run_id: UUID) -> list[int]:
    """All of a flow run, those of its hooks too."""
    mark = f"PREFECT__FLOW_RUN_ID={flow_run_id}".encode()
    return [pid for pid in _pids() if mark in _read(pid, "environ").split(b"\0")]


def engines_of(flow_run_id: UUID) -> list[int]:
    """Those that execute the flow."""
    return [pid for pid in processes_of(flow_run_id) if _ENGINE in _read(pid, "cmdline")]


def children_of(pid: int) -> list[int]:
    """Those that a process has started."""
    with suppress(OSError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def exist(pids: list[int]) -> bool:
    """Whether one of some processes has not ended."""
    return any(_read(pid, "cmdline") for pid in pids)


def strike(pids: list[int], with_signal: signal.Signals) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, with_signal)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return b""
