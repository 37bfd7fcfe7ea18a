"""Which flow run and task run a call belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Token
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.context import FlowRunContext, TaskRunContext

from prefect_replicate.engine import process_state
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client


class Level(NamedTuple):
    """A task run or flow run, in one of its attempts."""

    run_id: UUID
    attempt: int
    began: datetime | None = None
    """Tells apart two executions of one attempt in one process."""


class TimeLimit(NamedTuple):
    """When a run's `timeout_seconds` passes, and whether the run is entered again then."""

    passes_at: datetime
    is_retried: bool


@dataclass(frozen=True)
class RunScope:
    """The run that a call was made in; everything is `None` outside of runs."""

    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
    levels: tuple[Level, ...] = ()
    """The runs that the call stands in and that run in this process, innermost first."""
    flow_runs: tuple[Level, ...] = ()
    """The flow runs that it stands in, as far as this process knows them, innermost first."""
    knows_root: bool = False
    """Whether the last of them is the one at the top."""
    limits: tuple[TimeLimit, ...] = ()
    """Of all runs that it stands in, flow runs last."""

    @classmethod
    def current(cls) -> RunScope:
        """Read Prefect's run contexts; to be called where the user's code runs."""
        task = TaskRunContext.get()
        flow_runs = [one.flow_run for one in _enclosing(FlowRunContext.get()) if one.flow_run]
        if not flow_runs:
            own = task.task_run.flow_run_id if task else None
            return cls(
                own,
                task.task_run.id if task else None,
                levels=tuple(_levels()),
                limits=tuple(_limits()),
            )
        return cls(
            flow_run_id=flow_runs[0].id,
            task_run_id=task.task_run.id if task else None,
            levels=tuple(_levels()),
            flow_runs=tuple(Level(one.id, one.run_count) for one in flow_runs),
            knows_root=flow_runs[-1].parent_task_run_id is None,
            limits=tuple(_limits()),
        )

    def limit_passed(self) -> TimeLimit | None:
        """The limit of the outermost run that has passed, which is the one that counts."""
        now = datetime.now(timezone.utc)
        return next((one for one in reversed(self.limits) if one.passes_at <= now), None)

    @property
    def is_away(self) -> bool:
        """Whether its flow run runs in another process, as that of a task in a Dask worker does."""
        return self.flow_run_id is not None and all(
            one.run_id != self.flow_run_id for one in self.levels
        )

    @property
    def is_recorded(self) -> bool:
        """Whether there is a run that a record could belong to."""
        return self.own_id is not None

    @property
    def own_id(self) -> UUID | None:
        return self.flow_run_id or self.task_run_id


def keep_no_result_of_subflow() -> None:
    """Have the flow run that we are in not persist its result, if it runs inside another one.

    A retry of that one would take the result for the flow that it calls first, second and so on,
    whatever it calls it with. The ledger tells the calls apart.
    """
    context = FlowRunContext.get()
    if context is not None and len(list(_enclosing(context))) > 1:
        context.persist_result = False


class Ancestry(NamedTuple):
    """The flow runs around a call, from its own to the one at the top, and that one's attempt."""

    flow_runs: tuple[UUID, ...]
    attempt: int

    @property
    def root(self) -> UUID:
        """Its id stays the same when a parent's retry makes new subflow runs."""
        return self.flow_runs[-1]


def _levels() -> Iterator[Level]:
    tasks = list(_enclosing(TaskRunContext.get()))
    # A detached flow run is that of a task that another process has sent here, as Dask's do.
    flows = [one for one in _enclosing(FlowRunContext.get()) if one.flow_run and not one.detached]
    for flow in flows:
        own = (one for one in tasks if one.task_run.flow_run_id == flow.flow_run.id)
        yield from (_level(one.task_run, one) for one in own)
        yield _level(flow.flow_run, flow)
    if not flows:
        yield from (_level(one.task_run, one) for one in tasks)


def _level(run: Any, context: Any) -> Level:
    return Level(run.id, run.run_count, context.start_time)


def _limits() -> Iterator[TimeLimit]:
    for context in _enclosing(TaskRunContext.get()):
        yield from _limit(context, context.task, context.task_run)
    for context in _enclosing(FlowRunContext.get()):
        if context.flow and context.flow_run:
            yield from _limit(context, context.flow, context.flow_run)


def _limit(context: Any, definition: Any, run: Any) -> Iterator[TimeLimit]:
    if definition.timeout_seconds:
        passes_at = context.start_time + timedelta(seconds=definition.timeout_seconds)
        yield TimeLimit(passes_at, run.run_count <= (definition.retries or 0))


def _enclosing(context: Any) -> Iterator[Any]:
    """A run context and those around it, to which Prefect has no other way."""
    while context is not None:
        yield context
        outer = context._token.old_value if context._token else Token.MISSING
        context = None if outer is Token.MISSING else outer


class _Ancestries(dict[UUID, Ancestry]):
    """By flow run, for those whose root runs in another process."""


async def ancestry_of(scope: RunScope) -> Ancestry | None:
    """The flow runs around a call; `None` outside of flow runs."""
    if scope.flow_run_id is None:
        return None
    if scope.knows_root:
        return Ancestry(tuple(one.run_id for one in scope.flow_runs), scope.flow_runs[-1].attempt)
    known = process_state("ancestries", _Ancestries)
    if scope.flow_run_id not in known:
        with as_ledger_error("read the run around a subflow run"):
            known[scope.flow_run_id] = await _climb(await prefect_client(), scope.flow_run_id)
    return known[scope.flow_run_id]


async def _climb(client: PrefectClient, flow_run_id: UUID) -> Ancestry:
    flow_run = await client.read_flow_run(flow_run_id)
    if flow_run.parent_task_run_id is not None:
        parent = await client.read_task_run(flow_run.parent_task_run_id)
        if parent.flow_run_id is not None:
            above = await _climb(client, parent.flow_run_id)
            return Ancestry((flow_run_id, *above.flow_runs), above.attempt)
    return Ancestry((flow_run_id,), flow_run.run_count)
