"""A Prefect server of our own, that leaves the user's Prefect alone."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from prefect_replicate.demo.processes import running
from prefect_replicate.exceptions import ConfigurationError

_HOST = "127.0.0.1"
_START_SECONDS = 120.0
_CANCEL_SECONDS = 40.0
"""A runner kills a flow run that has not ended 30 s after a cancel."""


@dataclass(frozen=True)
class PrefectServer:
    """Where the server is, and the environment in which Prefect talks to it and to no other."""

    ui_url: str
    env: dict[str, str]

    @property
    def api_url(self) -> str:
        return f"{self.ui_url}/api"

    def cancel_flow_runs(self) -> None:
        """Cancel all flow runs that are under way, and wait, with a bound, until they are."""
        give_up = time.monotonic() + _CANCEL_SECONDS
        with self.client() as http:
            for run in _under_way(http):
                state = {"type": "CANCELLING", "name": "Cancelling"}
                http.post(f"flow_runs/{run['id']}/set_state", json={"state": state})
            while _under_way(http) and time.monotonic() < give_up:
                time.sleep(0.2)

    def client(self) -> httpx.Client:
        """Return a client whose URLs are relative to the API."""
        # A proxy from the environment could not reach our loopback.
        return httpx.Client(base_url=self.api_url, trust_env=False, timeout=5)


@contextmanager
def prefect_server(
    home: Path, on_wait: Callable[[float], None] | None = None
) -> Generator[PrefectServer, None, None]:
    """Run a Prefect server on a free port for as long as the block lasts.

    Args:
        home: Its `PREFECT_HOME`; an empty directory.
        on_wait: Called several times a second with the seconds that the start has taken so far.

    Raises:
        ConfigurationError: It did not start; the message has its last words.
    """
    port = _free_port()
    server = PrefectServer(f"http://{_HOST}:{port}", _environment(home, port))
    log = home / "server.log"
    command = ["-m", "prefect", "server", "start", "--host", _HOST, "--port", str(port)]
    with (
        log.open("wb") as output,
        running(command, server.env, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        _wait_until_healthy(server, process, log, on_wait)
        yield server


def _environment(home: Path, port: int) -> dict[str, str]:
    # A profile, an API key or a setting of the user's could point to another server.
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return others | {
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
    log: Path,
    on_wait: Callable[[float], None] | None,
) -> None:
    started = time.monotonic()
    with server.client() as http:
        while not _is_healthy(http):
            waited = time.monotonic() - started
            if process.poll() is not None or waited > _START_SECONDS:
                raise ConfigurationError(f"The Prefect server did not start: {_last_words(log)}")
            if on_wait is not None:
                on_wait(waited)
            time.sleep(0.2)


def _under_way(http: httpx.Client) -> list[dict[str, Any]]:
    states = {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}
    reply = http.post("flow_runs/filter", json={"flow_runs": {"state": states}})
    return reply.raise_for_status().json()


def _is_healthy(http: httpx.Client) -> bool:
    try:
        return http.get("health").is_success
    except httpx.TransportError:
        return False


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
