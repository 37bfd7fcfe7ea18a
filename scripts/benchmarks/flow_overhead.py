"""`generate_video` beside the smallest flow of as many tasks, on a real Prefect server."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.report import Measurement, against
from benchmarks.rounds import fresh_python, ratio
from benchmarks.servers import environment_of_servers

_TARGET = 1.5


def measure(quick: bool) -> Measurement:
    """Run both flows in turn in one process, with Prefect's heartbeats and without."""
    with environment_of_servers() as env:
        rounds = ("2", "1") if quick else ("12", "5")
        taken = fresh_python("-m", "benchmarks.flow_runs", *rounds, env=env)
    return _reported(taken)


def _reported(taken: dict[str, Any]) -> Measurement:
    as_shipped = ratio(taken["heartbeats"]["ours"], taken["heartbeats"]["bare"])
    work = ratio(taken["plain"]["ours"], taken["plain"]["bare"])
    more = statistics.median(taken["plain"]["ours"]) - statistics.median(taken["plain"]["bare"])
    spent = taken["requests"]["ours"]["prefect"][1] - taken["requests"]["bare"]["prefect"][1]
    return Measurement(
        ("", "three trivial tasks", "`generate_video`"),
        [
            _seconds("time, with Prefect's defaults", taken["heartbeats"]),
            _seconds("time, without heartbeats", taken["plain"]),
            *(_requests(kind, taken["requests"]) for kind in ("prefect", "replicate", "files")),
        ],
        [
            f"Median ratio with Prefect's defaults: {against(as_shipped, _TARGET, at_most=True)}.",
            f"Median ratio without heartbeats: {against(work, _TARGET, at_most=True)}: "
            f"{more * 1e3:.0f} ms more per run. In the run whose requests were counted, those to"
            f" Prefect took {spent * 1e3:.0f} ms more.",
        ],
    )


def _seconds(title: str, times: dict[str, list[float]]) -> tuple[str, str, str]:
    bare, ours = (f"{statistics.median(times[name]):.2f} s" for name in ("bare", "ours"))
    return title, bare, ours


def _requests(kind: str, counted: dict[str, Any]) -> tuple[str, str, str]:
    titles = {"prefect": "Prefect's API", "replicate": "Replicate's API", "files": "the file host"}
    bare, ours = (str(counted[name][kind][0]) for name in ("bare", "ours"))
    return f"requests to {titles[kind]}", bare, ours
