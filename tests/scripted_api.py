"""A server that answers what a test says, for replies that the local Replicate never gives."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prefect_replicate import ReplicateCredentials


class Raw:
    """A reply as it goes over the line: bytes, and seconds to wait between them."""

    def __init__(self, *pieces: bytes | float) -> None:
        self.pieces = pieces


@dataclass
class ScriptedAPI:
    """An API that answers what a test says, for replies that the emulator never gives."""

    base_url: str = ""
    replies: list[Any] = field(default_factory=list)
    routes: dict[str, Any] = field(default_factory=dict)
    """By how a path begins: what is answered there, before anything else is."""
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

        A body is JSON for a 200, or a tuple of status, body, and maybe headers, or `Raw`.
        """
        self.replies = list(bodies)

    def reply_to(self, path: str) -> tuple[int, Any, dict[str, str]] | Raw:
        fitting = [reply for start, reply in self.routes.items() if path.startswith(start)]
        return _whole(fitting[0]) if fitting else self.next_reply()

    def next_reply(self) -> tuple[int, Any, dict[str, str]] | Raw:
        return _whole(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])


def _whole(reply: Any) -> tuple[int, Any, dict[str, str]] | Raw:
    if isinstance(reply, Raw):
        return reply
    if not isinstance(reply, tuple):
        return 200, reply, {}
    return (*reply, {})[:3] if len(reply) == 2 else reply


@contextlib.contextmanager
def served(context: ssl.SSLContext | None = None) -> Iterator[ScriptedAPI]:
    """A scripted API that listens, by TLS where a context for it is given."""
    api, ended = ScriptedAPI(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            received = self.rfile.read(int(self.headers.get("content-length", 0)))
            is_json = "json" in self.headers.get("content-type", "")
            api.bodies.append(json.loads(received) if is_json else received or None)
            api.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            reply = api.reply_to(self.path)
            if isinstance(reply, Raw):
                self.send_raw(reply)
                return
            status, body, headers = reply
            content = body.encode() if isinstance(body, str) else body
            if not isinstance(content, bytes):
                content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def send_raw(self, reply: Raw) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):  # the client has had enough
                for piece in reply.pieces:
                    if isinstance(piece, bytes):
                        self.wfile.write(piece)
                    elif ended.wait(piece):
                        return

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
        ended.set()
        server.shutdown()
