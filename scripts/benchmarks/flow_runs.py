"""A program: run the two flows in turn, and print what they took.

The environment says which Prefect server and which local Replicate.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory

from prefect import flow, task
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from benchmarks.requests_sent import recorded
from benchmarks.rounds import interleaved
from prefect_replicate import generate_video

# The server still writes the events of a run when that has ended, and SQLite has one writer: a run
# that is created meanwhile is refused with 503, and Prefect's client tries again 2 s later.
_SETTLE_SECONDS = 1.0


@task
def _begin() -> int:
    return 1


@task
def _add(number: int) -> int:
    return number + 1


@flow
def _bare() -> int:
    return _add(_add(_begin()))


def main(rounds: int, rounds_with_heartbeats: int) -> None:
    """Run both, and print their times and requests as JSON."""
    with TemporaryDirectory() as folder:
        flows: dict[str, Callable[[], object]] = {
            "bare": _bare,
            "ours": lambda: generate_video("x", "emulator/timer", destination=folder),
        }

        def once(name: str) -> float:
            time.sleep(_SETTLE_SECONDS)
            started = time.perf_counter()
            flows[name]()
            return time.perf_counter() - started

        interleaved(tuple(flows), 2, once)
        taken = {"heartbeats": interleaved(tuple(flows), rounds_with_heartbeats, once)}
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            taken["plain"] = interleaved(tuple(flows), rounds, once)
            requests = {name: _requests_of(lambda name=name: once(name)) for name in flows}
    print(json.dumps({**taken, "requests": requests}))


def _requests_of(act: Callable[[], object]) -> dict[str, tuple[int, float]]:
    """How many requests went to whom, and how long they took together."""
    with recorded() as requests:
        act()
    return {
        kind: (len(times), sum(times))
        for kind in ("prefect", "replicate", "files")
        for times in [[seconds for to, seconds in requests if to == kind]]
    }


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
