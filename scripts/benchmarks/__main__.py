"""Command line of `scripts/bench`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from benchmarks import (
    batch,
    downloads,
    flow_overhead,
    import_time,
    ledger,
    polling,
    rate_limits,
    scale,
)
from benchmarks.report import Measurement, environment, printed, write

_MEASURES: dict[str, Callable[[bool], Measurement]] = {
    "import": import_time.measure,
    "flow": flow_overhead.measure,
    "ledger": ledger.measure,
    "download": downloads.measure,
    "polling": polling.measure,
    "batch": batch.measure,
    "scale": scale.measure,
    "failures": scale.measure_failures,
    "limits": rate_limits.measure,
}


def main() -> int:
    """Run what was asked for; 1 where a target was missed."""
    asked = _parser().parse_args()
    print(environment())
    if asked.quick:
        print("Quick: it runs, but the figures of so few rounds mean nothing.")
    missed = False
    for name in asked.names or _MEASURES:
        measurement = _MEASURES[name](asked.quick)
        print(f"\n{printed(measurement)}", flush=True)
        if not asked.quick:
            write(name, measurement)
            missed = missed or not measurement.is_met
    return int(missed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure the package and write the figures to docs/benchmarks.md.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(_MEASURES)}; all when left out"
    )
    parser.add_argument(
        "--quick", action="store_true", help="only see that it runs: few rounds, nothing written"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
