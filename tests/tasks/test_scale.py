"""Many predictions at a time in virtual time, as the benchmark has them."""

from pathlib import Path
from typing import Any

import benchmarks
from benchmarks.rounds import fresh_python, without_prefect_settings

_SCRIPTS = str(Path(benchmarks.__path__[0]).parent)


def _run(program: str, *arguments: str) -> dict[str, Any]:
    env = without_prefect_settings(PYTHONPATH=_SCRIPTS)
    return fresh_python("-m", f"benchmarks.{program}", *arguments, env=env)


def test_of_many_at_a_time_none_is_lost_or_paid_twice_when_things_go_wrong():
    outcome = _run("scale_run", "ours", "50", "1", "faults")

    assert (len(outcome["delays"]), outcome["made"]) == (50, 50)


def test_a_run_says_the_same_each_time():
    first, second = (_run("scale_run", "ours", "10", "1", "calm") for _ in range(2))

    assert first == second


def test_creates_of_three_processes_at_the_limit_are_neither_lost_nor_refused():
    tally = _run("create_run", "three", "standard", "700")

    assert (tally["made"], tally["lost"], tally["refused"]) == (700, 0, 0)
