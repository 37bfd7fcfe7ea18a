"""The open connections, so that a fault can cut one."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

Peer = tuple[str, int]
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Connections:
    """Every open connection by the client's address and port."""

    def __init__(self) -> None:
        self._transports: dict[Peer, asyncio.Transport] = {}

    def protocol(self) -> type[H11Protocol]:
        """Return uvicorn's HTTP protocol, changed to register its connections here."""
        transports = self._transports

        class _Protocol(H11Protocol):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                if self.client is not None:
                    transports[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client is not None:
                    transports.pop(self.client, None)
                super().connection_lost(exc)

        return _Protocol

    def close(self, peer: Peer) -> None:
        """Send what was written, then close the connection."""
        if transport := self._transports.get(peer):
            transport.close()

    def reset(self, peer: Peer) -> None:
        """Close the connection with a TCP reset."""
        if transport := self._transports.get(peer):
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()

    def close_all(self) -> None:
        """Close every connection, even one in use."""
        for transport in list(self._transports.values()):
            transport.abort()
