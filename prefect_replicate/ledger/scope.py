"""Which flow run and task run a call belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Token
from dataclasses import dataclass
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


@dataclass(frozen=True)
class RunScope:
    """The run that a call was made in; everything is `None` outside of runs."""

    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
    is_subflow: bool = False
    levels: tuple[Level, ...] = ()
    """The runs of this process that the call stands in, innermost first."""

    @classmethod
    def current(cls) -> RunScope:
        """Read Prefect's run contexts; to be called where the user's code runs."""
        task, flow = TaskRunContext.get(), FlowRunContext.get()
        flow_run = flow.flow_run if flow else None
        return cls(
            flow_run_id=flow_run.id if flow_run else task.task_run.flow_run_id if task else None,
            task_run_id=task.task_run.id if task else None,
            is_subflow=flow_run is None or flow_run.parent_task_run_id is not None,
            levels=tuple(_levels()),
        )

    @property
    def is_recorded(self) -> bool:
        """Whether there is a run that a record could belong to."""
        return self.flow_run_id is not None or self.task_run_id is not None

    @property
    def own_id(self) -> UUID | None:
        return self.flow_run_id or self.task_run_id


def _levels() -> Iterator[Level]:
    task_runs = [one.task_run for one in _enclosing(TaskRunContext.get())]
    flow_runs = [one.flow_run for one in _enclosing(FlowRunContext.get()) if one.flow_run]
    for flow_run in flow_runs:
        own = (one for one in task_runs if one.flow_run_id == flow_run.id)
        yield from (Level(one.id, one.run_count) for one in own)
        yield Level(flow_run.id, flow_run.run_count)
    if not flow_runs:
        yield from (Level(one.id, one.run_count) for one in task_runs)


def _enclosing(context: Any) -> Iterator[Any]:
    """A run context and those around it, to which Prefect has no other way."""
    while context is not None:
        yield context
        outer = context._token.old_value if context._token else Token.MISSING
        context = None if outer is Token.MISSING else outer


class _Roots(dict[UUID, UUID]):
    """Root flow runs, by flow run."""


async def root_of(scope: RunScope) -> UUID | None:
    """The flow run at the top, whose id stays the same when a parent's retry makes new subflows."""
    if scope.flow_run_id is None or not scope.is_subflow:
        return scope.own_id
    roots = process_state("root flow runs", _Roots)
    if scope.flow_run_id not in roots:
        with as_ledger_error("read the run around a subflow run"):
            roots[scope.flow_run_id] = await _climb(await prefect_client(), scope.flow_run_id)
    return roots[scope.flow_run_id]


async def _climb(client: PrefectClient, flow_run_id: UUID) -> UUID:
    flow_run = await client.read_flow_run(flow_run_id)
    if flow_run.parent_task_run_id is None:
        return flow_run_id
    parent = await client.read_task_run(flow_run.parent_task_run_id)
    return await _climb(client, parent.flow_run_id) if parent.flow_run_id else flow_run_id
