"""The runs that a call is made in, and its number among their equal calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextvars import Token
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple
from uuid import UUID

from prefect.context import FlowRunContext, TaskRunContext

from prefect_replicate.engine import Recent, process_state
from prefect_replicate.ledger.facts import Ancestor, Claim
from prefect_replicate.ledger.flow_runs import OPEN_TAG, lives_by_itself
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client


class Level(NamedTuple):
    """A task run or flow run, in one of its attempts."""

    run_id: UUID
    attempt: int
    began: datetime | None = None
    """Distinguishes two executions of one attempt in one process."""


class TimeLimit(NamedTuple):
    """When a run's `timeout_seconds` passes, and whether the run is then retried."""

    passes_at: datetime
    is_retried: bool


class Ancestry(NamedTuple):
    """The flow runs around a call, from its own to the top, and the top one's attempt and tags."""

    flow_runs: tuple[Ancestor, ...]
    attempt: int
    tags: tuple[str, ...]

    @property
    def root(self) -> UUID:
        """Its id stays the same when a parent's retry makes new subflow runs."""
        return self.flow_runs[-1].id

    @property
    def is_tagged(self) -> bool:
        return OPEN_TAG in self.tags


@dataclass(frozen=True)
class RunScope:
    """The runs that a call is made in; all fields are empty outside of runs."""

    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
    levels: tuple[Level, ...] = ()
    """Those that run in this process, innermost first."""
    ancestry: Ancestry | None = None
    """The flow runs around the call, if this process knows them up to the one at the top."""
    limits: tuple[TimeLimit, ...] = ()
    """The time limits of all of them, flow runs last."""
    deployment_id: UUID | None = None
    """The flow run's deployment, if any: its parameters then come from whoever started it."""
    outermost: Any = None
    """The context of the outermost run in this process."""

    @classmethod
    def current(cls) -> RunScope:
        """Read Prefect's run contexts; call it where the user's code runs."""
        tasks, flows = list(_enclosing(TaskRunContext.get())), list[Any]()
        levels, limits = list[Level](), list[TimeLimit]()
        for context in _enclosing(FlowRunContext.get()):
            if context.flow_run:
                flows.append(context)
        left = tasks
        for context in flows:
            if not context.detached:  # otherwise, another process sent it with a task, as Dask does
                id = context.flow_run.id
                levels += [
                    _level(one.task_run, one) for one in left if one.task_run.flow_run_id == id
                ]
                left = [one for one in left if one.task_run.flow_run_id != id]
                levels.append(_level(context.flow_run, context))
        if not levels:
            levels = [_level(one.task_run, one) for one in tasks]
        for context in tasks:
            _add_limit(limits, context, context.task, context.task_run)
        for context in flows:
            _add_limit(limits, context, context.flow, context.flow_run)
        top = flows[-1].flow_run if flows else None
        ancestry = None
        if top is not None and top.parent_task_run_id is None:
            own = tuple([Ancestor(one.flow_run.id, lives_by_itself(one.flow_run)) for one in flows])
            ancestry = Ancestry(own, top.run_count, tuple(top.tags))
        task = tasks[0].task_run if tasks else None
        return cls(
            flow_run_id=flows[0].flow_run.id if flows else task and task.flow_run_id,
            task_run_id=task and task.id,
            levels=tuple(levels),
            ancestry=ancestry,
            limits=tuple(limits),
            deployment_id=flows[0].flow_run.deployment_id if flows else None,
            outermost=flows[-1] if flows else tasks[-1] if tasks else None,
        )

    @property
    def is_deployed(self) -> bool:
        return self.deployment_id is not None

    def limit_passed(self) -> TimeLimit | None:
        """Return the outermost limit that has passed, which is the one that counts."""
        now = datetime.now(timezone.utc)
        return next((one for one in reversed(self.limits) if one.passes_at <= now), None)

    @property
    def is_away(self) -> bool:
        """Whether its flow run runs in another process, as for a task in a Dask worker."""
        return self.flow_run_id is not None and self.flow_run_id not in [
            one.run_id for one in self.levels
        ]

    @property
    def is_in_run(self) -> bool:
        """Whether there is a run, hence a Prefect API."""
        return self.flow_run_id is not None or self.task_run_id is not None


def keep_result_if_deployed() -> None:
    """Make the current flow run persist its result if it is a deployment's own run.

    The caller that started that run gets the result from there. A flow that runs in another flow's
    process must not persist its result: Prefect matches a retry's subflows by call order, whatever
    their parameters, and could return the wrong result. The ledger distinguishes the calls.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    if len(list(_enclosing(context))) > 1:
        context.persist_result = False
    elif context.flow_run.deployment_id and context.flow and context.flow.persist_result is None:
        context.persist_result = True


def _level(run: Any, context: Any) -> Level:
    return Level(run.id, run.run_count, context.start_time)


def _add_limit(limits: list[TimeLimit], context: Any, definition: Any, run: Any) -> None:
    if definition is not None and definition.timeout_seconds:
        passes_at = context.start_time + timedelta(seconds=definition.timeout_seconds)
        limits.append(TimeLimit(passes_at, run.run_count <= (definition.retries or 0)))


def _enclosing(context: Any) -> Iterator[Any]:
    """Yield a run context and those around it.

    Prefect has no public access to them. If this one stops working, only the innermost is known:
    the flow runs around it are then read from the API, and equal calls are distinguished only
    within each subflow.
    """
    while context is not None:
        yield context
        outer = getattr(getattr(context, "_token", None), "old_value", Token.MISSING)
        context = None if outer is Token.MISSING else outer


class _Ancestries(Recent[UUID, Ancestry]):
    """By flow run, for those whose root runs in another process."""


async def ancestry_of(scope: RunScope) -> Ancestry | None:
    """Return the flow runs around a call; `None` outside of flow runs.

    Raises:
        LedgerError: They could not be read from Prefect's API.
    """
    if scope.ancestry is not None or scope.flow_run_id is None:
        return scope.ancestry
    known = process_state("ancestries", _Ancestries)
    if scope.flow_run_id not in known:
        with as_ledger_error("read the parent of a subflow run"):
            known[scope.flow_run_id] = await _climb(scope.flow_run_id)
    return known[scope.flow_run_id]


def known_flow_runs(scope: RunScope) -> tuple[UUID, ...]:
    """Return the flow runs around a call, innermost first, as far as this process knows them."""
    if scope.flow_run_id is None:
        return ()
    known = process_state("ancestries", _Ancestries)
    ancestry = scope.ancestry or known.get(scope.flow_run_id)
    return tuple([one.id for one in ancestry.flow_runs]) if ancestry else (scope.flow_run_id,)


async def _climb(flow_run_id: UUID) -> Ancestry:
    client = await prefect_client()
    flow_run = await client.read_flow_run(flow_run_id)
    own = Ancestor(flow_run_id, lives_by_itself(flow_run))
    if flow_run.parent_task_run_id is not None:
        parent = await client.read_task_run(flow_run.parent_task_run_id)
        if parent.flow_run_id is not None:
            above = await _climb(parent.flow_run_id)
            return above._replace(flow_runs=(own, *above.flow_runs))
    return Ancestry((own,), flow_run.run_count, tuple(flow_run.tags))


class Occurrences:
    """Distinguishes equal calls of one run, and recognizes a retried call.

    A call is numbered among the equal calls of each run around it, from the inside out. An attempt
    starts at 1 again, and keeps its run's numbers in the run around it. So a task or subflow that
    is retried, at any depth, gets its old numbers. The order of equal calls does not matter: they
    are interchangeable.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[Level, str]] = Counter()
        self._numbers: dict[tuple[Level, str, UUID, int], int] = {}

    def number(self, levels: tuple[Level, ...], call: str) -> int:
        """Number a call among the equal ones of the outermost run in this process, from 1."""
        number, inner = 1, None
        for level in levels:
            arrival = inner and (level, call, inner.run_id, number)
            if arrival is not None and arrival in self._numbers:
                number = self._numbers[arrival]
            else:
                self._counts[level, call] += 1
                number = self._counts[level, call]
                if arrival is not None:
                    self._numbers[arrival] = number
            inner = level
        return number

    def claim(self, scope: RunScope, attempt: int, call: str) -> Claim:
        """Name a call by its number among the equal ones of the outermost run in this process.

        That run is the one at the top, except for subflows that are deployments and for tasks that
        were sent to another process: their own ids distinguish these.
        """
        outermost = scope.levels[-1].run_id if scope.levels else scope.flow_run_id
        return Claim(str(attempt), f"{outermost}/{self.number(scope.levels, call)}")
