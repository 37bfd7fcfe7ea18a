"""Forwarding a model's log, each line once; pure."""

from __future__ import annotations

import re
from itertools import pairwise

_PERCENT = re.compile(r"(?<![\d.])(\d{1,3})(?:\.\d+)?\s?%")
_PROGRESS = re.compile(r"\d\s?%|\d+(?:it|s) \[")
"""Progress bars show a percentage or, like tqdm without a total, `123it [00:03, 40.9it/s]`."""

_MOVING = re.compile(r"(?:[\d?]+(?:[.,:/][\d?]+)*|[\u2500-\u259f#=>\s.-])+")
"""What changes in a progress bar as it moves: numbers, times, and the bar's characters."""


class LogTail:
    """Extracts the new lines of a log that grows from poll to poll."""

    def __init__(self) -> None:
        self._seen = 0
        """The number of complete lines."""
        self._told = ""
        """The last forwarded state of the line after them."""

    def new_lines(self, log: str, *, is_complete: bool) -> list[str]:
        """Return the new lines; the last one too when the log is complete.

        For a line that is overwritten, and a progress bar that adds a line for each of its steps,
        return only the last state.
        """
        lines = log.split("\n")
        whole = len(lines) if is_complete else len(lines) - 1
        if whole < self._seen:  # the log is gone, or shorter than before
            return []
        if not is_complete:
            lines[-1] = lines[-1].rpartition("\r")[0]  # the rest may be incomplete
        states = [_states(line) for line in lines[self._seen :]]
        if states and self._told in states[0]:
            del states[0][: states[0].index(self._told) + 1]
        if not is_complete and states[-1]:
            self._told = states[-1][-1]
        elif whole > self._seen:
            self._told = ""
        self._seen = whole
        return _without_steps([state for line in states for state in line])


def _states(line: str) -> list[str]:
    """Return what is worth reading of an overwritten line: its end, and a bar before that."""
    states = [one for one in line.split("\r") if one.strip()]
    bars_before = [
        state
        for state, following in pairwise(states)
        if _PROGRESS.search(state) and not _PROGRESS.search(following)
    ]
    return [*bars_before, *states[-1:]]


def _without_steps(lines: list[str]) -> list[str]:
    """Return the lines; of each progress bar, only its last line before one that is no bar."""
    left: list[str] = []
    bars: dict[str, str] = {}
    for line in lines:
        if _PROGRESS.search(line):
            kind = _MOVING.sub(" ", line).strip()
            bars.pop(kind, None)
            bars[kind] = line
        else:
            left += [*bars.values(), line]
            bars.clear()
    return [*left, *bars.values()]


def percent_done(log: str) -> float | None:
    """Return the last percentage that a model's log states, as progress bars do."""
    stated = [float(number) for number in _PERCENT.findall(log[-2000:])]
    possible = [number for number in stated if number <= 100]
    return possible[-1] if possible else None
