"""The requests that reached the emulator, kept for tests to look at."""

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
        status: Of the reply; `None` while there is none, or if there never was one.
        fault: The kind of fault that it met.
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
    """The requests in the order in which they came, the last 100,000 of them."""

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
        # Streams live on the same port for convenience, and do get the token from clients.
        files = (one for one in self if one.host == "files" and "/v1/streams/" not in one.path)
        sent = (one.headers.get("authorization") for one in files)
        return [value for value in sent if value is not None]
