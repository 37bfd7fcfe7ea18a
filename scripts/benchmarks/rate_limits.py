"""More creates than the account's limit allows at once, beside the official client."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from benchmarks.create_run import CLIENT, ONE, TALLY_TITLES, THREE, Tally
from benchmarks.report import Measurement, against
from benchmarks.rounds import fresh_python, without_prefect_settings
from prefect_replicate.emulator.behaviour import RateLimits

_CREATES: dict[RateLimits, int] = {"standard": 3000, "low-credit": 20}
_FEW_CREATES: dict[RateLimits, int] = {"standard": 700, "low-credit": 3}
_EXCESS = 1.05
_REFUSED = 0.01


class _Case(NamedTuple):
    limits: RateLimits
    creates: int
    way: str


def measure(quick: bool) -> Measurement:
    """Create 3000 on an account in good standing, and 20 on one that is low on credit."""
    cases = [
        _Case(limits, count, way)
        for limits, count in (_FEW_CREATES if quick else _CREATES).items()
        for way in TALLY_TITLES
    ]
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        tallies = dict(zip(cases, workers.map(_tally, cases), strict=True))
    header = ("account", "creates", "method", "made", "lost", "time over the limit's", "429s")
    findings = _findings(tallies)
    return Measurement(
        header,
        [_row(case, tally) for case, tally in tallies.items()],
        findings,
        is_met=not any("missed" in finding for finding in findings),
    )


def _tally(case: _Case) -> Tally:
    arguments = (case.way, case.limits, str(case.creates))
    env = without_prefect_settings()
    return Tally(**fresh_python("-m", "benchmarks.create_run", *arguments, env=env))


def _row(case: _Case, tally: Tally) -> Sequence[str]:
    return (
        case.limits.replace("-", " "),
        f"{case.creates}",
        TALLY_TITLES[case.way],
        f"{tally.made}",
        f"{tally.lost}",
        "–" if tally.lost else f"{tally.excess:.3f}",
        f"{tally.refused} ({tally.refused / case.creates:.1%})",
    )


def _findings(tallies: dict[_Case, Tally]) -> list[str]:
    ours = {case: tally for case, tally in tallies.items() if case.way != CLIENT}
    lost = sum(tally.lost + abs(tally.made - case.creates) for case, tally in ours.items())
    return [
        f"Creates of this package that were lost or made twice: **{lost}** (target: 0,"
        f" {'missed' if lost else 'met'}).",
        *(sentence for way in (ONE, THREE) for sentence in _targets(way, ours)),
    ]


def _targets(way: str, ours: dict[_Case, Tally]) -> list[str]:
    return [
        f"{case.creates} creates, {TALLY_TITLES[way]}: time over the limit's own"
        f" {against(tally.excess, _EXCESS, at_most=True)}, 429s over creates"
        f" {against(tally.refused / case.creates, _REFUSED, at_most=True)}."
        for case, tally in ours.items()
        if case.way == way and case.limits == "standard"
    ]
