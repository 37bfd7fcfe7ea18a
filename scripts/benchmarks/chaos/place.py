"""Where it happens: a Prefect server, a work pool, workers, and a local Replicate with faults."""

from __future__ import annotations

import base64
import signal
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRunInput, State
from prefect.exceptions import PrefectHTTPStatusError
from prefect.workers.process import ProcessWorker
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from benchmarks.chaos.faults import add_faults
from benchmarks.chaos.plan import CALLS, REPLICATE_AHEAD, PlannedRun
from benchmarks.chaos.processes import children_of, strike
from benchmarks.chaos.waiting import until
from benchmarks.written_facts import inputs_of
from prefect_replicate.demo.prefect_server import prefect_server, running
from prefect_replicate.emulator import Emulator
from prefect_replicate.settings import DESTINATION_FOLDERS, INPUT_FOLDERS

POOL = "chaos"
SAFE, DOOMED = "safe", "doomed"
"""The work queue of most runs, and that of those whose worker is killed."""

FILE_SIZE = 200_000
_SCRIPTS = str(Path(__file__).parents[2])
"""Where a worker finds the flows."""

_LIMIT = 5
_SETTINGS = {
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "PREFECT_WORKER_PREFETCH_SECONDS": "0",
    "PREFECT_LOGGING_LEVEL": "INFO",
}


_PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def _is_overloaded(exc: BaseException) -> bool:
    refused = isinstance(exc, PrefectHTTPStatusError) and exc.response.status_code >= 500
    return refused or isinstance(exc, httpx.TransportError)


_patiently = retry(
    retry=retry_if_exception(_is_overloaded),
    stop=stop_after_delay(120),
    wait=wait_random(0.5, 2.0),
    reraise=True,
)
"""SQLite has one writer, and the benchmark is not about how long that takes."""


@dataclass(frozen=True)
class Place:
    """What the runs are made with."""

    emulator: Emulator
    client: SyncPrefectClient
    env: dict[str, str]
    folder: Path
    deployments: dict[str, UUID]

    @property
    def videos(self) -> Path:
        """Where the flows store their files."""
        return self.folder / "videos"

    @property
    def picture(self) -> Path:
        """An input file."""
        return self.folder / "picture.png"

    @_patiently
    def start(self, run: PlannedRun, queue: str) -> UUID:
        """Ask for a flow run, for a worker to pick up."""
        flow_run = self.client.create_flow_run_from_deployment(
            self.deployments[run.form],
            parameters=self._parameters(run),
            name=run.name,
            work_queue_name=queue,
            idempotency_key=run.name,
            job_variables={"env": clock_of(run)},
        )
        return flow_run.id

    @_patiently
    def state_of(self, flow_run_id: UUID) -> State[Any]:
        """A flow run's state now."""
        state = self.client.read_flow_run(flow_run_id).state
        assert state is not None
        return state

    @_patiently
    def set_state(self, flow_run_id: UUID, state: State[Any], *, force: bool = False) -> None:
        """Set a flow run's state as a person or an automation does."""
        self.client.set_flow_run_state(flow_run_id, state, force=force)

    @_patiently
    def facts(self, flow_run_id: UUID) -> list[FlowRunInput]:
        """What a run has written down, the oldest first."""
        return inputs_of(self.client, flow_run_id)

    def _parameters(self, run: PlannedRun) -> dict[str, Any]:
        timer = {"queue_seconds": 0.5, "seconds": run.seconds, "output_bytes": FILE_SIZE}
        further = self._further_input(run)
        common = {"destination": str(self.videos), "on_crash": run.on_crash}
        if run.form != "video":
            return {**common, "input": timer | further, "prompts": dict(run.prompts)}
        [prompt] = run.prompts
        # A path is one in the parameter for it alone.
        image = {"image": further.pop("image")} if "image" in further else {}
        video = {"prompt": prompt, "model": "emulator/timer", "input": timer | further}
        return {**common, **video, **image}

    def _further_input(self, run: PlannedRun) -> dict[str, Any]:
        match run.input:
            case "plain":
                return {}
            case "whole floats":
                return {"queue_seconds": 1.0, "seconds": float(round(run.seconds))}
            case "picture":
                return {"image": str(self.picture)}
            case "data URI":
                content = base64.b64encode(self.picture.read_bytes()).decode()
                return {"image": f"data:image/png;base64,{content}"}
            case "secret":
                return {"key": f"secret of {run.name}"}

    def log(self, name: str) -> IO[bytes]:
        """A file for what a process says."""
        return (self.folder / f"{name}.log").open("ab")


def clock_of(run: PlannedRun) -> dict[str, str]:
    """The environment of the processes that execute a run."""
    return {"CLOCK_AHEAD": str(run.clock_ahead)}


@contextmanager
def chaotic_place(folder: Path, seed: int) -> Generator[Place]:
    """Start the servers, and deploy the flows."""
    with Emulator() as emulator, prefect_server(folder / "prefect") as server:
        emulator.clock.reset(1.0, ahead=REPLICATE_AHEAD)
        emulator.behave(cancel_lag=0.3)
        add_faults(emulator.faults, seed)
        replicate = {
            "REPLICATE_API_TOKEN": emulator.token,
            "REPLICATE_BASE_URL": emulator.base_url,
        }
        with server.client() as client:
            files = {INPUT_FOLDERS: str(folder), DESTINATION_FOLDERS: str(folder)}
            env = {**server.env, **replicate, **files, **_SETTINGS, "PYTHONPATH": _SCRIPTS}
            place = Place(emulator, client, env, folder, _deployed(client))
            place.picture.write_bytes(_PICTURE)
            yield place


def _deployed(client: SyncPrefectClient) -> dict[str, UUID]:
    template = ProcessWorker.get_default_base_job_template()
    client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    return {form: _deployment(client, form) for form in CALLS}


def _deployment(client: SyncPrefectClient, form: str) -> UUID:
    flow_id = client.create_flow_from_name("generate-video" if form == "video" else form)
    return client.create_deployment(
        flow_id,
        form,
        entrypoint=f"benchmarks.chaos.flows.{form}",
        work_pool_name=POOL,
        pull_steps=[],
        enforce_parameter_schema=False,
    )


class Worker:
    """A process worker of one queue, which can be killed and replaced."""

    def __init__(self, place: Place, queue: str) -> None:
        self._place = place
        self._queue = queue
        self._running = ExitStack()
        self._count = 0

    def __enter__(self) -> Worker:
        self._start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._running.close()

    def replace(self, with_signal: signal.Signals) -> None:
        """Kill it, the worker alone, and start another."""
        strike(children_of(self._lifeline.pid), with_signal)
        self._lifeline.wait(60)
        self._running.close()
        self._start()

    def _start(self) -> None:
        self._count += 1
        name = f"{self._queue}-{self._count}"
        command = ["-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
        limits = ["--name", name, "--work-queue", self._queue, "--limit", str(_LIMIT)]
        log = self._running.enter_context(self._place.log(f"worker-{name}"))
        self._lifeline = self._running.enter_context(
            running([*command, *limits], self._place.env, stdout=log, stderr=subprocess.STDOUT)
        )
        until(lambda: name in self._online(), 90, f"worker {name} is online")

    @_patiently
    def _online(self) -> set[str]:
        workers = self._place.client.read_workers_for_work_pool(POOL)
        return {one.name for one in workers}
