"""Handing the parts of a batch to runs of a deployment, and seeing them through."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed

from prefect_replicate.engine import Caller, Work
from prefect_replicate.exceptions import ConfigurationError, LedgerError, RunEndedError
from prefect_replicate.flows.batch import Part
from prefect_replicate.flows.batch_order import Batch, parameters_for
from prefect_replicate.flows.batch_part import SIGN_SECONDS
from prefect_replicate.flows.batch_view import LOOK_SECONDS
from prefect_replicate.flows.hooks import cancel_all
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client
from prefect_replicate.ledger.scope import RunScope

DEAD_SECONDS = 6 * SIGN_SECONDS
"""A run that is said to be running, and changes nothing for so long, counts as dead."""

REPLACEMENTS = 3
"""How many more runs a part gets when its run crashes."""

_REMIND_SECONDS = 60.0
_RUNS_A_REQUEST = 200  # the server refuses more
_WAITING = {StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED}
_ENDED = {StateType.CANCELLING, StateType.CANCELLED, StateType.CRASHED, StateType.FAILED}


@dataclass
class _Errand:
    """A part, and the flow run that does it."""

    part: Part
    name: str
    parameters: dict[str, Any]
    runs: int = 0
    """How many it has had, also in earlier attempts of the run that hands it out."""
    crashes: int = 0
    run: FlowRun | None = None
    is_inherited: bool = False
    """Whether its run was started by an earlier attempt."""
    state: State[Any] | None = None
    shown: datetime | None = None
    sign_at: float = 0.0
    """When its run was last seen to do something, by our own clock."""
    is_over: bool = False

    @property
    def is_waiting(self) -> bool:
        return not self.is_over and (self.state is None or self.state.type in _WAITING)

    @property
    def is_running(self) -> bool:
        return not self.is_over and not self.is_waiting

    @property
    def run_id(self) -> UUID:
        assert self.run is not None
        return self.run.id

    def notice(self, state: State[Any], shown: datetime | None) -> None:
        """Take note of how its run stands, and of when its board was last changed."""
        if self.state is None or state.type is not self.state.type or shown != self.shown:
            self.sign_at = time.monotonic()
        self.state, self.shown = state, shown


def handing_out(batch: Batch) -> Work[None]:
    """Bind the work to the Prefect run that we are in."""
    scope = RunScope.current()

    async def work(caller: Caller) -> None:
        errands = [
            _Errand(part, part.key, parameters_for(batch.order, part, number))
            for number, part in batch.numbered_parts
        ]
        handing = _HandingOut(batch, scope, caller, errands)
        try:
            await handing.see_through()
        except (asyncio.CancelledError, RunEndedError):
            await handing.cancel()
            raise

    return work


class _HandingOut:
    def __init__(
        self, batch: Batch, scope: RunScope, caller: Caller, errands: list[_Errand]
    ) -> None:
        self._batch = batch
        self._scope = scope
        self._caller = caller
        self._errands = errands
        self._sign_at = self._reminded_at = time.monotonic()

    @property
    def _open(self) -> list[_Errand]:
        return [one for one in self._errands if not one.is_over]

    async def see_through(self) -> None:
        deployment = await self._deployment()
        for errand in self._errands:
            await self._start(errand, deployment)
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
                return await client.read_deployment_by_name(name)
        except LedgerError as exc:
            if not isinstance(exc.__cause__, ObjectNotFound | ValueError):
                raise
            raise ConfigurationError(
                f"There is no deployment {name!r} to hand the batch to. Deploy the flow"
                " `prefect_replicate.generate_videos`, and name it as FLOW/DEPLOYMENT in"
                " `deployment`. Nothing was paid."
            ) from exc

    async def _start(self, errand: _Errand, deployment: DeploymentResponse) -> None:
        """Start a run for a part, or find one that an earlier attempt has started."""
        while True:
            errand.runs += 1
            with as_ledger_error(f"start a run of {self._batch.order.deployment}"):
                run = await arun_deployment(
                    deployment.id,
                    client=await prefect_client(),
                    parameters=errand.parameters,
                    timeout=0,
                    idempotency_key=f"{errand.part.key}-{errand.runs}",
                    flow_run_name=errand.name,
                )
            if run.state is None or run.state.type not in _ENDED | {StateType.COMPLETED}:
                break
        errand.run, errand.state, errand.shown = run, None, None
        errand.is_inherited = run.start_time is not None

    async def _look(self, deployment: DeploymentResponse) -> None:
        states = await self._states()
        own = states.get(self._scope.flow_run_id) if self._scope.flow_run_id else None
        if own is not None and own.type in _ENDED:
            raise RunEndedError("The flow run was ended while others worked on its batch.")
        for errand in self._open:
            state = states.get(errand.run_id)
            if state is None:
                self._give_up(errand, "was deleted")
                continue
            errand.notice(state, self._batch.view.changed.get(errand.part.key))
            await self._judge(errand, state, deployment)
        await self._wait_for_workers(deployment)

    async def _states(self) -> dict[UUID, State[Any]]:
        client = await prefect_client()
        ids = [one.run_id for one in self._open]
        ids += [self._scope.flow_run_id] if self._scope.flow_run_id else []
        found: dict[UUID, State[Any]] = {}
        for start in range(0, len(ids), _RUNS_A_REQUEST):
            chosen = FlowRunFilter(id=FlowRunFilterId(any_=ids[start : start + _RUNS_A_REQUEST]))
            with as_ledger_error("read how the runs of a batch stand"):
                runs = await client.read_flow_runs(flow_run_filter=chosen, limit=_RUNS_A_REQUEST)
            found |= {run.id: run.state for run in runs if run.state is not None}
        return found

    async def _judge(
        self, errand: _Errand, state: State[Any], deployment: DeploymentResponse
    ) -> None:
        if state.type is StateType.COMPLETED:
            self._give_up(errand, "has completed, and does not show what became of it")
        elif state.type is StateType.CRASHED:
            await self._replace(errand, deployment)
        elif state.type in (StateType.FAILED, StateType.CANCELLED):
            if errand.is_inherited:
                await self._start(errand, deployment)
            else:
                self._give_up(errand, f"is {state.name}: {state.message}")
        elif state.type is StateType.RUNNING and time.monotonic() - errand.sign_at > DEAD_SECONDS:
            await self._declare_dead(errand)

    def _give_up(self, errand: _Errand, what: str) -> None:
        errand.is_over = True
        self._batch.view.lose(errand.part, f"flow run {errand.name} ({errand.run_id}) {what}")

    async def _replace(self, errand: _Errand, deployment: DeploymentResponse) -> None:
        errand.crashes += 1
        if errand.crashes > REPLACEMENTS:
            await cancel_all(self._caller, errand.run_id, self._batch.logger, crashed=False)
            self._give_up(errand, f"has crashed, as did the {REPLACEMENTS} before it")
            return
        self._say("warning", f"Flow run {errand.name} has crashed; another takes its place")
        await self._start(errand, deployment)

    async def _declare_dead(self, errand: _Errand) -> None:
        message = f"It has shown nothing for {DEAD_SECONDS:.0f} s: another takes its place."
        await self._set_state(errand, Crashed(message=message))

    async def _set_state(self, errand: _Errand, state: State[Any]) -> None:
        client = await prefect_client()
        with as_ledger_error("end a run of the batch"):
            await client.set_flow_run_state(errand.run_id, state, force=True)

    async def _wait_for_workers(self, deployment: DeploymentResponse) -> None:
        waiting = [one for one in self._open if one.is_waiting]
        now = time.monotonic()
        if not waiting or any(one.is_running for one in self._errands):
            self._sign_at = now
            return
        self._sign_at = max(self._sign_at, *(one.sign_at for one in self._errands))
        limit, waited = self._batch.order.worker_timeout, now - self._sign_at
        where = f"a worker of work pool {deployment.work_pool_name!r}"
        if deployment.work_pool_name is None:
            where = "the process that serves it"
        if limit is not None and waited > limit:
            why = f"waited {limit:.0f} s for {where}, which never came"
            for one in waiting:
                await self._set_state(one, Cancelling())
                self._give_up(one, why)
        elif now - self._reminded_at > _REMIND_SECONDS:
            self._reminded_at = now
            self._say("info", f"{len(waiting)} runs wait for {where}, since {waited:.0f} s")

    async def cancel(self) -> None:
        """Cancel all runs that are not over, since nobody collects what they make."""
        for errand in self._open:
            if errand.run is None:
                continue
            try:
                await self._set_state(errand, Cancelling())
            except LedgerError as exc:
                self._say("warning", str(exc))

    def _say(self, level: str, message: str) -> None:
        log = getattr(self._batch.logger, level)
        self._caller.tell(lambda: log("%s", message))
