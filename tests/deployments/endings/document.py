"""Writes the outcomes of all cells and stories into docs/failure-semantics.md.

Usage: python -m endings.document RESULTS
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import Measurement, environment, printed

from .cells import CELLS, ORPHANS, Cell
from .labels import DOCUMENT, of_cell, of_story
from .stories import STORIES

_SCRIPT = "scripts/failure-semantics"

Row = dict[str, Any]


def _ending(cell: Cell, row: Row) -> list[str]:
    is_swept = row["ended_by"] == list(ORPHANS)
    return [
        *of_cell(cell),
        " and ".join(row["ended_by"]),
        f"{cell.within:g} s" + (" after its start" if is_swept else ""),
        f"{max(0.0, row['seconds']):.1f}",
        *_counts(row),
    ]


def _counts(row: Row) -> list[str]:
    return [str(row[name]) for name in ("creates", "cancels", "live")]


def _endings(rows: Mapping[str, Row]) -> Measurement:
    header = ["how it ends", "where", "form", "ends by", "within", "measured, s",
              "creates", "cancels", "live after it"]  # fmt: skip
    live = sum(rows[cell.id]["live"] for cell in CELLS)
    paid = sum(rows[cell.id]["creates"] for cell in CELLS)
    found = f"{len(CELLS)} runs that were ended, {paid} predictions, **{live}** left running."
    return Measurement(header, [_ending(cell, rows[cell.id]) for cell in CELLS], [found])


def _continuations(rows: Mapping[str, Row]) -> Measurement:
    header = ["what happens", "where", "then", "creates", "cancels", "live then"]
    shown = [[*of_story(story), *_counts(rows[story.id])] for story in STORIES]
    return Measurement(header, shown, [f"{len(STORIES)} runs that went on."])


def written(text: str, name: str, measurement: Measurement) -> str:
    """The document, with a measurement between its markers."""
    begin, end = f"<!-- begin {name}: {_SCRIPT} writes this -->", f"<!-- end {name} -->"
    generated = f"{begin}\n{printed(measurement)}\n\n{environment()}\n{end}"
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    changed, count = between.subn(lambda _: generated, text)
    if count != 1:
        raise SystemExit(f"{DOCUMENT.name} has {count} places for {name}, not one: {begin}")
    return changed


def main(results: str) -> None:
    rows = {row["id"]: row for row in json.loads(Path(results).read_text("utf-8"))}
    text = written(DOCUMENT.read_text("utf-8"), "endings", _endings(rows))
    DOCUMENT.write_text(written(text, "continuations", _continuations(rows)), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
