"""An account on the local Replicate, within this process and in the time of its event loop.

It is the application that the emulator serves, with its limits and faults. In the place of sockets
stands a transport that takes what a network takes: time for the way, a pool of connections, and
time-outs.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import patch

import httpx
from starlette.types import Message

from benchmarks.virtual_time import VirtualTimeLoop
from prefect_replicate import engine
from prefect_replicate.emulator import platform as platforms
from prefect_replicate.emulator.api.app import api_app
from prefect_replicate.emulator.behaviour import Behaviour, RateLimits, changed
from prefect_replicate.emulator.clock import Clock
from prefect_replicate.emulator.connections import Connections, Peer
from prefect_replicate.emulator.faults import FaultPlan
from prefect_replicate.emulator.front import Front
from prefect_replicate.emulator.history import History
from prefect_replicate.emulator.limits import bucket_of
from prefect_replicate.emulator.traffic import Traffic

TOKEN = platforms.DEFAULT_TOKEN
URL = "http://replicate.test"
_CONNECTIONS = httpx.Limits(max_connections=100)
"""Of one client, as httpx has it by default, and the official client leaves it."""

_ROUND_TRIP = (0.1, 0.2)
_HTTP = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"}


@contextmanager
def as_a_new_process(loop: VirtualTimeLoop, seed: int) -> Generator[None]:
    """In the time of `loop`, by seeded chance, with an engine that has learnt nothing yet."""
    before = engine._engine, platforms.secrets
    engine._engine = engine._Engine(loop)
    # Ids decide by some digits how a time is written.
    platforms.secrets = random.Random(seed)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with loop.as_the_time_of_day(), chance_of_this_thread(seed):
            yield
    finally:
        engine._engine, platforms.secrets = before


@contextmanager
def chance_of_this_thread(seed: int) -> Generator[None]:
    """Seed what jitter is made of; other threads, such as Prefect's, draw from elsewhere."""
    own, thread = random.Random(seed), threading.get_ident()

    def drawn(name: str) -> Callable[..., Any]:
        ours, others = getattr(own, name), getattr(random, name)

        def draw(*args: Any) -> Any:
            return (ours if threading.get_ident() == thread else others)(*args)

        return draw

    with contextlib.ExitStack() as patches:
        for name in ("random", "uniform"):
            patches.enter_context(patch.object(random, name, drawn(name)))
        yield


class LocalAccount:
    """What all clients of one account share. To be made in the time of the loop."""

    def __init__(self, rate_limits: RateLimits = "standard", clock_ahead: float = 0.0) -> None:
        self.platform = platforms.Platform(
            base_url=URL,
            files_url="http://files.test",
            tokens=frozenset({TOKEN}),
            clock=Clock(ahead=clock_ahead),
            behaviour=Behaviour(rate_limits=rate_limits),
        )
        self.lines = _Lines()
        self.app = Front(api_app(self.platform), self.platform, self.lines, "api")
        self.requests: Counter[str] = Counter()
        """By kind: those of `bucket_of`, `list`, and `429` for any that was refused so."""

    @property
    def clock(self) -> Clock:
        """The time of the loop, until it is moved."""
        return self.platform.clock

    @property
    def faults(self) -> FaultPlan:
        """What goes wrong, with which requests."""
        return self.platform.faults

    @property
    def predictions(self) -> History:
        """The predictions, newest first."""
        return self.platform.history

    @property
    def traffic(self) -> Traffic:
        """The requests that arrived."""
        return self.platform.traffic

    def behave(self, **changes: Any) -> None:
        """Change switches of the behaviour."""
        self.platform.behaviour = changed(self.platform.behaviour, changes)

    def count(self, method: str, path: str, status: int | None) -> None:
        """Take note of a request, and of how it was answered, if it was."""
        is_list = method == "GET" and path == "/v1/predictions"
        kind = "list" if is_list else bucket_of(method, path) or "other"
        self.requests[kind] += 1
        if status == 429:
            self.requests["429"] += 1
            self.requests[f"{kind} 429"] += 1


class _Lines(Connections):
    """Remembers which connection was cut, and how."""

    def __init__(self) -> None:
        super().__init__()
        self.cut: dict[Peer, type[httpx.TransportError]] = {}

    def close(self, peer: Peer) -> None:
        self.cut[peer] = httpx.RemoteProtocolError

    def reset(self, peer: Peer) -> None:
        self.cut[peer] = httpx.ReadError


class Network(httpx.AsyncBaseTransport):
    """The way of one client to the account, in the place of `httpx.AsyncHTTPTransport`."""

    def __init__(self, account: LocalAccount, seed: int) -> None:
        self._account = account
        self._chance = random.Random(seed)
        self._free = asyncio.Semaphore(_CONNECTIONS.max_connections or 1)
        self._sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and bear what becomes of it."""
        timeouts = request.extensions["timeout"]
        async with self._connection(request, timeouts["pool"]):
            answer = asyncio.ensure_future(self._answer(request))
            # Not canceled with the client: the server has it, then.
            done, _ = await asyncio.wait({answer}, timeout=timeouts["read"])
            if not done:
                raise httpx.ReadTimeout("", request=request)
            return answer.result()

    @asynccontextmanager
    async def _connection(
        self, request: httpx.Request, timeout: float | None
    ) -> AsyncGenerator[None]:
        if self._free.locked():
            try:
                await asyncio.wait_for(self._free.acquire(), timeout)
            except asyncio.TimeoutError as exc:
                raise httpx.PoolTimeout("", request=request) from exc
        else:
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        way = self._chance.uniform(*_ROUND_TRIP) / 2
        await asyncio.sleep(way)
        self._sent += 1
        exchange = _Exchange(request, (f"{id(self):x}", self._sent))
        await self._account.app(exchange.scope, exchange.receive, exchange.send)
        cut = self._account.lines.cut.pop(exchange.peer, None)
        status = None if cut else exchange.status
        self._account.count(request.method, request.url.path, status)
        await asyncio.sleep(way)
        if cut is not None:
            raise cut("the connection was cut", request=request)
        return httpx.Response(exchange.status, headers=exchange.headers, content=exchange.body)


class _Exchange:
    """One request as the application gets it, and its reply."""

    def __init__(self, request: httpx.Request, peer: Peer) -> None:
        self.peer = peer
        self.scope: dict[str, Any] = {
            **_HTTP,
            "method": request.method,
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "server": (request.url.host, request.url.port),
            "client": peer,
        }
        self._content: bytes | None = request.read()
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def receive(self) -> Message:
        content, self._content = self._content, None
        if content is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.body += message.get("body", b"")
