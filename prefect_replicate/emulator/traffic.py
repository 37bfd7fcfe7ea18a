"""The requests that reached the emulator, kept for tests to inspect."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Host = Literal["api", "files"]


@dataclass
class Request:
    """A request as it arrived.

    Args:
        host: Whether it came to the API or to the file host.
        headers: By lower-case name.
        time: On the emulator's clock, in seconds since the epoch.
        body: At most the first MiB.
        status: The reply's status; `None` while there is no reply, or if there never was one.
        fault: The kind of fault that affected it.
    """

    host: Host
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    time: float
    body: bytes = b""
    status: int | None = None
    fault: str | None = None

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


@dataclass
class Traffic:
    """The last 100,000 requests, in order of arrival."""

    _requests: deque[Request] = field(default_factory=lambda: deque[Request](maxlen=100_000))

    def __iter__(self) -> Iterator[Request]:
        return iter(tuple(self._requests))

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, index: int) -> Request:
        return self._requests[index]

    def add(self, request: Request) -> None:
        """Keep `request`."""
        self._requests.append(request)

    def clear(self) -> None:
        """Forget all requests."""
        self._requests.clear()

    def matching(self, method: str | None = None, path: str = "") -> list[Request]:
        """Return the requests with this method whose path contains `path`."""
        return [one for one in self if method in (None, one.method) and path in one.path]

    @property
    def file_authorizations(self) -> list[str]:
        """The Authorization headers that reached the file host, where none should."""
        # Streams are on the same port for convenience, and clients do send them the token.
        files = (one for one in self if one.host == "files" and "/v1/streams/" not in one.path)
        sent = (one.headers.get("authorization") for one in files)
        return [value for value in sent if value is not None]
