"""How often a wait looks, and how late it notices, beside the official client's `wait()`.

Both sides are the real code: our wait as the task runs it, and the client's `async_wait`. Simulated
are the time, on a loop that jumps from timer to timer, and Replicate, whose replies come at once.
Real waits over HTTP on the local Replicate, in real time, are held against the shorter ones.
"""

from __future__ import annotations

import os
import random
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import replicate

from benchmarks.report import Measurement
from benchmarks.simulated_replicate import Course, Simulation
from prefect_replicate import Prediction, wait_for_prediction
from prefect_replicate.emulator import Emulator

_DURATIONS = (1.0, 10.0, 60.0, 300.0)
_LIVE_DURATIONS = (1.0, 10.0)
_LIVE_SAMPLES = 10
_QUEUE_SHARE = 0.1
_SPREAD = 0.1
_SIDES = ("this package", "official client")


class Detection(NamedTuple):
    """One wait, from the outside."""

    gets: int
    delay: float
    """Seconds from completion to the end of the wait."""


@dataclass(frozen=True)
class _Waits:
    duration: float
    side: str
    found: Sequence[Detection]

    @property
    def gets(self) -> float:
        return statistics.mean(each.gets for each in self.found)

    @property
    def delay(self) -> float:
        return statistics.mean(each.delay for each in self.found)

    @property
    def longest(self) -> float:
        return max(each.delay for each in self.found)

    def row(self, how: str) -> tuple[str, ...]:
        return (
            f"{self.duration:g} s",
            self.side,
            how,
            f"{self.gets:.1f}",
            f"{self.delay:.2f} s",
            f"{self.longest:.2f} s",
            f"{self.delay / self.duration:.1%}",
        )


def measure(quick: bool) -> Measurement:
    """Simulate all durations, and check the short ones in real time."""
    random.seed(1)  # of the jitter
    durations = _LIVE_DURATIONS[:1] if quick else _LIVE_DURATIONS
    simulated = [
        _Waits(duration, side, found)
        for duration in _DURATIONS
        for side, found in _simulated(_courses(duration, 3 if quick else 60)).items()
    ]
    live = [
        _Waits(duration, side, found)
        for duration in durations
        for side, found in _live(_courses(duration, _LIVE_SAMPLES)).items()
    ]
    return Measurement(
        (
            "duration",
            "method",
            "measured",
            "GETs",
            "mean delay",
            "longest delay",
            "mean delay over duration",
        ),
        [each.row("simulated") for each in simulated] + [each.row("real") for each in live],
        _findings(simulated),
    )


def _courses(duration: float, count: int) -> list[Course]:
    # Spread, or durations of whole half seconds would always end just before a status request.
    spread = random.Random(duration)
    lasting = [duration * spread.uniform(1 - _SPREAD, 1 + _SPREAD) for _ in range(count)]
    return [Course(each * _QUEUE_SHARE, each * (1 - _QUEUE_SHARE)) for each in lasting]


def _simulated(courses: Sequence[Course]) -> dict[str, list[Detection]]:
    simulation = Simulation()
    waits = (simulation.our_wait, simulation.client_wait)
    return {
        side: [Detection(*wait(course)) for course in courses]
        for side, wait in zip(_SIDES, waits, strict=True)
    }


def _live(courses: Sequence[Course]) -> dict[str, list[Detection]]:
    with Emulator() as emulator, ThreadPoolExecutor(2 * len(courses)) as threads:
        os.environ["REPLICATE_API_TOKEN"] = emulator.token
        os.environ["REPLICATE_BASE_URL"] = emulator.base_url
        client = replicate.Client(api_token=emulator.token, base_url=emulator.base_url)
        running = {
            side: [threads.submit(_one_live, emulator, client, wait, each) for each in courses]
            for side, wait in zip(_SIDES, (_our_wait, _client_wait), strict=True)
        }
        return {side: [each.result() for each in waits] for side, waits in running.items()}


_Wait = Callable[["replicate.prediction.Prediction"], None]


def _one_live(
    emulator: Emulator, client: replicate.Client, wait: _Wait, course: Course
) -> Detection:
    made = client.predictions.create(
        model="emulator/timer", input={"queue_seconds": course.queue, "seconds": course.run}
    )
    wait(made)
    noticed = emulator.clock.now()
    gets = len(emulator.requests.matching("GET", f"/v1/predictions/{made.id}"))
    made.reload()
    assert made.completed_at is not None
    completed = datetime.fromisoformat(made.completed_at.replace("Z", "+00:00"))
    return Detection(gets, noticed - completed.timestamp())


def _our_wait(made: replicate.prediction.Prediction) -> None:
    wait_for_prediction.fn(Prediction(id=made.id, status=made.status))


def _client_wait(made: replicate.prediction.Prediction) -> None:
    made.wait()


def _findings(simulated: Sequence[_Waits]) -> list[str]:
    longest = max(_DURATIONS)
    gets = {each.side: each.gets for each in simulated if each.duration == longest}
    share = max(each.longest / each.duration for each in simulated if each.side == _SIDES[0])
    fewer = gets[_SIDES[1]] / gets[_SIDES[0]]
    return [
        f"At {longest:g} s, this package sends {fewer:.0f} times fewer requests than the official"
        " client.",
        f"Longest delay of this package over the duration: {share:.0%}.",
    ]
