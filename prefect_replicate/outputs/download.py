"""Fetch one file: streamed, resumed, hashed on the way, and complete or not there at all.

Each file has its own thread from the first request to the last byte on disk. Measured, that is
faster than an async client that writes in a thread, and it keeps the engine's loop free.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import NamedTuple

import anyio
import httpx

from prefect_replicate.engine import in_thread
from prefect_replicate.outputs.failure import TRANSIENT, Gone, Refused, TransferPolicy, TryAgain
from prefect_replicate.outputs.fetch import Fetcher, Line
from prefect_replicate.outputs.found import decode_data_uri, is_inline
from prefect_replicate.outputs.part import PartFile
from prefect_replicate.settings import MAX_FILE_SIZE
from prefect_replicate.values.media_types import UNKNOWN, extension_for, media_type_of

_NUMBER = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
_PACKINGS = {"identity", "gzip", "deflate"}
"""A piece of 64 kB unpacks to at most 1000 times its size."""

_TRY_AGAIN = frozenset({408, 425, 429})


class Body(NamedTuple):
    """The bytes in a reply."""

    start: int
    """Where in the file they begin."""
    total: int | None
    """The size of the whole file, if the host states it."""
    etag: str | None
    content_type: str | None
    disposition: str | None = None
    is_packed: bool = False
    """Whether the host compresses it although asked not to."""


def range_headers(size: int, etag: str | None) -> dict[str, str]:
    """Return headers that ask for the missing bytes, if the file is still the same."""
    if not size or etag is None:
        return {}
    return {"Range": f"bytes={size}-", "If-Range": etag}


def read_reply(status: int, headers: Mapping[str, str], size: int) -> Body | None:
    """Return which bytes follow; `None` if the bytes that we have are of no use.

    Args:
        status: The HTTP status of the reply.
        headers: Its headers, looked up in any case.
        size: How many bytes we had when we sent the request.

    Raises:
        Gone: The file was deleted.
        TryAgain: The host can't answer at the moment.
        Refused: The host won't answer.
    """
    packing = headers.get("content-encoding", "identity").strip().lower()
    if status in (200, 206) and packing not in _PACKINGS:
        raise Refused(f"its host compresses it as {packing!r} although asked not to")
    if status == 200 and packing != "identity":
        # Its length, ranges and ETag describe the packed bytes.
        return _body(headers, 0, None)._replace(etag=None, is_packed=True)
    if status == 200:
        return _body(headers, 0, _number(headers.get("content-length")))
    if status == 206:
        return _partial(headers, size) if packing == "identity" else None
    if status == 416:
        return None
    if status in (404, 410):
        raise Gone
    if status in _TRY_AGAIN or status >= 500:
        # A date counts as no header: the back-off is enough.
        raise TryAgain(f"HTTP {status}", _number(headers.get("retry-after")) or 0)
    raise Refused(f"its host answered HTTP {status}")


def _partial(headers: Mapping[str, str], size: int) -> Body | None:
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if match is None or int(match[1]) != size:
        return None
    return _body(headers, size, _number(match[2]))


def _body(headers: Mapping[str, str], start: int, total: int | None) -> Body:
    etag = headers.get("etag")
    if etag is not None and etag.startswith("W/"):
        etag = None  # RFC 9110, 13.1.5: a weak ETag doesn't guarantee equal bytes
    named = headers.get("content-disposition")
    return Body(start, total, etag, headers.get("content-type"), named)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


Report = Callable[[int, int | None], None]

_PATIENCE = 10.0
"""Seconds that a canceled caller waits for its thread to close what it has open."""

A_WHILE = 60.0
_SLOWEST = 600_000
"""Bytes in that time. A host that sends less would block a thread for days."""

_SLOW = f"less than {_SLOWEST // 1000} kB arrived in {A_WHILE:.0f} s"

_REPORT_SECONDS = 0.1


@dataclass(frozen=True)
class DownloadedFile:
    """A complete file under its final name."""

    path: Path
    media_type: str
    size: int
    sha256: str


async def download(
    url: str,
    folder: Path,
    stem: str,
    fetcher: Fetcher,
    policy: TransferPolicy,
    report: Report,
    largest: int = sys.maxsize,
) -> DownloadedFile:
    """Download a URL's file into `folder` as `{stem}.{extension}`.

    Args:
        url: An http, https or data URL.
        folder: An existing folder. A part that an interrupted call left there is resumed.
        stem: The name without extension.
        fetcher: Sends the requests.
        policy: How often and for how long to try.
        report: Called with the bytes so far and the file's size, if known.
        largest: The most bytes that the file may have.

    Raises:
        Gone: The host has deleted the file.
        Refused: The host or the URL is not acceptable.
        TryAgain, httpx.TransportError: No attempt within the policy's limits succeeded.
        OSError: The file can't be written.
    """
    loop = asyncio.get_running_loop()
    transfer = _Transfer(
        url,
        fetcher,
        PartFile(folder, stem),
        partial(loop.call_soon_threadsafe, report),
        largest,
    )
    working = asyncio.create_task(in_thread(transfer.run, folder, stem, policy, of="downloads"))
    try:
        while not (await asyncio.wait({working}, timeout=A_WHILE))[0]:
            transfer.cut_if_slow()
        return working.result()
    except asyncio.CancelledError:
        transfer.stop()
        working.add_done_callback(lambda done: done.exception())  # nobody else retrieves it
        with anyio.CancelScope(shield=True):
            await asyncio.wait([working], timeout=_PATIENCE)
        raise


@dataclass
class _Transfer:
    """All attempts at one file, which share its part."""

    url: str
    fetcher: Fetcher
    part: PartFile
    report: Callable[[int, int | None], object]
    largest: int
    unwanted: Event = field(default_factory=Event)
    _line: Line = field(default_factory=Line)
    _received: int = 0
    _mark: tuple[float, int] = (0.0, 0)
    """When the received bytes were last checked, and how many there were."""

    def stop(self) -> None:
        """Make `run` end soon, from another thread."""
        self.unwanted.set()
        self._line.give_up()

    def cut_if_slow(self) -> None:
        """Cut a connection older than the last call, if almost nothing has arrived since then."""
        marked_at, before = self._mark
        if self._line.opened_at <= marked_at and self._received - before < _SLOWEST:
            self._line.cut()
        self._mark = time.monotonic(), self._received

    def run(self, folder: Path, stem: str, policy: TransferPolicy) -> DownloadedFile:
        """Fetch the file, and give it its final name. Blocks."""
        try:
            self.part.open()
            body = self._decode() if is_inline(self.url) else self._fetch(policy)
            media_type = media_type_of(body.content_type, self.url)
            self._check_kind(media_type)
            extension = extension_for(media_type, self.url, body.disposition)
            final = folder / f"{stem}.{extension}"
            self.part.finish(final)
            return DownloadedFile(final, media_type, self.part.size, self.part.sha256)
        except (Gone, Refused):
            self.part.discard()
            raise
        finally:
            self.part.close()

    def _check_kind(self, media_type: str) -> None:
        """Refuse other content in place of an image, a video or audio.

        Raises:
            Refused: There is other content; the message says what it is.
        """
        expected = media_type_of(None, self.url)
        if expected == UNKNOWN:
            expected = media_type
        kind = expected.partition("/")[0]
        if kind not in ("audio", "image", "video") or expected == "image/svg+xml":
            return
        if not self.part.size:
            raise Refused(f"its host sent an empty file instead of {kind}")
        head = self.part.head().lstrip().lower()
        if media_type == "text/html" or head.startswith((b"<!doctype html", b"<html")):
            raise Refused(f"its host sent an HTML page instead of {kind}")
        if media_type == "application/json" or head.startswith((b"{", b"[{", b'["')):
            raise Refused(f"its host sent JSON instead of {kind}")

    def _decode(self) -> Body:
        file = decode_data_uri(self.url)
        self.part.restart(None)
        self.part.write(file.content)
        self.report(self.part.size, self.part.size)
        return Body(0, self.part.size, None, file.media_type)

    def _fetch(self, policy: TransferPolicy) -> Body:
        """Fetch the file into its part, and say what it is."""
        return policy.downloading(TRANSIENT, self.unwanted)(self._attempt)

    def _attempt(self) -> Body:
        if self.unwanted.is_set():
            raise TryAgain("the caller was interrupted")
        try:
            return self._try()
        except httpx.TransportError as exc:
            if not self._line.is_cut:
                raise
            raise TryAgain(_SLOW) from exc

    def _check_wanted(self) -> None:
        """Accept nothing after a cut: it may differ from what the host sent, or be incomplete."""
        if self.unwanted.is_set():
            raise TryAgain("the caller was interrupted")
        if self._line.is_cut:
            raise TryAgain(_SLOW)

    def _try(self) -> Body:
        headers = range_headers(self.part.size, self.part.etag)
        with self.fetcher.stream(self.url, headers, self._line) as response:
            body = read_reply(response.status_code, response.headers, self.part.size)
            if body is None or (body.start and body.etag != self.part.etag):
                # Also if a host ignores `If-Range`: the bytes would be of two files.
                self.part.restart(None)
                raise TryAgain(
                    f"HTTP {response.status_code} does not match the part received so far"
                )
            if body.start == 0:
                self.part.restart(body.etag)
            self._check_size(body.total or 0)
            self._receive(response, body)
        self._check_wanted()
        if body.total not in (None, self.part.size):
            raise TryAgain(f"{self.part.size} of {body.total} bytes arrived")
        return body

    def _receive(self, response: httpx.Response, body: Body) -> None:
        reported = 0.0
        for piece in response.iter_bytes() if body.is_packed else response.iter_raw():
            self._check_wanted()
            self._received += len(piece)
            self._check_size(self.part.size + len(piece))
            self.part.write(piece)
            if (now := time.monotonic()) - reported >= _REPORT_SECONDS:
                reported = now
                self.report(self.part.size, body.total)
        self.report(self.part.size, body.total)

    def _check_size(self, size: int) -> None:
        if size > self.largest:
            raise Refused(
                f"it is larger than the {self.largest:,} bytes that {MAX_FILE_SIZE} allows"
            )
