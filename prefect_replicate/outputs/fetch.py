"""Open a file's URL safely: allowed host, checked address, own redirects, token to the API only."""

from __future__ import annotations

import ipaddress
import math
import re
import socket
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import httpx

from prefect_replicate.api.route import proxy_for
from prefect_replicate.outputs.failure import Refused, TryAgain

_FILE_HOST = "replicate.delivery"
_BUCKET_HOST = "storage.googleapis.com"
_BUCKETS = re.compile(rb"/(?:replicate-files|r8-outputs-[\w-]+)/.+")
"""Replicate's own buckets, where files were stored until 2024."""

_API_FILE = re.compile(rb"(?:/v1)?/files/[A-Za-z0-9_=-]+(?:/download)?(?:\?.*)?")
"""Below the base URL; a gateway's base URL may already stand for `/v1`."""


@dataclass(frozen=True)
class AccessRules:
    """The URLs that the caller's settings allow.

    Args:
        api_url: The API that the prediction came from; http is allowed only if the API uses it.
        allowed_hosts: More file hosts, each `host` or `host:port`, without subdomains.
    """

    api_url: httpx.URL
    allowed_hosts: frozenset[str]

    @classmethod
    def make(cls, api_url: str, allowed_hosts: Iterable[str]) -> AccessRules:
        return cls(httpx.URL(api_url), frozenset(host.strip().lower() for host in allowed_hosts))

    def refusal(self, url: httpx.URL) -> str | None:
        """Say why a URL may not be fetched; return `None` if it may."""
        if url.scheme not in {"https", self.api_url.scheme}:
            return f"it uses {url.scheme}, and only https is allowed"
        own = self.api_url.raw_path.rstrip(b"/")
        if self.is_of_api(url) and not _API_FILE.fullmatch(url.raw_path.removeprefix(own)):
            return "it is on the API, but not one of its files"
        if not self._is_allowed(url):
            host = _host_and_port(url)
            return (
                f"its host {host} is not allowed; to trust it, add {host!r} to `allowed_hosts` of"
                " the call or of its ReplicateCredentials"
            )
        return None

    def has_files_alone(self, text: str) -> bool:
        """Return whether a URL is at one of Replicate's places for files, or on an allowed host."""
        try:
            url = parse_url(text)
        except Refused:
            return False
        return url.scheme in ("http", "https") and self.refusal(url) is None

    def is_of_api(self, url: httpx.URL) -> bool:
        """Return whether `url` is on the API's own origin, the only one that gets the token."""
        return url.scheme == self.api_url.scheme and url.netloc == self.api_url.netloc

    def _is_allowed(self, url: httpx.URL) -> bool:
        host = _host_and_port(url)
        return (
            host == _FILE_HOST
            or host.endswith(f".{_FILE_HOST}")
            or (host == _BUCKET_HOST and _BUCKETS.fullmatch(url.raw_path) is not None)
            or host in self.allowed_hosts
            # On any port: a local Replicate has its file host on a second one.
            or url.host == self.api_url.host
        )


def parse_url(text: str) -> httpx.URL:
    """Parse a URL that came from outside.

    Raises:
        Refused: It is not a URL.
    """
    try:
        return httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as exc:
        raise Refused("its URL is not valid") from exc


def _redirected(url: httpx.URL, location: str) -> httpx.URL:
    try:
        return parse_url(urljoin(str(url), location))
    except ValueError as exc:
        raise Refused("it redirects to a URL that is not valid") from exc


def is_internal(address: str) -> bool:
    """Return whether an IP address is private, loopback, link-local, or otherwise not public."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        # The two forms of an IPv6 address that lead to an IPv4 address in it.
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    return not ip.is_global or ip.is_multicast


def _host_and_port(url: httpx.URL) -> str:
    """Return the host, with the port unless it is the scheme's own."""
    return url.netloc.decode("ascii").lower()


_MAX_REDIRECTS = 5
_MOST_ADDRESSES = 8
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class Line:
    """The connection that a request for a file uses, so that another thread can cut it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.opened_at = math.inf
        """By the monotonic clock; infinity while there is no connection."""
        self.is_cut = False
        self.is_unwanted = False

    @contextmanager
    def used(self) -> Generator[None]:
        """Use it for one request and its redirects."""
        self.is_cut = False
        try:
            yield
        finally:
            self._socket, self.opened_at = None, math.inf

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Receive the events of httpx's `trace` extension."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self.opened(info["return_value"])

    def opened(self, stream: Any) -> None:
        """Record a connection; its host may not have sent anything yet."""
        self._socket = stream.get_extra_info("socket")
        self.opened_at = min(self.opened_at, time.monotonic())
        if self.is_unwanted:
            self.cut()

    def give_up(self) -> None:
        """Cut this connection, and any that is opened later."""
        self.is_unwanted = True
        self.cut()

    def cut(self) -> None:
        """Make a read or write that waits for the host fail at once."""
        used, self.is_cut = self._socket, True
        if used is not None:
            with suppress(OSError):  # it has been closed meanwhile
                # Not `SSLSocket.shutdown`, after which a read would return encrypted bytes.
                socket.socket.shutdown(used, socket.SHUT_RDWR)


@dataclass(frozen=True)
class Fetcher:
    """Requests for files, under one set of rules. Blocks."""

    http: httpx.Client
    rules: AccessRules
    token: str

    @contextmanager
    def stream(self, url: str, headers: Mapping[str, str], line: Line) -> Generator[httpx.Response]:
        """Send a GET, follow its redirects, and yield the reply with its body still unread.

        Args:
            url: The URL as received.
            headers: The request's headers.
            line: The connection to use.

        Raises:
            Refused: The URL, or one that it redirects to, is not allowed.
            TryAgain: A host's address can't be found at the moment.
        """
        with line.used():
            response = self._follow(parse_url(url), headers, line)
            try:
                line.opened(response.extensions["network_stream"])
                yield response
            finally:
                response.close()

    def _follow(self, url: httpx.URL, headers: Mapping[str, str], line: Line) -> httpx.Response:
        trusted = True
        for _ in range(_MAX_REDIRECTS + 1):
            # Once the redirects have left the API, others control them, even if they lead back.
            trusted = trusted and self.rules.is_of_api(url)
            response = self._send(url, headers, line, with_token=trusted)
            if not response.has_redirect_location:
                return response
            response.close()
            url = _redirected(url, response.headers["Location"])
        raise Refused(f"it redirects more than {_MAX_REDIRECTS} times")

    def _send(
        self, url: httpx.URL, headers: Mapping[str, str], line: Line, *, with_token: bool
    ) -> httpx.Response:
        if reason := self.rules.refusal(url):
            raise Refused(reason)
        sent = {**headers, "Accept-Encoding": "identity"}  # ranges count the bytes that are stored
        if with_token:
            sent["Authorization"] = f"Bearer {self.token}"
        failure: httpx.TransportError | None = None
        for request in self._requests(url, sent):
            request.extensions["trace"] = line.trace
            try:
                return self.http.send(request, stream=True, follow_redirects=False)
            except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
                failure = exc  # the host's next address may be reachable
            except httpx.LocalProtocolError:
                # Its text quotes the header, and so the token: neither show nor chain it.
                raise Refused("the API token has characters that a header can't contain") from None
        raise failure or TryAgain(f"{url.host} has no address")

    def _requests(self, url: httpx.URL, headers: Mapping[str, str]) -> list[httpx.Request]:
        """Build the same GET for each address of the host, to be tried in turn."""
        # A kept connection would bypass its `Line`.
        headers = {**headers, "Connection": "close"}
        request = self.http.build_request("GET", url, headers=headers, timeout=_TIMEOUT)
        if self.http.trust_env and proxy_for(request):
            # The proxy resolves the name, so only the proxy knows the address it connects to.
            return [request]
        return [self._pinned(url, address, headers) for address in self._addresses(url)]

    def _pinned(self, url: httpx.URL, address: str, headers: Mapping[str, str]) -> httpx.Request:
        """Build a GET that goes to the checked address, whatever DNS answers next.

        TLS still verifies the host's name. The connection isn't kept, since the pool would know it
        only by its address and could use it for another host at that address.
        """
        host = url.raw_host.decode("ascii")
        return self.http.build_request(
            "GET",
            url.copy_with(host=address),
            headers={**headers, "Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": host},
            timeout=_TIMEOUT,
        )

    def _addresses(self, url: httpx.URL) -> list[str]:
        addresses = _resolve(url)
        if any(map(is_internal, addresses)) and not self._is_api_internal():
            raise Refused(f"its host {url.host} is at an internal address")
        return addresses

    def _is_api_internal(self) -> bool:
        return all(map(is_internal, _resolve(self.rules.api_url)))


def _resolve(url: httpx.URL) -> list[str]:
    try:
        found = socket.getaddrinfo(url.raw_host, url.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError, OverflowError) as exc:
        raise TryAgain(f"the address of {url.host} can't be found ({exc})") from exc
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))[:_MOST_ADDRESSES]
