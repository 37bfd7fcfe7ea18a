"""What all cells share: a Prefect server, a Replicate with a witness, one `serve`, one worker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import leftovers
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.emulator import Emulator
from prefect_replicate.settings import DESTINATION_FOLDERS, INPUT_FOLDERS

from .witness import Witness

T = TypeVar("T")
PROGRAMS = Path(__file__).parents[1] / "programs"
LATE_SECONDS = 12.0
RENDER, SERVED = str(PROGRAMS / "render.py"), str(PROGRAMS / "served.py")


def until(condition: Callable[[], T], seconds: float = 240.0, what: str = "it is so") -> T:
    """What `condition` returns once that is true.

    The time is there for what hangs: a worker takes 15 s of CPU to start a run, and much else may
    be going on.
    """
    give_up = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < give_up, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.3)  # each costs Prefect's server some requests
    return result


@dataclass(frozen=True)
class Started:
    """A process of a user, with what it and its children print."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def text(self) -> str:
        """What was printed so far."""
        return self.output.read_text("utf-8", "replace")

    def signal_group(self, number: int) -> None:
        """As a terminal does it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class House:
    """The server, the Replicate, and the processes that run on them.

    Args:
        server: The Prefect server.
        replicate: The local Replicate.
        witness: Stands before it.
        folder: For what the processes write.
        served: The flows of the shared `serve` process.
    """

    def __init__(
        self,
        server: PrefectServer,
        replicate: Emulator,
        witness: Witness,
        folder: Path,
        served: Iterable[str],
    ) -> None:
        self.server = server
        self.replicate = replicate
        self.witness = witness
        self.folder = folder
        self._started: list[Started] = []
        self._served = sorted(served)
        self._shared: dict[str, Started] = {}
        self._lock = threading.RLock()
        self.sweeper = 0
        """The process of the sweep."""
        self.env = server.env | {
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_LOGGING_COLORS": "false",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_RUNNER_PROCESS_LIMIT": "100",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PYTHONPATH": os.pathsep.join([str(PROGRAMS), os.environ.get("PYTHONPATH", "")]),
            "PYTHONUNBUFFERED": "1",
            leftovers.KEPT: "until this house is left",
            "RENDER_FOLDER": str(folder),
            "REPLICATE_API_TOKEN": replicate.token,
            "REPLICATE_BASE_URL": witness.base_url,
            INPUT_FOLDERS: str(folder),
            DESTINATION_FOLDERS: str(folder),
        }

    def start(self, name: str, *arguments: str, env: dict[str, str] | None = None) -> Started:
        """Start Python with these arguments, in a process group of its own.

        All that it starts has its name in the environment, as `RENDER_PROCESS`.
        """
        folder = self.folder / f"of-{name}"
        folder.mkdir(exist_ok=True)
        output = folder / "output.txt"
        with output.open("ab") as sink:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env=(env or self.env) | {"RENDER_PROCESS": name},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = Started(process, output)
        with self._lock:
            self._started.append(started)
        return started

    def serve(self, name: str, flows: Iterable[str]) -> Started:
        """Start a process that serves these flows of render.py."""
        return self.start(name, SERVED, name, *flows)

    def worker(self, name: str) -> Started:
        """Start a process worker with a work pool of its own."""
        self.make_pool(name)
        return self.start(name, "-m", "prefect", "worker", "start", "--pool", name)

    def make_pool(self, name: str) -> None:
        with self._lock, self.client() as client, contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))

    def deploy(self, pool: str, flow: str) -> None:
        """Deploy a flow of render.py to a work pool; it may be deployed there already."""
        with self.client() as client:
            client.create_deployment(
                flow_id=client.create_flow_from_name(flow.replace("_", "-")),
                name=f"{flow}-{pool}",
                entrypoint=f"render.{flow}",
                work_pool_name=pool,
                pull_steps=[],
            )

    def keep_reply_back(self) -> None:
        """Let a create of programs/render.py that asks for `SLOW_TO_REPLY` wait for its reply.

        Whose that is, if several do so at once, is left to chance.
        """
        self.replicate.faults.add(
            "late_reply", method="POST", path="^/v1/predictions$", seconds=LATE_SECONDS
        )

    def shared(self, place: str) -> Started:
        """The `serve` process or worker of the runs that leave it alive."""
        with self._lock:
            if place not in self._shared:
                start = self._start_serve if place == "serve" else self.worker
                self._shared[place] = start(f"shared-{place}")
            return self._shared[place]

    def _start_serve(self, name: str) -> Started:
        return self.serve(name, self._served)

    def has_processes_of(self, name: str) -> bool:
        """Whether any process lives that was started under this name, directly or not."""
        return bool(leftovers.processes_with("RENDER_PROCESS", name))

    def prefect(self, *arguments: str) -> None:
        """Run Prefect's command line."""
        command = [sys.executable, "-m", "prefect", *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def sweep(self, program: str) -> None:
        """Run the sweep."""
        self.sweeper = self.start("sweep", "-c", program).pid

    def client(self) -> SyncPrefectClient:
        return self.server.client()

    def stop(self) -> None:
        """Kill whatever still runs. The flow processes of a worker have sessions of their own."""
        for pid in leftovers.processes_with("RENDER_FOLDER", str(self.folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for started in self._started:
            started.process.wait()
