"""Handing the parts of a batch to runs of a deployment, and seeing them through."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed

from prefect_replicate.cleanup.hook import cancel_all
from prefect_replicate.engine import Caller, Work
from prefect_replicate.exceptions import ConfigurationError, LedgerError, RunEndedError
from prefect_replicate.flows.batch import Part
from prefect_replicate.flows.batch_order import Batch, parameters_for
from prefect_replicate.flows.batch_view import LOOK_SECONDS
from prefect_replicate.flows.part_run import (
    ENDED,
    REPLACEMENTS,
    Step,
    are_without_worker,
    next_step,
)
from prefect_replicate.ledger.flow_runs import PART_TAG, flow_runs
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client
from prefect_replicate.ledger.scope import RunScope, ancestry_of
from prefect_replicate.lifecycle.creation import keeps

_REMIND_SECONDS = 60.0
_RUNS_A_REQUEST = 200  # the server refuses more


@dataclass
class _Errand:
    """A part, and the flow run that does it."""

    part: Part
    parameters: dict[str, Any]
    runs: list[UUID] = field(default_factory=list[UUID])
    """All that it has had, the last of which does it now."""
    crashes: int = 0
    is_inherited: bool = False
    """Whether an earlier attempt has got it to run."""
    state: StateType = StateType.SCHEDULED
    shown: datetime | None = None
    sign_at: float = 0.0
    """When its run was last seen to do something, by our own clock."""
    is_over: bool = False

    @property
    def name(self) -> str:
        """Of its runs, by which a retry finds them."""
        return f"{self.part} of {self.part.key}"

    @property
    def run_id(self) -> UUID:
        return self.runs[-1]

    def begin(self, run: FlowRun) -> None:
        """Take note of the run that does it from now on."""
        self.runs.append(run.id)
        self.is_inherited = run.start_time is not None
        self.state, self.shown, self.sign_at = StateType.SCHEDULED, None, time.monotonic()

    def notice(self, state: StateType, shown: datetime | None) -> None:
        """Take note of how its run stands, and of when its board was last changed."""
        if state is not self.state or shown != self.shown:
            self.sign_at = time.monotonic()
        self.state, self.shown = state, shown


def handing_out(batch: Batch) -> Work[None]:
    """Bind the work to the Prefect run that we are in."""
    scope = RunScope.current()

    async def work(caller: Caller) -> None:
        errands = [_Errand(part, parameters_for(batch.order, part)) for part in batch.parts]
        ancestry = await ancestry_of(scope)
        assert ancestry is not None  # this is a flow
        around = [one.id for one in ancestry.flow_runs]
        handing = _HandingOut(batch, around, caller, errands)
        try:
            await handing.see_through()
        except BaseException as exc:
            await handing.end_runs(is_interrupted=isinstance(exc, asyncio.CancelledError))
            raise

    return work


class _HandingOut:
    def __init__(
        self, batch: Batch, around: Collection[UUID], caller: Caller, errands: list[_Errand]
    ) -> None:
        self._batch = batch
        self._around = around
        self._caller = caller
        self._errands = errands
        self._without_worker_since: float | None = None
        self._reminded_at = time.monotonic()

    @property
    def _open(self) -> list[_Errand]:
        return [one for one in self._errands if not one.is_over]

    async def see_through(self) -> None:
        if not self._errands:
            return
        deployment = await self._deployment()
        earlier = await self._earlier_runs()
        for errand in self._errands:
            await self._begin(errand, earlier[errand.name], deployment)
        while self._open:
            await asyncio.sleep(LOOK_SECONDS)
            await self._batch.view.look(self._caller)
            try:
                await self._look(deployment)
            except LedgerError as exc:
                self._say("warning", str(exc))

    async def _deployment(self) -> DeploymentResponse:
        client, name = await prefect_client(), self._batch.order.deployment
        try:
            with as_ledger_error(f"read the deployment {name!r}"):
                deployment = await client.read_deployment_by_name(name)
        except LedgerError as exc:
            if not isinstance(exc.__cause__, ObjectNotFound | ValueError):
                raise
            raise ConfigurationError(
                f"There is no deployment {name!r} to hand the batch to. Deploy the flow"
                " `prefect_replicate.generate_videos`, and name it as FLOW/DEPLOYMENT in"
                " `deployment`. Nothing was paid."
            ) from exc
        _check_flow_of(deployment, name, self._errands[0].parameters)
        return deployment

    async def _earlier_runs(self) -> defaultdict[str, list[FlowRun]]:
        """By name: the runs that earlier attempts of the batch have started."""
        names = [one.name for one in self._errands]
        found: defaultdict[str, list[FlowRun]] = defaultdict(list)
        for start in range(0, len(names), _RUNS_A_REQUEST):
            chosen = FlowRunFilterName(any_=names[start : start + _RUNS_A_REQUEST])
            for run in await flow_runs(FlowRunFilter(name=chosen)):
                found[run.name].append(run)
        return found

    async def _begin(
        self, errand: _Errand, earlier: list[FlowRun], deployment: DeploymentResponse
    ) -> None:
        errand.runs = [run.id for run in earlier if _is_over(run)]
        going_on = [run for run in earlier if not _is_over(run)]
        if going_on:
            errand.begin(going_on[0])
        else:
            await self._start(errand, deployment)

    async def _start(self, errand: _Errand, deployment: DeploymentResponse) -> None:
        """Start a run for a part, whose key has a retry of the request find the same run."""
        try:
            with as_ledger_error(f"start a run of {self._batch.order.deployment}"):
                run = await arun_deployment(
                    deployment.id,
                    client=await prefect_client(),
                    parameters=errand.parameters,
                    timeout=0,
                    idempotency_key=f"{errand.part.key}-{len(errand.runs) + 1}",
                    flow_run_name=errand.name,
                    tags=[PART_TAG],
                )
        except LedgerError as exc:
            if isinstance(exc.__cause__, httpx.HTTPStatusError):
                _check_accepted(exc.__cause__, self._batch.order.deployment)
            raise
        errand.begin(run)

    async def _look(self, deployment: DeploymentResponse) -> None:
        states = await _states_of({*self._around, *(one.run_id for one in self._open)})
        if any(states[one].type in ENDED for one in self._around if one in states):
            raise RunEndedError("The flow run was ended while others worked on its batch.")
        for errand in self._open:
            state = states.get(errand.run_id)
            if state is None:
                self._give_up(errand, "was deleted")
            else:
                await self._judge(errand, state, deployment)
        await self._look_for_workers(deployment)

    async def _judge(
        self, errand: _Errand, state: State[Any], deployment: DeploymentResponse
    ) -> None:
        view = self._batch.view
        errand.notice(state.type, view.changed.get(errand.part.key))
        step = next_step(
            state.type,
            view.looked_at - errand.sign_at,
            is_inherited=errand.is_inherited,
            worker_timeout=self._batch.order.worker_timeout,
        )
        if step is Step.COLLECT:
            self._give_up(errand, "has completed, and does not show what became of it")
        elif step is Step.GIVE_UP:
            self._give_up(errand, _standing(state))
        elif step is Step.RESTART:
            await self._restart(errand, deployment)
        elif step is Step.REPLACE:
            await self._replace(errand, state, deployment)
        elif step is Step.DECLARE_DEAD:
            why = f"It has shown nothing for {view.looked_at - errand.sign_at:.0f} s"
            await _set_state(errand.run_id, Crashed(message=why))

    async def _restart(self, errand: _Errand, deployment: DeploymentResponse) -> None:
        view = self._batch.view
        await view.read()
        done = {one.number for one in view.outcomes if one.state == "succeeded"}
        errand.is_over = done.issuperset(item.number for item in errand.part.items)
        if not errand.is_over:
            await self._start(errand, deployment)

    def _give_up(self, errand: _Errand, what: str) -> None:
        errand.is_over = True
        why = f"flow run {errand.run_id} ({errand.part}) {what}".rstrip(".")
        self._batch.view.lose(errand.part, f"{why}.")

    async def _replace(
        self, errand: _Errand, state: State[Any], deployment: DeploymentResponse
    ) -> None:
        errand.crashes += 1
        if errand.crashes <= REPLACEMENTS:
            message = f"Flow run {errand.run_id} ({errand.part}) {_standing(state)}"
            self._say("warning", f"{message}: another takes its place")
            await self._start(errand, deployment)
            return
        self._give_up(errand, f"{_standing(state)}, as were the {REPLACEMENTS} before it")
        for run_id in errand.runs:
            await cancel_all(self._caller, run_id, self._batch.logger)

    async def _look_for_workers(self, deployment: DeploymentResponse) -> None:
        now = time.monotonic()
        if not are_without_worker([one.state for one in self._open]):
            self._without_worker_since = None
            return
        last_sign = max(one.sign_at for one in self._errands)
        self._without_worker_since = max(self._without_worker_since or now, last_sign)
        limit, waited = self._batch.order.worker_timeout, now - self._without_worker_since
        if limit is not None and waited > limit:
            for errand in self._open:
                await _set_state(errand.run_id, Cancelling())
                self._give_up(errand, f"was not taken within {limit:.0f} s by {_who(deployment)}")
        elif now - self._reminded_at > _REMIND_SECONDS:
            self._reminded_at = now
            runs = f"{len(self._open)} runs wait for {_who(deployment)}"
            self._say("info", f"{runs}, since {waited:.0f} s")

    async def end_runs(self, *, is_interrupted: bool) -> None:
        """Cancel all runs that are not over, since nobody collects what they make."""
        try:
            if is_interrupted and keeps(self._batch.order.on_crash):
                states = await _states_of(self._around)
                if all(one.type is not StateType.CANCELLING for one in states.values()):
                    return  # this is a crash, which they notice, and leave their predictions
            for errand in self._open:
                if errand.runs:
                    await _set_state(errand.run_id, Cancelling())
        except LedgerError as exc:
            self._say("warning", str(exc))

    def _say(self, level: str, message: str) -> None:
        log = getattr(self._batch.logger, level)
        self._caller.tell(lambda: log("%s", message))


def _check_flow_of(deployment: DeploymentResponse, name: str, parameters: dict[str, Any]) -> None:
    known: dict[str, Any] = (deployment.parameter_openapi_schema or {}).get("properties", {})
    unknown = sorted(parameters.keys() - known.keys())
    if known and unknown:
        raise ConfigurationError(
            f"Deployment {name!r} is not one of this version of the flow"
            f" `prefect_replicate.generate_videos`: it has no parameter {unknown[0]!r}. Nothing was"
            " paid."
        )


def _check_accepted(refusal: httpx.HTTPStatusError, name: str) -> None:
    if refusal.response.status_code in (409, 422):
        raise ConfigurationError(
            f"Deployment {name!r} does not take the parameters of a part:"
            f" {refusal.response.text[:300]}"
        ) from refusal


def _standing(state: State[Any]) -> str:
    message = (state.message or "").splitlines()
    return f"is {state.name}" + (f" ({message[0].rstrip('.')})" if message else "")


def _who(deployment: DeploymentResponse) -> str:
    pool = deployment.work_pool_name
    if pool is None:
        return f"a process that serves `{deployment.name}`; start one, and retry the run"
    return f"a worker; start one with `prefect worker start --pool {pool}`, and retry the run"


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
    # Not by force: a run that has not begun is canceled at once, and one that has just completed
    # stays what it is.
    client = await prefect_client()
    with as_ledger_error("end a run of the batch"):
        await client.set_flow_run_state(run_id, state)
