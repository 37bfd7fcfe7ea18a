"""Command line of `scripts/chaos`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.chaos.benchmark import Outcome, run_chaos
from benchmarks.chaos.figures import measured
from benchmarks.chaos.lives import Life
from benchmarks.chaos.plan import plan
from benchmarks.report import environment, printed, write
from benchmarks.signals import pass_on_no_ignored_signal


def main() -> int:
    """Run it; 1 where something was paid twice, left running or lost."""
    asked = _parser().parse_args()
    pass_on_no_ignored_signal()
    folder = Path(tempfile.mkdtemp(prefix="prefect-replicate-chaos-"))
    started = time.monotonic()
    outcomes = run_chaos(folder, plan(asked.runs, asked.seed), asked.seed, _report)
    measurement = measured(outcomes, time.monotonic() - started)
    print(f"\n{environment()}\n{asked.runs} runs, seed {asked.seed}\n\n{printed(measurement)}")
    _explain(outcomes)
    if asked.write:
        write("chaos", measurement, "scripts/chaos")
    if measurement.is_met:
        shutil.rmtree(folder)
        return 0
    print(f"\nThe logs of workers and servers are in {folder}")
    return 1


def _report(life: Life) -> None:
    deeds = "; ".join(deed.what for deed in life.deeds[1:])
    end = life.problem or life.state
    print(f"{life.planned.name}  {life.planned.fate}  {life.planned.form}: {deeds} -> {end}")
    sys.stdout.flush()


def _explain(outcomes: Sequence[Outcome]) -> None:
    for one in (one for one in outcomes if one.timeline):
        planned = one.life.planned
        print(f"\n{one.asked.prompt}: {planned.fate}, {planned.form}, {one.account}")
        print(f"    {planned}\n    flow run {one.life.flow_run_id}, {one.life.problem}")
        print("\n".join(f"    {line}" for line in one.timeline))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Cancel, kill and retry flow runs at random, and count what was paid.",
    )
    parser.add_argument("--runs", type=int, default=200, help="how many flow runs (200)")
    parser.add_argument("--seed", type=int, default=1, help="of what happens to them, and when (1)")
    parser.add_argument(
        "--write", action="store_true", help="write the result to docs/benchmarks.md"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
