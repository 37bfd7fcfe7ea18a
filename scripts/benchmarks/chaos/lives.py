"""What is done to a flow run, and how it ends."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from signal import SIGKILL, SIGTERM
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.states import Cancelling, Crashed, Scheduled

from benchmarks.chaos.place import DOOMED, SAFE, Place, Worker, clock_of
from benchmarks.chaos.plan import PlannedRun
from benchmarks.chaos.processes import engines_of, exist, processes_of, strike
from benchmarks.chaos.waiting import NeverHappenedError, until
from benchmarks.chaos.witness import Witness
from prefect_replicate.demo.prefect_server import running

_LOOK_SECONDS = 0.1
_MOMENT_SECONDS = 300.0
_END_SECONDS = 360.0
"""Prefect itself ends a cancel that nobody carries out after 300 s."""

_CALM_SECONDS = 2.0
"""A worker says a second time that a run has crashed, up to 1.5 s after the first."""

_GRACE_SECONDS = 10.0
_RETRIES = 4


@dataclass
class Deed:
    """Something that was done to a run, and when."""

    at: float
    what: str


@dataclass
class Life:
    """A flow run as it went.

    Args:
        state: The name of its last state.
        problem: Why it could not be brought to an end; empty when it was.
        more_retries: Retries beyond the plan, until its result was there.
        companions: Further processes that execute it.
    """

    planned: PlannedRun
    flow_run_id: UUID
    state: str = ""
    problem: str = ""
    more_retries: int = 0
    deeds: list[Deed] = field(default_factory=list[Deed])
    companions: list[subprocess.Popen[bytes]] = field(default_factory=list[Any])

    def note(self, what: str) -> None:
        """Remember a deed."""
        self.deeds.append(Deed(time.time(), what))

    @property
    def is_completed(self) -> bool:
        """Whether Prefect says that the run has done its work."""
        return self.state == "Completed"


class Fates:
    """Carries out the plan. Used from several threads, each with its runs."""

    def __init__(self, place: Place, witness: Witness, doomed: Worker) -> None:
        self._place = place
        self._witness = witness
        self._doomed = doomed
        self._one_doomed_run = threading.Lock()

    def live(self, planned: PlannedRun) -> Life:
        """Start a run, let it have its fate, and wait until all has ended."""
        is_doomed = planned.fate.startswith("worker")
        with ExitStack() as stack, ExitStack() as turn:
            if is_doomed:
                turn.enter_context(self._one_doomed_run)
            flow_run_id = self._place.start(planned, DOOMED if is_doomed else SAFE)
            life = Life(planned, flow_run_id)
            life.note("started")
            try:
                self._meet_its_fate(life, stack)
                if not planned.is_retried:  # it needs no worker any more
                    turn.close()
                self._bring_to_its_end(life)
            except NeverHappenedError as exc:
                life.problem = str(exc)
                strike(processes_of(flow_run_id), SIGKILL)
            life.state = self._state(life).name or ""
        return life

    def _meet_its_fate(self, life: Life, stack: ExitStack) -> None:
        if life.planned.moment is None:
            return
        if not self._moment_came(life):
            life.note("has ended before its moment came")
        elif life.planned.fate == "run twice at once":
            life.note("executed by a second process")
            life.companions.append(self._second_process(life, stack))
        else:
            self._strike(life)

    def _moment_came(self, life: Life) -> bool:
        planned = life.planned
        assert planned.moment is not None
        event = planned.moment.event
        look = 0
        while not self._witness.saw(event, life.flow_run_id, planned.prompts):
            look += 1
            # A status request for the state takes the server's time, of which there is little.
            if look % 10 == 0 and self._state(life).is_final():
                return False
            if look * _LOOK_SECONDS > _MOMENT_SECONDS:
                raise NeverHappenedError(f"not within {_MOMENT_SECONDS:.0f} s: {event}")
            time.sleep(_LOOK_SECONDS)
        life.note(f"saw {event}")
        time.sleep(planned.moment.delay)
        return True

    def _strike(self, life: Life) -> None:
        match life.planned.fate:
            case "canceled" | "canceled, retried":
                life.note("cancel")
                self._place.set_state(life.flow_run_id, Cancelling())
            case "flow killed" | "flow killed, retried":
                life.note("SIGKILL to the flow's process")
                strike(engines_of(life.flow_run_id), SIGKILL)
            case "flow terminated" | "flow terminated, retried":
                self._terminate(life)
            case "worker killed" | "worker killed, retried":
                self._kill_worker(life)
            case "left alone" | "run twice at once":
                raise AssertionError("nothing strikes these")

    def _terminate(self, life: Life) -> None:
        """As `docker stop` does it: what does not end in time is killed."""
        life.note("SIGTERM to the flow's process")
        engines = engines_of(life.flow_run_id)
        strike(engines, SIGTERM)
        with suppress(NeverHappenedError):
            until(lambda: not exist(engines), _GRACE_SECONDS, "it ends")
            return
        life.note("SIGKILL to it")
        strike(engines, SIGKILL)

    def _kill_worker(self, life: Life) -> None:
        with_signal = life.planned.worker_signal
        life.note(f"{with_signal.name} to the worker")
        self._doomed.replace(with_signal)
        life.note("another worker is there")
        if self._state(life).is_final():
            return
        if with_signal is SIGKILL and not life.planned.is_retried:
            # The flow's process lives on and its heart beats: somebody has to end it.
            life.note("cancel")
            self._place.set_state(life.flow_run_id, Cancelling())
        else:
            life.note("marked as crashed, as an automation does that misses heartbeats")
            crashed = Crashed(message="Marked by the benchmark")
            self._place.set_state(life.flow_run_id, crashed, force=True)

    def _second_process(self, life: Life, stack: ExitStack) -> subprocess.Popen[bytes]:
        command = ["-m", "prefect.engine", str(life.flow_run_id)]
        log = stack.enter_context(self._place.log(f"second-{life.planned.name}"))
        env = self._place.env | clock_of(life.planned)
        return stack.enter_context(running(command, env, stdout=log, stderr=subprocess.STDOUT))

    def _bring_to_its_end(self, life: Life) -> None:
        if life.planned.is_retried:
            until(lambda: self._state(life).is_final(), _END_SECONDS, "the run ends")
            time.sleep(life.planned.pause)
            self._retry(life)
        self._settle(life)
        while life.planned.is_due and not self._state(life).is_completed():
            if life.more_retries == _RETRIES:
                raise NeverHappenedError(f"completed, in {_RETRIES} more retries")
            life.more_retries += 1
            self._retry(life)
            self._settle(life)

    def _retry(self, life: Life) -> None:
        """As `prefect flow-run retry` does it."""
        life.note(f"retry, from {self._state(life).name}")
        scheduled = Scheduled(message="Retried by the benchmark")
        self._place.set_state(life.flow_run_id, scheduled, force=True)

    def _settle(self, life: Life) -> None:
        """Wait until the run has ended, and with it the processes of its hooks."""
        calm_since: list[float] = []

        def is_calm() -> bool:
            if not self._state(life).is_final() or self._has_processes(life):
                calm_since.clear()
                return False
            calm_since.append(time.monotonic())
            return calm_since[-1] - calm_since[0] >= _CALM_SECONDS

        until(is_calm, _END_SECONDS, "the run ends, with its processes")

    def _has_processes(self, life: Life) -> bool:
        alive = (one.poll() is None for one in life.companions)
        return any(alive) or bool(processes_of(life.flow_run_id))

    def _state(self, life: Life) -> State[Any]:
        return self._place.state_of(life.flow_run_id)
