"""What a batch, and waiting, take of a machine; beside Prefect's own part, and the SDK."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.report import Measurement, against
from benchmarks.rounds import fresh_python, interleaved, ratio
from benchmarks.servers import environment_of_servers

_AIM = 1.5
_ITEMS = 1000
_BATCHES = ("trivial tasks", "a batch")
_WAITS = ("our waits", "the client's waits")


def measure(quick: bool) -> Measurement:
    """Run each in a fresh process, in turn; the servers have processes of their own."""
    items, rounds = (20, 1) if quick else (_ITEMS, 3)
    with environment_of_servers() as env:

        def once(what: str) -> dict[str, float]:
            seconds = "2" if quick else "60"
            return fresh_python("-m", "benchmarks.batch_runs", what, str(items), seconds, env=env)

        batches = interleaved(_BATCHES, rounds, once)
        waits = interleaved(_WAITS, 1, once)
    return _reported(batches | waits, items)


def _reported(taken: dict[str, list[dict[str, float]]], items: int) -> Measurement:
    bare, ours = ([one["cpu"] for one in taken[what]] for what in _BATCHES)
    share = against(ratio(ours, bare), _AIM, at_most=True)
    waiting = taken["our waits"][0]
    return Measurement(
        ("what", "CPU", "time", "memory", "to Prefect", "to Replicate"),
        [
            _row(f"{items} trivial tasks", taken["trivial tasks"]),
            _row(f"a batch of {items}", taken["a batch"]),
            *(_row(f"{items} of {what}, for a minute", taken[what]) for what in _WAITS),
        ],
        [
            f"CPU of the batch over that of as many trivial tasks: {share}.",
            f"A wait takes {waiting['megabytes'] / items * 1000:.0f} kB of memory.",
        ],
    )


def _row(title: str, taken: list[dict[str, Any]]) -> tuple[str, ...]:
    cpu, wall, megabytes, prefect, ours = (
        statistics.median(one[name] for one in taken)
        for name in ("cpu", "wall", "megabytes", "prefect", "replicate")
    )
    return (
        title, f"{cpu:.1f} s", f"{wall:.0f} s", f"{megabytes:.0f} MB",
        f"{prefect:,.0f}", f"{ours:,.0f}",
    )  # fmt: skip
