"""Runs the emulator: two loopback ports, one event loop, one thread."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import Self

from prefect_replicate.emulator.api.app import api_app
from prefect_replicate.emulator.behaviour import Behaviour, changed
from prefect_replicate.emulator.browsers import why_foreign
from prefect_replicate.emulator.clock import Clock
from prefect_replicate.emulator.connections import Connections
from prefect_replicate.emulator.delivery import delivery_app
from prefect_replicate.emulator.faults import FaultPlan
from prefect_replicate.emulator.front import Front
from prefect_replicate.emulator.history import History
from prefect_replicate.emulator.models.catalogue import default_catalogue
from prefect_replicate.emulator.models.custom import custom_model
from prefect_replicate.emulator.platform import DEFAULT_TOKEN, WEBHOOK_SECRET, Platform
from prefect_replicate.emulator.traffic import Traffic
from prefect_replicate.emulator.webhooks import Delivery

T = TypeVar("T")
_logger = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"
_KEEP_ALIVE = 75
_PATIENCE = 10.0


class Emulator:
    """A local Replicate: the API on one port, its models' files on another.

    Args:
        port: Port of the API; 0 picks a free one.
        files_port: Port of the file host; 0 picks a free one.
        token: The API token that it accepts.
        speed: Seconds of the models' time per real second; with 0 their time stands still, and only
            `clock.advance()` moves it.
        behaviour: How the platform behaves.

    Example:
        ```python
        with Emulator(speed=60) as emulator:
            client = replicate.Client(api_token=emulator.token, base_url=emulator.base_url)
            url = client.run("bytedance/seedance-1-lite", input={"prompt": "a red fox"})
        ```
    """

    def __init__(
        self,
        port: int = 0,
        *,
        files_port: int = 0,
        token: str = DEFAULT_TOKEN,
        speed: float = 1.0,
        behaviour: Behaviour | None = None,
    ) -> None:
        if not token.startswith("r8_"):
            raise ValueError("an API token starts with r8_")
        self.token = token
        self._ports = _checked_port(port), _checked_port(files_port)
        self._behaviour = behaviour or Behaviour()
        self._catalogue = default_catalogue()
        self._clock = Clock(speed)
        self._connections = Connections()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._platform: Platform | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start serving in a thread."""
        sockets = [_listen(port) for port in self._ports]
        api, files = (_origin(one) for one in sockets)
        self._platform = Platform(
            base_url=api,
            files_url=files,
            tokens=frozenset({self.token}),
            clock=self._clock,
            behaviour=self._behaviour,
            catalogue=self._catalogue,
        )
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(sockets)), name="replicate-emulator", daemon=True
        )
        self._thread.start()
        self._ready.wait(_PATIENCE)

    def stop(self) -> None:
        """Cut all connections and stop the thread."""
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._quit)
        self._thread.join(_PATIENCE)
        self._thread = None

    @property
    def base_url(self) -> str:
        """Origin of the API, without `/v1`: the value for `REPLICATE_BASE_URL`."""
        return self._running.base_url

    @property
    def files_url(self) -> str:
        """Origin of the file host."""
        return self._running.files_url

    @property
    def webhook_secret(self) -> str:
        """The secret that webhooks are signed with."""
        return WEBHOOK_SECRET

    @property
    def clock(self) -> Clock:
        """The clock of the models, deadlines, rate limits and retention."""
        return self._clock

    @property
    def faults(self) -> FaultPlan:
        """The faults in force, which tests can add to."""
        return self._running.faults

    @property
    def requests(self) -> Traffic:
        """The requests received on both ports."""
        return self._running.traffic

    @property
    def predictions(self) -> History:
        """The predictions, newest first."""
        return self._running.history

    @property
    def webhooks(self) -> Sequence[Delivery]:
        """The attempts to deliver webhooks, in order."""
        return self._running.courier.deliveries

    @property
    def behaviour(self) -> Behaviour:
        """How the platform behaves now."""
        return self._running.behaviour

    def behave(self, **changes: Any) -> None:
        """Change switches of `Behaviour` until the next `reset`."""
        self._running.behaviour = changed(self._running.behaviour, changes)

    def add_model(
        self,
        full_name: str,
        schema: Mapping[str, Any],
        *,
        is_official: bool = False,
        output: Any = None,
        seconds: float = 0.0,
    ) -> str:
        """Add a model that takes and returns what its schema says, and return its version.

        It replaces a model with the same name. A model added to a running emulator stays until the
        next `reset`; in tests with the fixture, that is until the end of the test.

        Args:
            full_name: The model as `owner/name`.
            schema: The `openapi_schema` of one of its versions, as Replicate's API shows it.
            is_official: Whether it also runs as `owner/name`; community models run only by version.
            output: What it returns: any JSON; a string `file:NAME` in it becomes the URL of a file.
                Names that end in `.png`, `.webp`, `.jpg`, `.mp4` or `.wav` give real images, videos
                or sounds, all others short texts. By default, the output is generated from the
                schema.
            seconds: How long it runs.

        Returns:
            The model with its version, as `owner/name:version`.

        Raises:
            ValueError: An argument is invalid; the message says which.

        Example:
            ```python
            schema = json.loads(Path("restore-photo.json").read_text())
            version = emulator.add_model("acme/restore-photo", schema, output="file:photo.png")
            url = replicate.run(version, input={"image": "https://example.com/old.jpg"})
            ```
        """
        model = custom_model(
            full_name, schema, is_official=is_official, output=output, seconds=seconds
        )
        if self._thread is None:
            self._catalogue = self._catalogue.with_model(model)
        else:
            self._on_loop(lambda: self._running.add_model(model))
        return f"{full_name}:{model.latest_version.id}"

    def reset(self) -> None:
        """Return to the initial state: no predictions, no faults, the original `Behaviour`."""
        self._on_loop(self._running.reset)

    @property
    def _running(self) -> Platform:
        if self._platform is None:
            raise RuntimeError("the emulator was not started: use it in a with block")
        return self._platform

    async def _serve(self, sockets: list[socket.socket]) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = uvicorn.Server(self._config(sockets[1].getsockname()[1]))
        self._ready.set()
        await self._server.serve(sockets)

    def _config(self, files_port: int) -> uvicorn.Config:
        api = Front(api_app(self._running), self._running, self._connections, "api")
        files = Front(delivery_app(self._running), self._running, self._connections, "files")

        async def by_port(scope: Scope, receive: Receive, send: Send) -> None:
            app: ASGIApp = files if scope["server"][1] == files_port else api
            if why := why_foreign(scope):
                app = PlainTextResponse(why, 403)
            try:
                await app(scope, receive, send)
            except Exception:
                # uvicorn is silenced: it would also report each connection that a fault cuts.
                _logger.exception("the emulator failed at %s %s", scope["method"], scope["path"])
                raise

        return uvicorn.Config(
            by_port,
            http=self._connections.protocol(),
            lifespan="off",
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=0,
        )

    def _quit(self) -> None:
        self._connections.close_all()
        self._server.should_exit = True

    def _on_loop(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(_PATIENCE)


def _checked_port(port: int) -> int:
    if not 0 <= port <= 65535:
        raise ValueError(f"a port is a number from 0 to 65535, not {port}")
    return port


def _listen(port: int) -> socket.socket:
    # Without the protocol's number asyncio leaves Nagle's algorithm on: 40 ms for each request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_LOOPBACK, port))
    except OSError as exc:
        listener.close()
        raise OSError(f"cannot listen on {_LOOPBACK}:{port}: {exc.strerror}") from exc
    listener.listen(1024)
    return listener


def _origin(listener: socket.socket) -> str:
    return f"http://{_LOOPBACK}:{listener.getsockname()[1]}"
