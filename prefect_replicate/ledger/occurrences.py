"""Telling apart equal calls of one run, and knowing a retried call again."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from prefect_replicate.engine import process_state
from prefect_replicate.ledger.record import Claim
from prefect_replicate.ledger.scope import Ancestry, Level, RunScope

_Arrival = tuple[UUID, int]
"""From which run a call comes to the run around it, and as which of its equal calls."""


class _Occurrences:
    def __init__(self) -> None:
        self._counts: Counter[tuple[Level, str]] = Counter()
        self._numbers: dict[tuple[Level, str, _Arrival], int] = {}

    def number(self, level: Level, call: str, arrival: _Arrival | None) -> int:
        if arrival is None:
            return self._next(level, call)
        slot = (level, call, arrival)
        if slot not in self._numbers:
            self._numbers[slot] = self._next(level, call)
        return self._numbers[slot]

    def _next(self, level: Level, call: str) -> int:
        self._counts[level, call] += 1
        return self._counts[level, call]


def claim_of(scope: RunScope, ancestry: Ancestry | None, call: str) -> Claim:
    """Name a call by its number among the equal ones of the outermost run in this process.

    It is numbered among the equal calls of each run that it stands in, from the inside out. An
    attempt begins with 1 again, and keeps its run's numbers in the run around it, so that a task
    or subflow that is retried at any depth gets the numbers that it had. Which of several equal
    calls comes first does not matter: they are interchangeable.

    The outermost run in a process is the one at the top, but for subflows that are deployments and
    for tasks that were sent to another process, which are told apart by their own ids.
    """
    number = number_of(scope, call)
    outermost = scope.levels[-1].run_id if scope.levels else scope.own_id
    return Claim(str(ancestry.attempt if ancestry else 1), f"{outermost}/{number}")


def number_of(scope: RunScope, call: str) -> int:
    """Number a call among the equal ones of the outermost run in this process, from 1."""
    known = process_state("occurrences", _Occurrences)
    number, arrival = 1, None
    for level in scope.levels:
        number = known.number(level, call, arrival)
        arrival = (level.run_id, number)
    return number
