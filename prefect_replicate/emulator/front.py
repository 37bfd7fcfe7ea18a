"""What a request passes before its route: recording, faults, token check and rate limit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_replicate.emulator import limits, problems
from prefect_replicate.emulator.connections import Connections, Peer
from prefect_replicate.emulator.faults import Fault
from prefect_replicate.emulator.platform import Platform
from prefect_replicate.emulator.traffic import Host, Request

_KEPT_BODY = 1 << 20
CONTROL = "/_emulator"
_ERROR_PAGE = (
    "<html>\r\n<head><title>{status} Bad Gateway</title></head>\r\n<body>\r\n"
    "<center><h1>{status} Bad Gateway</h1></center>\r\n<hr><center>cloudflare</center>\r\n"
    "</body>\r\n</html>\r\n"
)


class Front:
    """An ASGI application that passes requests on to `app`, or refuses or spoils them."""

    def __init__(
        self, app: ASGIApp, platform: Platform, connections: Connections, host: Host
    ) -> None:
        self._app = app
        self._platform = platform
        self._connections = connections
        self._host: Host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        request = self._recorded(scope)
        exchange = _Exchange(request, receive, self._dated(send))
        fault = self._platform.faults.pick(request.method, request.path)
        if fault is None:
            await self._process(scope, exchange.receive, exchange.send)
        else:
            request.fault = fault.kind
            await self._spoil(fault, scope, exchange)

    def _dated(self, send: Send) -> Send:
        """Put the emulator's time into the replies' `Date` header."""

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                now = formatdate(self._platform.clock.now(), usegmt=True)
                MutableHeaders(scope=message)["date"] = now
            await send(message)

        return dated

    def _recorded(self, scope: Scope) -> Request:
        request = Request(
            host=self._host,
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode(),
            headers=dict(Headers(scope=scope)),
            time=self._platform.clock.now(),
        )
        self._platform.traffic.add(request)
        return request

    async def _process(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._host == "files":
            await self._app(scope, receive, send)
            return
        try:
            headers = self._admit(scope)
        except problems.Problem as problem:
            await problem.reply()(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send, headers))

    def _admit(self, scope: Scope) -> Mapping[str, str]:
        """Return the headers to add to the reply, or raise the reason to refuse."""
        path: str = scope["path"]
        if not path.startswith("/v1/") or path.endswith("/download"):
            return {}
        check_token(Headers(scope=scope).get("authorization"), self._platform.tokens)
        bucket = limits.bucket_of(scope["method"], path)
        return {} if bucket is None else self._meter(bucket)

    def _meter(self, bucket: limits.Bucket) -> Mapping[str, str]:
        platform = self._platform
        low_credit = platform.behaviour.rate_limits == "low-credit"
        table = limits.LOW_CREDIT if low_credit else limits.STANDARD
        now = platform.clock.now()
        if platform.behaviour.rate_limits == "off":  # as for a client that has been idle for long
            platform.meter.clear()
        verdict = platform.meter.take(table, bucket, now)
        if not verdict.allowed:
            raise problems.throttled(
                verdict.retry_after, low_credit=low_credit and bucket == "create"
            )
        return {
            "ratelimit-remaining": str(verdict.remaining),
            "ratelimit-reset": str(verdict.reset),
        }

    async def _spoil(self, fault: Fault, scope: Scope, exchange: _Exchange) -> None:
        peer: Peer = tuple(scope["client"])
        if fault.kind == "late_reply":
            await self._reply_late(fault.seconds, scope, exchange)
            return
        if fault.seconds:
            # Then Replicate has the request, whatever happens to the client meanwhile.
            await exchange.hold()
            await asyncio.sleep(fault.seconds)
        if fault.kind == "delay":
            await self._process(scope, exchange.receive, exchange.send)
        elif fault.kind == "reset":
            # A client that is still sending would see a different error each time.
            await exchange.read_all()
            self._connections.reset(peer)
            await exchange.until_disconnected()
        elif fault.kind == "lost_reply":
            await self._process(scope, exchange.receive, _swallow)
            await self._hang_up(peer, exchange)
        elif fault.kind == "truncated":
            await self._process(scope, exchange.receive, _Cut(exchange, fault.bytes).send)
            await self._hang_up(peer, exchange)
        else:
            if fault.processed:
                await self._process(scope, exchange.receive, _swallow)
            await spoiled_reply(fault)(scope, exchange.receive, exchange.send)

    async def _reply_late(self, seconds: float, scope: Scope, exchange: _Exchange) -> None:
        kept: list[Message] = []

        async def keep(message: Message) -> None:
            kept.append(message)

        await self._process(scope, exchange.receive, keep)
        await asyncio.sleep(seconds)
        for message in kept:
            await exchange.send(message)

    async def _hang_up(self, peer: Peer, exchange: _Exchange) -> None:
        self._connections.close(peer)
        await exchange.until_disconnected()


def check_token(authorization: str | None, tokens: frozenset[str]) -> None:
    """Raise unless `authorization` has a known token; the old scheme `Token` is accepted, too."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() not in ("bearer", "token") or not token.strip():
        raise problems.no_token()
    if token.strip() not in tokens:
        raise problems.wrong_token()


def spoiled_reply(fault: Fault) -> Response:
    """Return the reply that a fault sends in place of the real one."""
    status, wait = fault.status, fault.retry_after
    headers = {} if wait is None else {"retry-after": str(wait)}
    match fault.kind:
        case "error_page":
            return HTMLResponse(_ERROR_PAGE.format(status=status or 502), status or 502, headers)
        case "error_text":
            return PlainTextResponse(f"error code: {status or 520}", status or 520, headers)
        case "html":
            return HTMLResponse("<!DOCTYPE html><html><body>Just a moment…</body></html>")
        case "malformed":
            return Response('{"id":"vrsafsk7mnrgj0cf0p2a', media_type="application/json")
        case "throttled":
            return problems.throttled(wait).reply()
        case "unauthenticated":
            return problems.wrong_token().reply()
        case "insufficient_credit":
            return problems.insufficient_credit().reply()
        case _:
            return problems.not_found().reply()


class _Exchange:
    """Records the body of a request and the status of its reply as they pass."""

    def __init__(self, request: Request, receive: Receive, send: Send) -> None:
        self._request = request
        self._receive = receive
        self._send = send
        self._is_read = False
        self._held: deque[Message] = deque()

    async def receive(self) -> Message:
        return self._held.popleft() if self._held else await self._read()

    async def hold(self) -> None:
        """Read the whole request, to be received later."""
        while not self._is_read:
            self._held.append(await self._read())

    async def _read(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            room = _KEPT_BODY - len(self._request.body)
            self._request.body += message.get("body", b"")[:room]
            self._is_read = not message.get("more_body", False)
        else:
            self._is_read = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            # A client that is still sending would not read an early refusal.
            await self.read_all()
            self._request.status = message["status"]
        await self._send(message)

    async def read_all(self) -> None:
        while not self._is_read:
            await self._read()

    async def until_disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _Cut:
    """Passes on only the first bytes of a reply's body."""

    def __init__(self, exchange: _Exchange, size: int) -> None:
        self._exchange = exchange
        self._left = size

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._exchange.send(message)
        elif self._left > 0:
            body: bytes = message.get("body", b"")[: self._left]
            self._left -= len(body)
            await self._exchange.send({**message, "body": body, "more_body": True})


async def _swallow(message: Message) -> None:
    """Drop a reply."""


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    async def wrapped(message: Any) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return wrapped
