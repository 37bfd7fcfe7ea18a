"""What a batch, and waiting, take of a machine; beside Prefect's own part, and the SDK."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.batch_runs import model_seconds
from benchmarks.report import Measurement, against
from benchmarks.rounds import fresh_python, interleaved, ratio
from benchmarks.servers import environment_of_servers
from prefect_replicate.emulator.limits import STANDARD

_AIM = 4.0
_WALL_AIM = 1.25
_ITEMS = 1000
_CREATES_A_SECOND = STANDARD["create"].per_minute / 60
_BATCHES = ("trivial tasks", "a batch")
_WAITS = ("waits", "waits of the official client")


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
    # As if all were created as soon as the limit lets them, in whatever order.
    ideal = max(*model_seconds(items), (items - STANDARD["create"].burst) / _CREATES_A_SECOND)
    walls = [one["wall"] for one in taken["a batch"]]
    wall = against(statistics.median(walls) / ideal, _WALL_AIM, at_most=True)
    asked = against(
        statistics.median(one["prefect"] for one in taken["a batch"]) / items, 1, at_most=True
    )
    waiting = taken["waits"][0]
    return Measurement(
        ("work", "CPU", "time", "memory", "requests to Prefect", "requests to Replicate"),
        [
            _row(f"{items} trivial tasks", taken["trivial tasks"]),
            _row(f"a batch of {items}", taken["a batch"]),
            *(_row(f"{items} {what}, for one minute", taken[what]) for what in _WAITS),
        ],
        [
            f"CPU time of the batch over that of the trivial tasks: {share}.",
            f"Time of the batch over the {ideal:.0f} s that rate limit and models take: {wall}.",
            f"Requests to Prefect per item: {asked}.",
            f"Waits that ended with an error: {taken['waits'][0]['failed']:.0f};"
            f" of the official client: {taken[_WAITS[1]][0]['failed']:.0f}.",
            f"Memory per wait: {waiting['megabytes'] / items * 1000:.0f} kB.",
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
