"""How long `import prefect_replicate` takes beside what its user imports anyway."""

from __future__ import annotations

import statistics
from tempfile import TemporaryDirectory

from benchmarks.report import Measurement, against
from benchmarks.rounds import fresh_python, interleaved, ratio, without_prefect_settings

_TARGET = 1.10
_OURS = "import prefect_replicate"
_BASE = "import prefect, replicate"
_USED = "import prefect, replicate; from prefect import flow, task"
_ALL = "from prefect_replicate import generate_video"
_STATEMENTS = (_BASE, _USED, _OURS, _ALL)
_TIMED = """
import json, sys, time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
packages = sorted({{name.partition(".")[0] for name in sys.modules}})
print(json.dumps([wall, cpu, packages]))
"""


def measure(quick: bool) -> Measurement:
    """Import in fresh interpreters, in turn."""
    with TemporaryDirectory() as home:
        env = without_prefect_settings(PREFECT_HOME=home)

        def once(statement: str) -> tuple[float, float, list[str]]:
            return fresh_python("-c", _TIMED.format(statement=statement), env=env)

        interleaved(_STATEMENTS, 1, once)  # writes the byte code, fills the disk cache
        taken = interleaved(_STATEMENTS, 2 if quick else 11, once)
    walls = {name: [wall for wall, _, _ in runs] for name, runs in taken.items()}
    cpus = {name: [cpu for _, cpu, _ in runs] for name, runs in taken.items()}
    rows = [
        (
            f"`{name}`",
            f"{statistics.median(walls[name]):.2f} s",
            f"{statistics.median(cpus[name]):.2f} s",
            f"{ratio(walls[name], walls[_BASE]):.3f}",
            f"{ratio(cpus[name], cpus[_BASE]):.3f}",
        )
        for name in _STATEMENTS
    ]
    # An import waits for nothing; on a busy machine its wall time is that of the neighbours.
    total = ratio(cpus[_OURS], cpus[_BASE])
    ours = set(taken[_ALL][0][2]) - set(taken[_USED][0][2]) - {"prefect_replicate"}
    brought = ", ".join(f"`{name}`" for name in sorted(ours)) or "nothing"
    return Measurement(
        ("statement", "median time", "median CPU", "time over the first", "CPU over the first"),
        rows,
        [
            f"CPU time of `{_OURS}` over the first: {against(total, _TARGET, at_most=True)}.",
            f"CPU time of `{_ALL}` over the second: {ratio(cpus[_ALL], cpus[_USED]):.2f}.",
            f"Packages that only this package loads: {brought}.",
        ],
        is_met=total <= _TARGET,
    )
