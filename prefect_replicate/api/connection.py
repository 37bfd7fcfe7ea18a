"""One connection pool for each account and address in a process."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import anyio
import httpx
from pydantic import SecretStr
from replicate.client import Client
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from prefect_replicate.api.clock import Clock
from prefect_replicate.api.replies import (
    allowance,
    created_at,
    error_in,
    read_json,
    reduced_limit,
    retry_after,
    text_of,
)
from prefect_replicate.api.route import Route
from prefect_replicate.api.throttle import Gates, Turn
from prefect_replicate.engine import known_state, process_state
from prefect_replicate.exceptions import (
    APIError,
    APIUnreachableError,
    ConfigurationError,
    ReplicateError,
)
from prefect_replicate.text import in_line, keep_secret

DEFAULT_BASE_URL = "https://api.replicate.com"

# A create without `Prefer: wait` is answered in seconds; the client's own `None` never gives up.
_TIMEOUT = httpx.Timeout(60.0, connect=10.0, pool=60.0)
_WHOLE_SECONDS = 60.0
"""From the first byte of a request to the last byte of its reply; large ones get more."""

_SLOWEST = 50_000.0
"""Bytes per second: sent and received bytes extend the time limit at this rate."""

_LARGEST_REPLY = 128 * 1024 * 1024
"""In bytes, unpacked: some models output texts of tens of megabytes."""

_ACCEPTED = "gzip, deflate"
_ENCODINGS = {"", "identity", "gzip", "deflate"}
"""These expand a 64 kB piece at most 1000 times; other encodings, or several, have no bound."""

_OF_TRANSFER = {b"content-encoding", b"content-length", b"transfer-encoding"}

_RETRY_SECONDS = 30.0
_THROTTLED_SECONDS = 600.0  # a 429 is a queue, not a fault: waiting in it loses nothing
_LONGEST_PAUSE = 60.0  # all of Replicate's limits are full again after a minute

# An edge may send these although it has forwarded the request.
_PERHAPS_ACCEPTED = {408, 409, 425}

# Raised before any byte of the request is sent.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Address(NamedTuple):
    """An API and the token for it. Hashable, and its `repr` hides the token."""

    base_url: str
    token: SecretStr


class _UnusableReply(httpx.TransportError):
    """A reply that we refuse to receive in full."""


class _BadAddress(Exception):
    """No request can be built from the base URL."""


class LostReplyError(Exception):
    """A request that must not be repeated was sent, and its fate is unknown."""


class Refused(Exception):
    """A reply or failure after which another attempt may succeed.

    `pause` is the number of seconds that the API asks us to wait, if it does.
    """

    def __init__(self, error: APIError, pause: float | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


def new_client(address: Address) -> Client:
    """Make the official client, without its own retries.

    Those sleep for as long as `Retry-After` says, without a cap, and don't know about ours.
    """
    return Client(
        api_token=address.token.get_secret_value(),
        base_url=address.base_url,
        timeout=_TIMEOUT,
        transport=Route(address.base_url),
    )


def connection_to(address: Address) -> Connection:
    """Return this process's connection to `address`; call it on the engine's loop."""
    keep_secret(address.token.get_secret_value())
    return process_state(("connection", address), lambda: Connection(address))


def forget_what_was_learnt() -> None:
    """Forget what this process has learned about accounts; for tests, which reset them."""
    state = known_state() or {}
    for key in ("history", "uploads"):
        state.pop(key, None)
    for one in list(state.values()):
        if isinstance(one, Connection):
            one.gates, one.clock = Gates(), Clock()


class Connection:
    """Requests to one account. Lives on the engine's loop."""

    def __init__(self, address: Address) -> None:
        self.address = address
        http = new_client(address)._async_client  # pyright: ignore[reportPrivateUsage]
        http._transport.max_attempts = 1  # pyright: ignore  # see `new_client`
        http.headers["accept-encoding"] = _ACCEPTED  # httpx also asks for other installed ones
        keep_no_cookies(http)
        self._http = http
        self.gates = Gates()
        self.clock = Clock()

    async def read(
        self, method: str, path: str, longest_pause: float = _LONGEST_PAUSE, **kwargs: Any
    ) -> Any:
        """Send a request that may be repeated, and return the JSON of its reply.

        Args:
            method: HTTP method.
            path: Below the base URL.
            longest_pause: Seconds between two attempts at most, whatever a 5xx reply asks for.
            kwargs: As for `httpx.AsyncClient.request`.

        Raises:
            ConfigurationError: The key was rejected.
            APIError: The API refused.
            APIUnreachableError: No usable reply after half a minute of attempts.
        """
        try:
            retrying = self.retrying(longest_pause=longest_pause)
            return await retrying(self._attempt, method, path, None, kwargs)
        except Refused as refusal:
            raise refusal.error from refusal.__cause__

    async def read_once(self, path: str, **kwargs: Any) -> Any:
        """`read` by GET without retries, for a caller with its own back-off.

        Raises:
            Refused: Another attempt may succeed.
            ConfigurationError: The key was rejected.
            APIError: The API refused.
        """
        return await self._attempt("GET", path, None, kwargs)

    async def write_once(self, path: str, turn: Turn, **kwargs: Any) -> Any:
        """Send a POST that must not be repeated once it may have been processed.

        Args:
            path: Below the base URL.
            turn: Its place in the queue, already at the front.
            kwargs: As for `httpx.AsyncClient.request`.

        Raises:
            Refused: It was not processed; another attempt may succeed.
            LostReplyError: It was sent, and whether it was processed is unknown.
            ConfigurationError: The key was rejected.
            APIError: The API refused; nothing was paid.
        """
        return await self._attempt("POST", path, turn, kwargs)

    def retrying(
        self,
        turn: Turn | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        longest_pause: float = _LONGEST_PAUSE,
    ) -> AsyncRetrying:
        """Return the retries of a request that may be `Refused`: for 30 s, or 10 min if throttled.

        Args:
            turn: The place of a request that keeps it; otherwise each attempt takes a new one.
            sleep: Between two attempts.
            longest_pause: Seconds.
        """
        return AsyncRetrying(
            retry=retry_if_exception_type(Refused),
            stop=lambda state: _out_of_patience(state, turn),
            wait=lambda state: _pause(state, longest_pause),
            sleep=sleep,
            reraise=True,
        )

    async def learn_time(self) -> None:
        """Request Replicate's time once, if no reply has stated it yet; API errors are ignored."""
        if not self.clock.is_known:
            with contextlib.suppress(Refused, APIError):
                await self.read_once("/v1/account")

    async def _attempt(
        self, method: str, path: str, turn: Turn | None, kwargs: dict[str, Any]
    ) -> Any:
        repeatable = turn is None
        turn = turn or self.gates.turn(method, path)
        await turn.come()
        sent_at = time.monotonic()
        try:
            reply = await self._reply(turn, method, path, kwargs)
        except _BadAddress as exc:
            raise self._bad_address(exc) from exc.__cause__
        except ReplicateError:  # there is no way to send it
            raise
        except Exception as exc:  # a reply can make httpx raise anything
            if isinstance(exc, httpx.ConnectError) and _is_untrusted(exc):
                raise self._untrusted(exc) from exc
            if not repeatable and not isinstance(exc, _NEVER_SENT):
                raise LostReplyError(f"{method} {path}: {_described(exc)}") from exc
            if not isinstance(exc, httpx.HTTPError) or isinstance(exc, _UnusableReply):
                reason = exc if isinstance(exc, _UnusableReply) else _described(exc)
                raise APIError(f"{method} {path}: the reply can't be read: {reason}.") from exc
            raise Refused(self._unreachable(exc), None) from exc
        received_at = time.monotonic()
        self.clock.heard(reply.headers.get("date"), sent_at, received_at)
        content = self._content_of(reply, method, path, repeatable)
        if not repeatable:
            self.clock.saw_create(created_at(content), sent_at, received_at)
        return content

    async def _reply(
        self, turn: Turn, method: str, path: str, kwargs: dict[str, Any]
    ) -> httpx.Response:
        """Send a request whose turn has come, and report the result to its queue."""
        try:
            request = self._http.build_request(method, path, **kwargs)
            reply = await self._exchange(request)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
            turn.give_back()
            raise _BadAddress(str(exc)) from exc
        except (ReplicateError, *_NEVER_SENT):
            turn.give_back()
            raise
        except BaseException:
            turn.spent()
            raise
        if reply.status_code == 429:
            turn.refused(retry_after(reply), _LONGEST_PAUSE, reduced_limit(reply))
        elif stated := allowance(reply):
            turn.answered(*stated)
        else:
            turn.spent()
        return reply

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        """Send a request and receive its whole reply, within the limits of time and size."""
        sent, began = int(request.headers.get("content-length", 0)), time.monotonic()
        try:
            with anyio.fail_after(_WHOLE_SECONDS + sent / _SLOWEST) as scope:
                reply = await self._http.send(request, stream=True)
                try:
                    content = await _received(reply, scope)
                finally:
                    await reply.aclose()
        except TimeoutError as exc:
            seconds = time.monotonic() - began
            raise httpx.ReadTimeout(f"no complete reply within {seconds:.0f} s") from exc
        headers = [one for one in reply.headers.raw if one[0].lower() not in _OF_TRANSFER]
        return httpx.Response(reply.status_code, headers=headers, content=content)

    def _content_of(self, reply: httpx.Response, method: str, path: str, repeatable: bool) -> Any:
        what = f"{method} {path}"
        if reply.status_code == 401:
            raise _rejected_key(reply, self.address)
        if reply.status_code == 429:
            raise Refused(error_in(reply, what), retry_after(reply))
        if not repeatable and reply.status_code in _PERHAPS_ACCEPTED:
            raise LostReplyError(f"{what}: HTTP {reply.status_code}")
        if reply.status_code >= 500:
            if not repeatable and reply.status_code != 503:
                raise LostReplyError(f"{what}: HTTP {reply.status_code}")
            raise Refused(error_in(reply, what), retry_after(reply))
        if not reply.is_success:  # redirects too: following one could expose the token
            raise error_in(reply, what)
        if not reply.content:
            return None
        try:
            return read_json(reply.content)
        except ValueError as exc:
            if not repeatable:
                raise LostReplyError(f"{what}: not JSON: {text_of(reply)[:80]!r}") from exc
            raise Refused(error_in(reply, what), None) from exc

    def _bad_address(self, exc: Exception) -> ConfigurationError:
        return ConfigurationError(
            f"base_url {self.address.base_url!r} can't be used: {exc}. It should look like"
            f" {DEFAULT_BASE_URL}, without /v1."
        )

    def _untrusted(self, exc: Exception) -> ConfigurationError:
        host = urlsplit(self.address.base_url).netloc
        return ConfigurationError(
            f"The certificate of {host} is not trusted ({exc}). If it is genuine, set SSL_CERT_FILE"
            " to its authority's certificate."
        )

    def _unreachable(self, exc: Exception) -> APIUnreachableError:
        base_url = self.address.base_url
        what = f"Replicate's API at {urlsplit(base_url).netloc} can't be reached: {_described(exc)}"
        if not isinstance(exc, _NEVER_SENT):
            return APIUnreachableError(what)
        if base_url == DEFAULT_BASE_URL:
            return APIUnreachableError(f"{what}; check this machine's network")
        return APIUnreachableError(
            f"{what}; check that its server is running, and that REPLICATE_BASE_URL or the"
            " credentials block's `base_url` is its address"
        )


async def _received(reply: httpx.Response, scope: anyio.CancelScope) -> bytes:
    encoding = reply.headers.get("content-encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise _UnusableReply(f"its content-encoding is {encoding!r}")
    content = bytearray()
    async for piece in reply.aiter_bytes():
        content += piece
        scope.deadline += len(piece) / _SLOWEST
        if len(content) > _LARGEST_REPLY:
            raise _UnusableReply(f"it is larger than {_LARGEST_REPLY // 1024**2} MB")
    return bytes(content)


def keep_no_cookies(http: httpx.Client | httpx.AsyncClient) -> None:
    """Make a client ignore all cookies: nothing needs them, and an odd one would stay forever."""
    http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))


def _out_of_patience(state: RetryCallState, turn: Turn | None) -> bool:
    passed = state.seconds_since_start or 0.0
    if _last_refusal(state).error.status != 429:
        return passed >= _RETRY_SECONDS
    # Only its own refusals count: a create may have waited long because others were refused.
    return (turn.seconds_refused if turn else passed) >= _THROTTLED_SECONDS


def _pause(state: RetryCallState, longest: float) -> float:
    refusal = _last_refusal(state)
    if refusal.error.status == 429:
        return 0.0  # the queue does the waiting, for all requests
    backoff = wait_random_exponential(multiplier=0.5, max=longest)(state)
    asked = refusal.pause
    return backoff if asked is None else min(asked, longest) + min(backoff, 1.0)


def _last_refusal(state: RetryCallState) -> Refused:
    failure = state.outcome.exception() if state.outcome else None
    assert isinstance(failure, Refused)
    return failure


def _is_untrusted(exc: BaseException | None) -> bool:
    while exc is not None and not isinstance(exc, ssl.SSLCertVerificationError):
        exc = exc.__cause__ or exc.__context__
    return exc is not None


def _described(exc: Exception) -> str:
    if isinstance(exc, _UnusableReply):
        return f"the reply can't be read: {exc}"
    return f"{type(exc).__name__}: {in_line(exc)}" if str(exc) else type(exc).__name__


def _rejected_key(reply: httpx.Response, address: Address) -> ReplicateError:
    detail = str(error_in(reply, "")).strip(": ")
    return ConfigurationError(
        f"Replicate at {urlsplit(address.base_url).netloc} rejected the API token ({detail}). Set a"
        " valid one in the ReplicateCredentials block's `api_token` or in REPLICATE_API_TOKEN."
    )
