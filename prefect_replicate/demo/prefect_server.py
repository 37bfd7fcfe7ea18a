"""A Prefect server, and other processes, that run for the length of a `with` block."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling

from prefect_replicate.demo import lifeline
from prefect_replicate.exceptions import ConfigurationError


@contextmanager
def running(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    stdout: IO[bytes] | int | None = None,
    stderr: int | None = None,
) -> Generator[subprocess.Popen[bytes], None, None]:
    """Run a Python command line until the `with` block or this process ends.

    It has its own session, so that Ctrl-C in the terminal reaches only this process, which then
    stops what it started in its own order.

    Args:
        command: The arguments to `python`.
        env: The whole environment.
        stdout: See `subprocess.Popen`.
        stderr: See `subprocess.Popen`.
    """
    process = subprocess.Popen(
        [sys.executable, str(Path(lifeline.__file__)), sys.executable, *command],
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait()


_HOST = "127.0.0.1"
_DIRECT: dict[str, Any] = {"trust_env": False}
"""A proxy from the environment could not reach our loopback."""

_UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_START_SECONDS = 120.0
_CANCEL_SECONDS = 40.0
"""A runner kills a flow run that has not ended 30 s after a cancel."""


@dataclass(frozen=True)
class PrefectServer:
    """The server's address, and the environment in which Prefect uses it and no other."""

    ui_url: str
    env: dict[str, str]

    @property
    def api_url(self) -> str:
        return f"{self.ui_url}/api"

    def cancel_flow_runs(self) -> None:
        """Cancel all running flow runs, and wait until they have ended, up to a limit."""
        give_up = time.monotonic() + _CANCEL_SECONDS
        with self.client() as client:
            for run in _under_way(client):
                client.set_flow_run_state(run.id, Cancelling())
            while _under_way(client) and time.monotonic() < give_up:
                time.sleep(0.2)

    def client(self) -> SyncPrefectClient:
        """Return a client for this server that ignores the user's settings."""
        return SyncPrefectClient(self.api_url, httpx_settings=_DIRECT)


@contextmanager
def prefect_server(
    home: Path,
    on_wait: Callable[[float], None] | None = None,
    *,
    env: Mapping[str, str] | None = None,
) -> Generator[PrefectServer, None, None]:
    """Run a Prefect server on a free port until the `with` block ends.

    Args:
        home: Its `PREFECT_HOME`.
        on_wait: Called several times a second with the seconds that the start has taken so far.
        env: Its base environment. By default, this process's own without Prefect's settings, so
            that the user's Prefect is not touched.

    Raises:
        ConfigurationError: It did not start; the message has the last line of its output.
    """
    port = _free_port()
    server = PrefectServer(f"http://{_HOST}:{port}", _environment(env, home, port))
    command = ["-m", "prefect", "server", "start", "--host", _HOST, "--port", str(port)]
    with (
        tempfile.TemporaryFile() as log,
        running(command, server.env, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        _wait_until_healthy(server, process, log, on_wait)
        yield server


def without_prefect_settings() -> dict[str, str]:
    """Return this process's environment without the settings of the user's Prefect."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


def _environment(base: Mapping[str, str] | None, home: Path, port: int) -> dict[str, str]:
    return {
        **(without_prefect_settings() if base is None else base),
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://{_HOST}:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return probe.getsockname()[1]


def _wait_until_healthy(
    server: PrefectServer,
    process: subprocess.Popen[bytes],
    log: IO[bytes],
    on_wait: Callable[[float], None] | None,
) -> None:
    started = time.monotonic()
    with httpx.Client(**_DIRECT, timeout=5) as http:
        while not _is_healthy(http, server.api_url):
            waited = time.monotonic() - started
            if process.poll() is not None or waited > _START_SECONDS:
                raise ConfigurationError(f"The Prefect server did not start: {_last_words(log)}")
            if on_wait is not None:
                on_wait(waited)
            time.sleep(0.2)


def _is_healthy(http: httpx.Client, api_url: str) -> bool:
    try:
        return http.get(f"{api_url}/health").is_success
    except httpx.TransportError:
        return False


def _under_way(client: SyncPrefectClient) -> list[FlowRun]:
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNDER_WAY))
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=states))


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
    return next(filter(None, reversed(lines)), "it printed nothing")
