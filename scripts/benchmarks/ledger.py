"""What it costs to write down what is paid, on a real Prefect server."""

from __future__ import annotations

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import Measurement, against
from benchmarks.rounds import fresh_python
from prefect_replicate.demo.prefect_server import prefect_server
from prefect_replicate.emulator import Emulator

_AIM = 3
_MANY, _HOOK_SECONDS = 100, 10.0
_TITLES = {
    "outside": "outside of a flow run, not recorded",
    "within": "in a flow run",
    "retried": "in its retry, which continues with it",
}


def measure(quick: bool) -> Measurement:
    """Generate within a flow run and outside of it in turn, then retry the run."""
    with (
        TemporaryDirectory() as home,
        Emulator() as emulator,
        prefect_server(Path(home)) as server,
    ):
        env = server.env | {
            "REPLICATE_API_TOKEN": emulator.token,
            "REPLICATE_BASE_URL": emulator.base_url,
        }
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
        ("a generation", "until it is created", "Prefect requests by then", "and to its end"),
        [
            (title, f"{seconds * 1e3:.0f} ms", f"{before:g}", f"{after:g}")
            for way, title in _TITLES.items()
            for seconds, before, after in [medians[way]]
        ],
        [
            f"Requests to Prefect for a generation: {against(calls, _AIM, at_most=True)}.",
            f"Added before and after the create: {more:.0f} ms.",
            f"Seconds in which the hook cancels {_MANY} running predictions, each confirmed and"
            f" recorded: {against(hook, _HOOK_SECONDS, at_most=True)}.",
        ],
    )
