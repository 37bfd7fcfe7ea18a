"""Forwarding a model's log, each line once; pure."""

from __future__ import annotations

import re

_LINE_END = re.compile(r"\r\n|\n|\r")  # progress bars rewrite their line with a bare \r
_PERCENT = re.compile(r"(?<![\d.])(\d{1,3})(?:\.\d+)?\s?%")


class LogTail:
    """Cuts what is new off a log that grows from look to look."""

    def __init__(self) -> None:
        self._seen = 0

    def new_lines(self, log: str, *, is_complete: bool) -> list[str]:
        """The whole lines that were not there before; the last one too when the log is complete."""
        lines = _LINE_END.split(log)
        whole = len(lines) if is_complete else len(lines) - 1
        new = lines[self._seen : whole]
        self._seen = max(self._seen, whole)
        return [line for line in new if line.strip()]


def percent_done(log: str) -> float | None:
    """The last percentage that a model's log states, as progress bars do."""
    stated = [float(number) for number in _PERCENT.findall(log[-2000:])]
    possible = [number for number in stated if number <= 100]
    return possible[-1] if possible else None
