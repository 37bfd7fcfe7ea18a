"""The route to the API and to file hosts, set by the environment and the base URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.request import (
    getproxies,
    proxy_bypass_environment,  # pyright: ignore  # typeshed lacks it
)

import httpx

from prefect_replicate.exceptions import ConfigurationError

_VERSION = b"/v1"

T = TypeVar("T", httpx.HTTPTransport, httpx.AsyncHTTPTransport)


_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=8)
"""Each request scans all connections that are kept, and hardly more than these are needed."""


class Route(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Sends each request through the proxy that the environment names for its host, or directly.

    The official client passes its own transport to httpx, so httpx ignores `HTTPS_PROXY`,
    `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.

    A base URL with a path, as gateways have, replaces all of https://api.replicate.com/v1: the
    official client's `/v1` after it is dropped.
    """

    def __init__(self, base_url: str = "") -> None:
        self._base = httpx.URL(base_url).raw_path.rstrip(b"/") if base_url else b""
        self._blocking: dict[str | None, httpx.HTTPTransport] = {}
        self._async: dict[str | None, httpx.AsyncHTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and block."""
        return self._way(request, self._blocking, httpx.HTTPTransport).handle_request(
            self._behind_gateway(request)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        way = self._way(request, self._async, httpx.AsyncHTTPTransport)
        return await way.handle_async_request(self._behind_gateway(request))

    def close(self) -> None:
        """Close the blocking connections."""
        for way in self._blocking.values():
            way.close()

    async def aclose(self) -> None:
        """Close the event loop's connections."""
        for way in self._async.values():
            await way.aclose()

    def _way(self, request: httpx.Request, ways: dict[str | None, T], make: Callable[..., T]) -> T:
        proxy = proxy_for(request)
        if proxy not in ways:
            try:
                ways[proxy] = make(proxy=proxy, limits=_LIMITS)
            except (ImportError, ValueError, httpx.InvalidURL) as exc:
                raise ConfigurationError(
                    f"The proxy that the environment names for {request.url.host} can't be used:"
                    f" {exc}"
                ) from exc
        return ways[proxy]

    def _behind_gateway(self, request: httpx.Request) -> httpx.Request:
        path = request.url.raw_path
        if self._base and path.startswith(self._base + _VERSION + b"/"):
            rest = path.removeprefix(self._base + _VERSION)
            request.url = request.url.copy_with(raw_path=self._base + rest)
        return request


def proxy_for(request: httpx.Request) -> str | None:
    """Return the proxy that the environment names for a request's host, if any."""
    proxies = getproxies()
    proxy = proxies.get(request.url.scheme) or proxies.get("all")
    if not proxy:
        return None
    # A request that is pinned to an IP address has its host's name there.
    host = request.extensions.get("sni_hostname") or request.url.host
    port = request.url.port or {"http": 80, "https": 443}.get(request.url.scheme, 0)
    are_direct = [one.strip() for one in proxies.get("no", "").split(",")]
    if "*" in are_direct or proxy_bypass_environment(f"{host}:{port}", proxies):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
