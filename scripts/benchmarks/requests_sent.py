"""Which requests a process sends to whom, and how long they take."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator

import httpx

Requests = list[tuple[str, float]]


@contextlib.contextmanager
def recorded() -> Generator[Requests]:
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
