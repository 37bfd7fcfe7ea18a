"""Which hosts and addresses files may be fetched from, and which of them sees the token."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from prefect_replicate.outputs.failure import Refused

_FILE_HOST = "replicate.delivery"


@dataclass(frozen=True)
class AccessRules:
    """What the caller's settings allow.

    Args:
        api_url: The API that the prediction came from; http is allowed only where it uses it.
        allowed_hosts: More file hosts, each `host` or `host:port`, without subdomains.
    """

    api_url: httpx.URL
    allowed_hosts: frozenset[str]

    @classmethod
    def make(cls, api_url: str, allowed_hosts: Iterable[str]) -> AccessRules:
        return cls(httpx.URL(api_url), frozenset(host.strip().lower() for host in allowed_hosts))

    def refusal(self, url: httpx.URL) -> str | None:
        """Say why a URL may not be fetched; `None` where it may."""
        if url.scheme not in {"https", self.api_url.scheme}:
            return f"it is on {url.scheme}, and only https is allowed"
        if not self._is_allowed(url):
            host = _host_and_port(url)
            return f"its host {host} is not allowed; to trust it, add {host!r} to `allowed_hosts`"
        return None

    def may_see_token(self, url: httpx.URL) -> bool:
        """Whether `url` is on the API's own origin: the same scheme, host and port."""
        return url.scheme == self.api_url.scheme and url.netloc == self.api_url.netloc

    def _is_allowed(self, url: httpx.URL) -> bool:
        host = _host_and_port(url)
        return (
            host == _FILE_HOST
            or host.endswith(f".{_FILE_HOST}")
            or host in self.allowed_hosts
            # On any port: a Replicate on one's own machine has its file host on a second one.
            or url.host == self.api_url.host
        )


def parse_url(text: str) -> httpx.URL:
    """Parse a URL that came from outside.

    Raises:
        Refused: It is not one.
    """
    try:
        return httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError) as exc:
        raise Refused("its URL is not valid") from exc


def is_internal(address: str) -> bool:
    """Whether an IP address is private, loopback, link-local, or otherwise not on the internet."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        # The two forms in which an IPv6 address leads to the IPv4 one that it carries.
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    return not ip.is_global or ip.is_multicast


def _host_and_port(url: httpx.URL) -> str:
    """The host, with the port where it is not the scheme's own."""
    return url.netloc.decode("ascii").lower()
