"""Figures as tables, on the terminal and in docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

_DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_PACKAGES = ("prefect", "replicate", "prefect-replicate")


@dataclass(frozen=True)
class Measurement:
    """What one benchmark has found."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    findings: Sequence[str]
    """Sentences: the figures that have a target, and what explains the others."""
    is_met: bool = True
    """Whether all targets are met."""


def against(figure: float, target: float, *, at_most: bool) -> str:
    """A figure beside its target, in words."""
    is_met = figure <= target if at_most else figure >= target
    bound = "at most" if at_most else "at least"
    return f"**{figure:.2f}** (target: {bound} {target:g}, {'met' if is_met else 'missed'})"


def printed(measurement: Measurement) -> str:
    """The table, and the findings as a list; reads as plain text and as Markdown."""
    findings = [f"- {finding}" for finding in measurement.findings]
    return "\n".join([_table([measurement.header, *measurement.rows]), "", *findings])


def write(name: str, measurement: Measurement, script: str = "scripts/bench") -> None:
    """Put a measurement between its markers in docs/benchmarks.md."""
    begin, end = f"<!-- begin {name}: {script} writes this -->", f"<!-- end {name} -->"
    generated = f"{begin}\n{printed(measurement)}\n\n{environment()}\n{end}"
    text = _DOCUMENT.read_text("utf-8")
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    changed, count = between.subn(lambda _: generated, text)
    if count != 1:
        raise SystemExit(f"docs/benchmarks.md has {count} places for {name}, not one: {begin}")
    _DOCUMENT.write_text(changed, "utf-8")


def environment() -> str:
    """When and on what it was measured."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    today = datetime.now(timezone.utc).date()
    return f"*{today}, Python {platform.python_version()}, {packages}, {os.cpu_count()} CPUs.*"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    rule = "|".join(["", *("-" * (width + 2) for width in widths), ""])
    return "\n".join([lines[0], rule, *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (f" {cell:<{width}} " for cell, width in zip(cells, widths, strict=True))
    return "|".join(["", *padded, ""])
