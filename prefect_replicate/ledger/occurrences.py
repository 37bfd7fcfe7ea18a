"""Telling apart equal calls of one run, and knowing a retried call again."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

from prefect_replicate.engine import process_state
from prefect_replicate.ledger.scope import RunScope


class _Occurrences:
    def __init__(self) -> None:
        self.counts: Counter[Any] = Counter()
        self.by_task_run: dict[tuple[UUID, str], int] = {}


def occurrence_of(scope: RunScope, call: str) -> int:
    """Number a call among the equal ones of this attempt of its flow run.

    Equal calls are interchangeable, so the order in which they arrive does not matter. A task that
    Prefect retries keeps its task run and therefore its number.
    """
    known = process_state("occurrences", _Occurrences)
    if scope.task_run_id is None:
        return _next(known, scope, call)
    memo = (scope.task_run_id, call)
    if memo not in known.by_task_run:
        known.by_task_run[memo] = _next(known, scope, call)
    return known.by_task_run[memo]


def _next(known: _Occurrences, scope: RunScope, call: str) -> int:
    key = (scope.own_id, scope.attempt, call)
    known.counts[key] += 1
    return known.counts[key]
