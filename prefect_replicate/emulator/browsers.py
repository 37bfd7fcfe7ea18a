"""What web pages may request from a local Replicate on the browser's machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from prefect_replicate.emulator.front import CONTROL

_NAMES = ("127.0.0.1", "localhost", "::1")


def why_foreign(scope: Scope) -> str | None:
    """Say why a request may come from a foreign web page; return `None` if it can't.

    A page can make its own host name resolve to this machine, and can send requests whose replies
    it can't read.
    """
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if _host_of(f"//{host}") not in _NAMES:
        return f"The local Replicate can't be reached as {host!r}, only as {', '.join(_NAMES)}."
    origin = headers.get("origin")
    is_elsewhere = origin is not None and _host_of(origin) not in _NAMES
    if scope["path"].startswith(CONTROL) and (
        is_elsewhere or headers.get("sec-fetch-site") == "cross-site"
    ):
        return "Web pages from other sites can't control the local Replicate."
    return None


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # half an IPv6 address
        return None
