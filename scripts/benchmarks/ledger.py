"""What it costs to write down what is paid, on a real Prefect server."""

from __future__ import annotations

import statistics

from benchmarks.report import Measurement, against
from benchmarks.rounds import fresh_python
from benchmarks.servers import environment_of_servers

_AIM = 3
_MANY, _HOOK_SECONDS = 100, 10.0
_TITLES = {
    "outside": "outside of a flow run, not recorded",
    "within": "in a flow run",
    "retried": "in its retry, which continues with it",
}


def measure(quick: bool) -> Measurement:
    """Generate within a flow run and outside of it in turn, then retry the run."""
    with environment_of_servers() as env:
        rounds = "3" if quick else "40"
        found = fresh_python("-m", "benchmarks.ledger_runs", rounds, str(_MANY), env=env)
    return _reported(found["taken"], found["hook"])


def _reported(taken: dict[str, list[list[float]]], hook: float) -> Measurement:
    medians = {
        way: [statistics.median(one) for one in zip(*taken[way], strict=True)] for way in _TITLES
    }
    more = (medians["within"][0] - medians["outside"][0]) * 1e3
    calls = medians["within"][1] + medians["within"][2]
    return Measurement(
        ("generation", "time to create", "requests to Prefect until then", "and until its end"),
        [
            (title, f"{seconds * 1e3:.0f} ms", f"{before:g}", f"{after:g}")
            for way, title in _TITLES.items()
            for seconds, before, after in [medians[way]]
        ],
        [
            f"Requests to Prefect per generation: {against(calls, _AIM, at_most=True)}.",
            f"Time added before and after the create: {more:.0f} ms.",
            f"Seconds until the hook has canceled {_MANY} running predictions, confirmed and"
            f" recorded: {against(hook, _HOOK_SECONDS, at_most=True)}.",
        ],
    )
