"""Forwarding a model's log, each line once; pure."""

from __future__ import annotations

import re

_LINE_END = re.compile(r"(\r\n|\n|\r)")
_BAR = re.compile(r"([^|\r\n]*?)\d{1,3}(?:\.\d+)?\s?%\s*\|")  # as tqdm draws it, after a label
_PERCENT = re.compile(r"(?<![\d.])(\d{1,3})(?:\.\d+)?\s?%")


class LogTail:
    """Cuts what is new off a log that grows from look to look."""

    def __init__(self) -> None:
        self._seen = 0

    def new_lines(self, log: str, *, is_complete: bool) -> list[str]:
        """The whole lines that were not there before; the last one too when the log is complete.

        Of a line that was rewritten, and of a progress bar that adds a line for each of its steps,
        only the last state.
        """
        parts = _LINE_END.split(log)
        lines = list(zip(parts[::2], [*parts[1::2], ""], strict=True))
        whole = len(lines) if is_complete else len(lines) - 1
        new = [line for line in lines[self._seen : whole] if line[0].strip()]
        self._seen = max(self._seen, whole)
        return [
            text for n, (text, end) in enumerate(new)
            if n + 1 == len(new) or not _is_replaced(text, end, by=new[n + 1][0])
        ]  # fmt: skip


def _is_replaced(line: str, end: str, by: str) -> bool:
    bar = _bar(line)
    return end == "\r" if bar is None else bar == _bar(by)


def _bar(line: str) -> str | None:
    """The label of the progress bar that a line draws, if it does; empty where it has none."""
    drawn = _BAR.match(line)
    return drawn and drawn[1].strip()


def percent_done(log: str) -> float | None:
    """The last percentage that a model's log states, as progress bars do."""
    stated = [float(number) for number in _PERCENT.findall(log[-2000:])]
    possible = [number for number in stated if number <= 100]
    return possible[-1] if possible else None
