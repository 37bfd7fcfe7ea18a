from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from benchmarks.local_account import TOKEN, URL, LocalAccount, Network, as_a_new_process
from benchmarks.virtual_time import VirtualTimeLoop
from certificates import certificate
from replicate.client import Client

from prefect_replicate import Prediction, ReplicateCredentials, create_prediction
from prefect_replicate.api import connection
from prefect_replicate.emulator import Emulator


def pytest_asyncio_loop_factories(
    item: pytest.Function,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The tests that ask for an account in virtual time run on a loop that jumps."""
    if "account" in item.fixturenames:
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture
def our_clock() -> float:
    """How many seconds this machine's clock is ahead of Replicate's."""
    return 0.0


@pytest.fixture
async def account(monkeypatch: pytest.MonkeyPatch, our_clock: float) -> AsyncIterator[LocalAccount]:
    """A Replicate within this process. Its time, the engine's and the test's are that of one loop.

    So nothing is waited for, and the same happens each time.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
    monkeypatch.setenv("REPLICATE_BASE_URL", URL)
    with as_a_new_process(loop, seed=1):
        account = LocalAccount(rate_limits="off", clock_ahead=-our_clock)

        def client(**settings: Any) -> Client:
            return Client(**{**settings, "transport": Network(account, seed=1)})

        monkeypatch.setattr(connection, "Client", client)
        yield account


@pytest.fixture
def running(still: Emulator) -> Prediction:
    """A prediction that runs until the clock is moved by 1000 s."""
    return create_prediction.fn("emulator/timer", {"seconds": 1000})


@dataclass
class ScriptedAPI:
    """An API that answers what a test says, for replies that the emulator never gives."""

    base_url: str = ""
    replies: list[Any] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    @property
    def credentials(self) -> ReplicateCredentials:
        return ReplicateCredentials(api_token="r8_scripted", base_url=self.base_url)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def says(self, *bodies: Any) -> None:
        """Answer these, one after the other, and the last one from then on.

        A body is JSON for a 200, or a tuple of status, body, and maybe headers.
        """
        self.replies = list(bodies)

    def next_reply(self) -> tuple[int, Any, dict[str, str]]:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if not isinstance(reply, tuple):
            return 200, reply, {}
        return (*reply, {})[:3] if len(reply) == 2 else reply


@contextlib.contextmanager
def served(context: ssl.SSLContext | None = None) -> Iterator[ScriptedAPI]:
    """A scripted API that listens, by TLS where a context for it is given."""
    api = ScriptedAPI()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            received = self.rfile.read(int(self.headers.get("content-length", 0)))
            api.bodies.append(json.loads(received) if received else None)
            api.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            status, body, headers = api.next_reply()
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        host = "https://localhost" if context else "http://127.0.0.1"
        api.base_url = f"{host}:{server.server_port}"
        yield api
        server.shutdown()


@pytest.fixture
def scripted() -> Iterator[ScriptedAPI]:
    with served() as api:
        yield api


@pytest.fixture
def scripted_tls(tmp_path: Path) -> Iterator[ScriptedAPI]:
    """A scripted API behind TLS, with a certificate, cert.pem, that nobody vouches for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(tmp_path, "localhost"))
    with served(context) as api:
        yield api
