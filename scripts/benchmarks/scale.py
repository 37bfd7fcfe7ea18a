"""Many predictions at a time, beside the official client used as its README shows.

All sides are the real code, and Replicate is the emulator with its limits on. Time is virtual:
what is counted does not depend on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from benchmarks import scale_plot
from benchmarks.report import Measurement, against
from benchmarks.rounds import fresh_python, without_prefect_settings
from benchmarks.scale_outcome import Outcome

OURS, GATHERED, THREADS = "ours", "gathered", "threads"
TITLES = {OURS: "this package", GATHERED: "`async_run`, gathered", THREADS: "`wait()` in threads"}
_ROUNDS = {1: 100, 10: 20, 100: 3, 1000: 1, 5000: 1}
_FAULTY_ROUNDS = {100: 3, 1000: 1}
_MANY = 1000
_FEWER_REQUESTS = 20
_LONGER_DELAY = 0.5
_RELATIVE_DELAY = 0.05
_EXCESS = 1.05


class Case(NamedTuple):
    """One way, and how many predictions it has at a time."""

    side: str
    size: int


Outcomes = dict[Case, Outcome]
_FAILURES_HEADER = (
    *("concurrent", "method", "calls", "lost", "predictions", "per call", "wasted"),
    *("requests per result", "mean delay"),
)


def measure(quick: bool) -> Measurement:
    """Have up to 5000 at a time, while nothing goes wrong."""
    outcomes = _outcomes({1: 2, 20: 1} if quick else _ROUNDS, "calm")
    if not quick:
        scale_plot.draw(outcomes, TITLES)
    header = (
        *("concurrent", "method", "creates", "GETs", "pages", "requests per result", "mean delay"),
        *("p95", "mean delay over duration", "time over ideal", "429s", "lost"),
    )
    sizes = {case.size for case in outcomes}
    findings = _findings(outcomes, _MANY if _MANY in sizes else max(sizes))
    return Measurement(
        header,
        [_row(case, outcome) for case, outcome in outcomes.items()],
        findings,
        is_met=not any("missed" in finding for finding in findings),
    )


def measure_failures(quick: bool) -> Measurement:
    """The same at the fault rates of the chaos benchmark."""
    outcomes = _outcomes({20: 1} if quick else _FAULTY_ROUNDS, "faults")
    ours = [outcome for case, outcome in outcomes.items() if case.side == OURS]
    lost, again = sum(one.lost for one in ours), sum(one.for_nothing for one in ours)
    return Measurement(
        _FAILURES_HEADER,
        [_failures_row(case, outcome) for case, outcome in outcomes.items()],
        [
            f"Results lost by this package: **{lost}** (target: 0, {_met(not lost)}).",
            f"Predictions this package paid for twice: **{again}** (target: 0, {_met(not again)}).",
            *_losses(outcomes, max(case.size for case in outcomes)),
        ],
        is_met=not (lost or again),
    )


def _outcomes(rounds: dict[int, int], weather: str) -> Outcomes:
    cases = [Case(side, size) for size in rounds for side in TITLES]

    def outcome(case: Case) -> Outcome:
        arguments = (case.side, str(case.size), str(rounds[case.size]), weather)
        env = without_prefect_settings()
        return Outcome(**fresh_python("-m", "benchmarks.scale_run", *arguments, env=env))

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        largest_first = sorted(cases, key=lambda case: case.size, reverse=True)
        running = {case: workers.submit(outcome, case) for case in largest_first}
        return {case: running[case].result() for case in cases}


def _row(case: Case, outcome: Outcome) -> Sequence[str]:
    return (
        f"{case.size}",
        TITLES[case.side],
        f"{outcome.per_result('create'):.2f}",
        f"{outcome.per_result('get') + outcome.per_result('other'):.2f}",
        f"{outcome.per_result('list'):.2f}",
        f"{outcome.requests_per_result:.2f}",
        *_delays(outcome),
        "–" if outcome.lost else f"{outcome.excess:.3f}",
        f"{outcome.refused}",
        _of(outcome.lost, outcome.asked),
    )


def _delays(outcome: Outcome) -> tuple[str, str, str]:
    if not outcome.results:
        return "–", "–", "–"
    return (
        f"{outcome.delay:.2f} s",
        f"{outcome.late_delay:.2f} s",
        f"{outcome.delay_over_duration:.1%}",
    )


def _failures_row(case: Case, outcome: Outcome) -> Sequence[str]:
    return (
        f"{case.size}",
        TITLES[case.side],
        f"{outcome.asked}",
        _of(outcome.lost, outcome.asked),
        f"{outcome.made}",
        f"{outcome.made / outcome.asked:.3f}",
        f"{outcome.for_nothing}",
        f"{outcome.requests_per_result:.2f}",
        _delays(outcome)[0],
    )


def _findings(outcomes: Outcomes, many: int) -> list[str]:
    one, one_of_theirs = outcomes[Case(OURS, 1)], outcomes[Case(THREADS, 1)]
    lot, lot_of_theirs = outcomes[Case(OURS, many)], outcomes[Case(THREADS, many)]
    return [
        f"At {many}, requests per result of `wait()` over those of this package: "
        f"{against(_fewer(lot, lot_of_theirs), _FEWER_REQUESTS, at_most=False)}.",
        f"At {many}, seconds by which this package's mean delay exceeds that of `wait()`: "
        f"{against(lot.delay - lot_of_theirs.delay, _LONGER_DELAY, at_most=True)}.",
        "At 1, requests of `wait()` over those of this package: "
        f"{against(_fewer(one, one_of_theirs), 1, at_most=False)}.",
        "At 1, this package's mean delay over the duration: "
        f"{against(one.delay_over_duration, _RELATIVE_DELAY, at_most=True)}.",
        "This package's time over the ideal, at worst: "
        f"{against(_worst_excess(outcomes), _EXCESS, at_most=True)}.",
        *_losses(outcomes, many),
    ]


def _fewer(ours: Outcome, theirs: Outcome) -> float:
    return theirs.requests_per_result / ours.requests_per_result


def _worst_excess(outcomes: Outcomes) -> float:
    return max(outcome.excess for case, outcome in outcomes.items() if case.side == OURS)


def _losses(outcomes: Outcomes, size: int) -> list[str]:
    return [
        f"What {outcome.asked} calls at {size} got instead of a result, with"
        f" {TITLES[case.side]}: {_listed(outcome.losses)}."
        for case, outcome in outcomes.items()
        if case.size == size and outcome.losses
    ]


def _listed(losses: Mapping[str, int]) -> str:
    ordered = sorted(losses.items(), key=lambda loss: loss[1], reverse=True)
    return ", ".join(f"{count} × {reason}" for reason, count in ordered)


def _of(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.0%})" if part else "0"


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"
