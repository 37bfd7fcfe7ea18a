"""A program: run the two flows in turn, and print what they took.

The environment says which Prefect server and which local Replicate.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Generator
from tempfile import TemporaryDirectory

import httpx
from prefect import flow, task
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from benchmarks.rounds import interleaved
from prefect_replicate import generate_video

# The server still writes the events of a run when that has ended, and SQLite has one writer: a run
# that is created meanwhile is refused with 503, and Prefect's client tries again 2 s later.
_SETTLE_SECONDS = 1.0

Requests = list[tuple[str, float]]


@task
def _begin() -> int:
    return 1


@task
def _add(number: int) -> int:
    return number + 1


@flow
def _bare() -> int:
    return _add(_add(_begin()))


def main(rounds: int, rounds_with_heartbeats: int) -> None:
    """Run both, and print their times and requests as JSON."""
    with TemporaryDirectory() as folder:
        flows: dict[str, Callable[[], object]] = {
            "bare": _bare,
            "ours": lambda: generate_video("x", "emulator/timer", destination=folder),
        }

        def once(name: str) -> float:
            time.sleep(_SETTLE_SECONDS)
            started = time.perf_counter()
            flows[name]()
            return time.perf_counter() - started

        interleaved(tuple(flows), 2, once)
        taken = {"heartbeats": interleaved(tuple(flows), rounds_with_heartbeats, once)}
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            taken["plain"] = interleaved(tuple(flows), rounds, once)
            requests = {name: _requests_of(lambda name=name: once(name)) for name in flows}
    print(json.dumps({**taken, "requests": requests}))


def _requests_of(act: Callable[[], object]) -> dict[str, tuple[int, float]]:
    """How many requests went to whom, and how long they took together."""
    with _recorded() as requests:
        act()
    return {
        kind: (len(times), sum(times))
        for kind in ("prefect", "replicate", "files")
        for times in [[seconds for to, seconds in requests if to == kind]]
    }


@contextlib.contextmanager
def _recorded() -> Generator[Requests]:
    sync, later = httpx.HTTPTransport, httpx.AsyncHTTPTransport
    send, asend = sync.handle_request, later.handle_async_request
    requests: Requests = []

    def handle(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        started = time.perf_counter()
        response = send(self, request)
        requests.append((_kind(request.url), time.perf_counter() - started))
        return response

    async def ahandle(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        started = time.perf_counter()
        response = await asend(self, request)
        requests.append((_kind(request.url), time.perf_counter() - started))
        return response

    sync.handle_request, later.handle_async_request = handle, ahandle
    try:
        yield requests
    finally:
        sync.handle_request, later.handle_async_request = send, asend


def _kind(url: httpx.URL) -> str:
    if url.path.endswith("/logs/"):
        return "logs"  # sent from time to time, for several runs together
    ports = {
        httpx.URL(os.environ["PREFECT_API_URL"]).port: "prefect",
        httpx.URL(os.environ["REPLICATE_BASE_URL"]).port: "replicate",
    }
    return ports.get(url.port, "files")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
