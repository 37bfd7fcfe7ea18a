"""Assigning the parts of a batch to runs of a deployment, and following the runs to their end."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.context import FlowRunContext
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed

from prefect_replicate.batch.plan import DEFAULT_DEPLOYMENTS, Part, parameters_for
from prefect_replicate.batch.plan import Batch as Asked
from prefect_replicate.batch.prepared import Batch
from prefect_replicate.batch.view import LOOK_SECONDS
from prefect_replicate.batch.work import SIGN_SECONDS
from prefect_replicate.cleanup.hook import cancel_all
from prefect_replicate.engine import Caller
from prefect_replicate.exceptions import ConfigurationError, LedgerError, RunEndedError
from prefect_replicate.ledger.flow_runs import PART_TAG, flow_runs
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client
from prefect_replicate.ledger.scope import RunScope, ancestry_of
from prefect_replicate.lifecycle.creation import keeps

DEAD_SECONDS = 6 * SIGN_SECONDS
"""A run in a running state that shows nothing new for this long counts as dead."""

REPLACEMENTS = 3
"""How many more runs a part gets when its run crashes."""

WAITING = {StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED}
ENDED = {StateType.CANCELLED, StateType.CANCELLING, StateType.CRASHED, StateType.FAILED}


class Step(Enum):
    """The next step for a part."""

    WAIT = auto()
    COLLECT = auto()
    """Its run has done what it could."""
    RESTART = auto()
    """Another run does what is left, as for a part that has not been started."""
    REPLACE = auto()
    """Another run takes the place of one that crashed."""
    DECLARE_DEAD = auto()
    """Its run is set to crashed."""
    GIVE_UP = auto()


def next_step(
    state: StateType, silent_seconds: float, *, is_inherited: bool, worker_timeout: float | None
) -> Step:
    """Decide by the run's state, and by how long it has shown nothing new.

    Args:
        state: State of the run.
        silent_seconds: Seconds since its state or its report has changed.
        is_inherited: Whether an earlier attempt of the batch started it. It may have lost items
            when that attempt ended, which this one has to do.
        worker_timeout: Seconds that a worker may take to get it to run; `None`: no limit.
    """
    if state is StateType.CRASHED:
        return Step.REPLACE
    if state is StateType.COMPLETED:
        return Step.RESTART if is_inherited else Step.COLLECT
    if state in (StateType.FAILED, StateType.CANCELLED):
        return Step.RESTART if is_inherited else Step.GIVE_UP
    # A worker that dies right after it has picked up a run leaves it pending forever.
    limits = {StateType.RUNNING: DEAD_SECONDS, StateType.PENDING: worker_timeout}
    limit = limits.get(state)
    return Step.DECLARE_DEAD if limit is not None and silent_seconds > limit else Step.WAIT


def are_without_worker(states: Collection[StateType]) -> bool:
    """Whether no worker is working on any of the open runs."""
    return bool(states) and all(one in WAITING for one in states)


_REMIND_SECONDS = 60.0
_RUNS_A_REQUEST = 200  # the server refuses more


@dataclass
class _PartRun:
    """A part, and the flow run that works on it."""

    part: Part
    name: str
    """Of its runs, for people."""
    parameters: dict[str, Any]
    runs: list[UUID] = field(default_factory=list[UUID])
    """All its runs so far; the last one works on it now."""
    crashes: int = 0
    is_inherited: bool = False
    """Whether its run had begun before this attempt."""
    state: StateType = StateType.SCHEDULED
    written: int = 0
    """How many facts about it are known."""
    sign_at: float = 0.0
    """When its run last showed something new, by our own clock."""
    is_over: bool = False

    @property
    def run_id(self) -> UUID:
        return self.runs[-1]

    def begin(self, run: FlowRun) -> None:
        """Note the run that works on it from now on."""
        self.runs.append(run.id)
        self.is_inherited = run.start_time is not None
        self.state, self.sign_at = StateType.SCHEDULED, time.monotonic()

    def notice(self, state: StateType, written: int) -> None:
        """Note its run's state, and how many facts about the part are recorded."""
        if state is not self.state or written != self.written:
            self.sign_at = time.monotonic()
        self.state, self.written = state, written


def handing_out(batch: Batch) -> Callable[[Caller], Coroutine[Any, Any, None]]:
    """Bind the work to the current Prefect run."""
    scope, context = RunScope.current(), FlowRunContext.get()
    assert context is not None  # this is a flow
    assert context.flow_run is not None
    whole = context.flow_run.name

    async def work(caller: Caller) -> None:
        part_runs = [
            _PartRun(part, f"{part} of {whole}", parameters_for(batch.asked, part))
            for part in batch.parts
        ]
        ancestry = await ancestry_of(scope)
        assert ancestry is not None  # this is a flow
        around = [one.id for one in ancestry.flow_runs]
        handing = _HandingOut(batch, around, caller, part_runs)
        try:
            await handing.see_through()
        except BaseException as exc:
            await handing.end_runs(is_interrupted=isinstance(exc, asyncio.CancelledError))
            raise

    return work


class _HandingOut:
    def __init__(
        self, batch: Batch, around: Collection[UUID], caller: Caller, part_runs: list[_PartRun]
    ) -> None:
        self._batch = batch
        self._around = around
        self._caller = caller
        self._part_runs = part_runs
        self._without_worker_since: float | None = None
        self._reminded_at = time.monotonic()

    @property
    def _open(self) -> list[_PartRun]:
        return [one for one in self._part_runs if not one.is_over]

    async def see_through(self) -> None:
        if not self._part_runs:
            return
        deployment = await self._deployment()
        earlier = await self._earlier_runs()
        for part_run in self._part_runs:
            await self._begin(part_run, earlier[part_run.part.key], deployment)
        while self._open:
            await asyncio.sleep(LOOK_SECONDS)
            await self._batch.view.look(self._caller)
            try:
                await self._look(deployment)
            except LedgerError as exc:
                self._say("warning", str(exc))

    async def _deployment(self) -> DeploymentResponse:
        client, asked = await prefect_client(), self._batch.asked
        own = self._batch.scope.deployment_id if asked.deployment is None else None
        name = asked.deployment or DEFAULT_DEPLOYMENTS[asked.FLOW]
        try:
            with as_ledger_error(f"read the deployment {own or name!r}"):
                if own is not None:
                    deployment = await client.read_deployment(own)
                else:
                    deployment = await client.read_deployment_by_name(name)
        except LedgerError as exc:
            if not isinstance(exc.__cause__, ObjectNotFound | ValueError):
                raise
            raise ConfigurationError(
                f"There is no deployment {name!r} for the batch to use. Deploy the flow"
                f" `prefect_replicate.{asked.FLOW}`, and set `deployment` to its FLOW/DEPLOYMENT"
                " name. Nothing was paid."
            ) from exc
        _check_flow_of(deployment, asked, self._part_runs[0])
        return deployment

    async def _earlier_runs(self) -> defaultdict[str, list[FlowRun]]:
        """Return the runs that earlier attempts of the batch started, by key of their part."""
        keys = [one.part.key for one in self._part_runs]
        found: defaultdict[str, list[FlowRun]] = defaultdict(list)
        for start in range(0, len(keys), _RUNS_A_REQUEST):
            chosen = keys[start : start + _RUNS_A_REQUEST]
            for run in await flow_runs(FlowRunFilter(tags=FlowRunFilterTags(any_=chosen))):
                for key in {*chosen} & {*run.tags}:
                    found[key].append(run)
        return found

    async def _begin(
        self, part_run: _PartRun, earlier: list[FlowRun], deployment: DeploymentResponse
    ) -> None:
        part_run.runs = [run.id for run in earlier if _is_over(run)]
        going_on = [run for run in earlier if not _is_over(run)]
        if going_on:
            self._noted(part_run, going_on[0])
        else:
            await self._start(part_run, deployment)

    async def _start(self, part_run: _PartRun, deployment: DeploymentResponse) -> None:
        """Start a run for a part; the part's key lets a retry find the same run."""
        try:
            with as_ledger_error(f"start a run of {deployment.name}"):
                run = await arun_deployment(
                    deployment.id,
                    client=await prefect_client(),
                    parameters=part_run.parameters,
                    timeout=0,
                    idempotency_key=f"{part_run.part.key}-{len(part_run.runs) + 1}",
                    flow_run_name=part_run.name,
                    tags=[PART_TAG, part_run.part.key],
                )
        except LedgerError as exc:
            if isinstance(exc.__cause__, httpx.HTTPStatusError):
                _check_accepted(exc.__cause__, deployment.name)
            raise
        self._noted(part_run, run)

    def _noted(self, part_run: _PartRun, run: FlowRun) -> None:
        part_run.begin(run)
        self._batch.view.workers[part_run.part.key] = str(run.id)

    async def _look(self, deployment: DeploymentResponse) -> None:
        states = await _states_of({*self._around, *(one.run_id for one in self._open)})
        if any(states[one].type in ENDED for one in self._around if one in states):
            raise RunEndedError("The flow run was ended while other runs worked on its batch.")
        for part_run in self._open:
            state = states.get(part_run.run_id)
            if state is None:
                self._give_up(part_run, "was deleted")
            else:
                await self._judge(part_run, state, deployment)
        await self._look_for_workers(deployment)

    async def _judge(
        self, part_run: _PartRun, state: State[Any], deployment: DeploymentResponse
    ) -> None:
        view = self._batch.view
        part_run.notice(state.type, view.log_of(part_run.part).next)
        step = next_step(
            state.type,
            view.looked_at - part_run.sign_at,
            is_inherited=part_run.is_inherited,
            worker_timeout=self._batch.asked.worker_timeout,
        )
        if step is Step.COLLECT:
            self._give_up(part_run, "has completed, but did not record the outcome")
        elif step is Step.GIVE_UP:
            self._give_up(part_run, _standing(state))
        elif step is Step.RESTART:
            await self._restart(part_run, deployment)
        elif step is Step.REPLACE:
            await self._replace(part_run, state, deployment)
        elif step is Step.DECLARE_DEAD:
            why = f"No sign of life for {view.looked_at - part_run.sign_at:.0f} s"
            await _set_state(part_run.run_id, Crashed(message=why))

    async def _restart(self, part_run: _PartRun, deployment: DeploymentResponse) -> None:
        view = self._batch.view
        await view.read()
        done = {one.number for one in view.outcomes if one.state == "succeeded"}
        part_run.is_over = done.issuperset(item.number for item in part_run.part.items)
        if not part_run.is_over:
            await self._start(part_run, deployment)

    def _give_up(self, part_run: _PartRun, what: str) -> None:
        part_run.is_over = True
        why = f"flow run {part_run.run_id} ({part_run.part}) {what}".rstrip(".")
        self._batch.view.lose(part_run.part, f"{why}.")

    async def _replace(
        self, part_run: _PartRun, state: State[Any], deployment: DeploymentResponse
    ) -> None:
        part_run.crashes += 1
        if part_run.crashes <= REPLACEMENTS:
            message = f"Flow run {part_run.run_id} ({part_run.part}) {_standing(state)}"
            self._say("warning", f"{message}: starting another in its place")
            await self._start(part_run, deployment)
            return
        self._give_up(part_run, f"{_standing(state)}, as were the {REPLACEMENTS} before it")
        for run_id in part_run.runs:
            await cancel_all(self._caller, run_id, self._batch.logger)

    async def _look_for_workers(self, deployment: DeploymentResponse) -> None:
        now = time.monotonic()
        if not are_without_worker([one.state for one in self._open]):
            self._without_worker_since = None
            return
        last_sign = max(one.sign_at for one in self._part_runs)
        self._without_worker_since = max(self._without_worker_since or now, last_sign)
        limit, waited = self._batch.asked.worker_timeout, now - self._without_worker_since
        if limit is not None and waited > limit:
            for part_run in self._open:
                await _set_state(part_run.run_id, Cancelling())
                self._give_up(
                    part_run,
                    f"was not picked up within {limit:.0f} s by {_who(deployment)}, and retry the"
                    " run",
                )
        elif now - self._reminded_at > _REMIND_SECONDS:
            self._reminded_at = now
            runs = f"{len(self._open)} runs are still waiting for {_who(deployment)}"
            self._say("info", f"After {waited:.0f} s, {runs}")

    async def end_runs(self, *, is_interrupted: bool) -> None:
        """Cancel all open runs, since nothing will collect their results."""
        try:
            if is_interrupted and keeps(self._batch.asked.on_crash):
                states = await _states_of(self._around)
                if all(one.type is not StateType.CANCELLING for one in states.values()):
                    return  # a crash, which they notice, and then leave their predictions running
        except LedgerError as exc:  # it may be a crash
            self._say("warning", str(exc))
            return
        for part_run in self._open:
            if part_run.runs:
                try:
                    await _set_state(part_run.run_id, Cancelling())
                except LedgerError as exc:  # which does not keep the others
                    self._say("warning", str(exc))

    def _say(self, level: str, message: str) -> None:
        log = getattr(self._batch.logger, level)
        self._caller.tell(lambda: log("%s", message))


def _check_flow_of(deployment: DeploymentResponse, asked: Asked, part_run: _PartRun) -> None:
    hidden = {*asked.ADVANCED, *asked.NOT_IN_FORMS}
    known: dict[str, Any] = (deployment.parameter_openapi_schema or {}).get("properties", {})
    unknown = sorted(({"advanced", *part_run.parameters} - hidden) - known.keys())
    if known and unknown:
        raise ConfigurationError(
            f"Deployment {deployment.name!r} does not run this version of the flow"
            f" `prefect_replicate.{asked.FLOW}`: it has no parameter {unknown[0]!r}. Nothing was"
            " paid."
        )


def _check_accepted(refusal: httpx.HTTPStatusError, name: str) -> None:
    if refusal.response.status_code in (409, 422):
        raise ConfigurationError(
            f"Deployment {name!r} does not accept the parameters of a part:"
            f" {refusal.response.text[:300]}"
        ) from refusal


def _standing(state: State[Any]) -> str:
    message = (state.message or "").splitlines()
    return f"is {state.name}" + (f" ({message[0].rstrip('.')})" if message else "")


def _who(deployment: DeploymentResponse) -> str:
    pool = deployment.work_pool_name
    if pool is None:
        return f"a process that serves `{deployment.name}`; start one"
    return f"a worker; start one with `prefect worker start --pool {pool}`"


def _is_over(run: FlowRun) -> bool:
    return run.state is not None and run.state.type in ENDED | {StateType.COMPLETED}


async def _states_of(ids: Collection[UUID]) -> dict[UUID, State[Any]]:
    found: dict[UUID, State[Any]] = {}
    left = list(ids)
    for start in range(0, len(left), _RUNS_A_REQUEST):
        chosen = FlowRunFilterId(any_=left[start : start + _RUNS_A_REQUEST])
        runs = await flow_runs(FlowRunFilter(id=chosen))
        found |= {run.id: run.state for run in runs if run.state is not None}
    return found


async def _set_state(run_id: UUID, state: State[Any]) -> None:
    # Without `force`: a run that has not begun is canceled at once, and one that has just completed
    # keeps its state.
    client = await prefect_client()
    with as_ledger_error("end a run of the batch"):
        await client.set_flow_run_state(run_id, state)
