"""Fetch one file: streamed, resumed, hashed on the way, and whole or not there at all.

A file has a thread of its own from the first request to the last byte on the disk. Measured, that
is faster than an async client with its writes in a thread, and it leaves the engine's loop alone.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event

import anyio
import httpx

from prefect_replicate.outputs.collect import is_inline
from prefect_replicate.outputs.failure import TRANSIENT, Gone, TryAgain
from prefect_replicate.outputs.fetch import Fetcher
from prefect_replicate.outputs.inline import decode_data_uri
from prefect_replicate.outputs.names import extension_for, media_type_of
from prefect_replicate.outputs.part import PartFile
from prefect_replicate.outputs.replies import Body, range_headers, read_reply
from prefect_replicate.outputs.retry import TransferPolicy

Report = Callable[[int, int | None], None]

_PATIENCE = 10.0
"""Seconds that a cancelled caller waits for its thread to close what it has open."""

_REPORT_SECONDS = 0.1


@dataclass(frozen=True)
class DownloadedFile:
    """A file that is whole and under its final name."""

    path: Path
    media_type: str
    size: int
    sha256: str


async def download(
    url: str, folder: Path, stem: str, fetcher: Fetcher, policy: TransferPolicy, report: Report
) -> DownloadedFile:
    """Bring a URL's file into `folder` as `{stem}.{extension}`.

    Args:
        url: An http, https or data URL.
        folder: An existing folder. What a call that broke off left there is gone on from.
        stem: The name without extension.
        fetcher: Sends the requests.
        policy: How often and for how long to try.
        report: Called with the bytes so far and the file's size, if known.

    Raises:
        Gone: The host has deleted the file.
        Refused: The host or the URL is not acceptable.
        TryAgain, httpx.TransportError: Nothing helped within the policy's limits.
        OSError: The file can't be written.
    """
    loop = asyncio.get_running_loop()
    transfer = _Transfer(
        url, fetcher, PartFile(folder, stem), partial(loop.call_soon_threadsafe, report)
    )
    working = asyncio.create_task(asyncio.to_thread(transfer.run, folder, stem, policy))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        transfer.stop()
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
    unwanted: Event = field(default_factory=Event)
    _socket: socket.socket | None = None

    def stop(self) -> None:
        """Have `run` end soon, from another thread."""
        self.unwanted.set()
        if self._socket is not None:
            with suppress(OSError):  # it has been closed meanwhile
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes a read that waits for a slow host

    def run(self, folder: Path, stem: str, policy: TransferPolicy) -> DownloadedFile:
        """Fetch the file, and give it its final name. Blocks."""
        try:
            self.part.open()
            content_type = self._decode() if is_inline(self.url) else self._fetch(policy)
            media_type = media_type_of(content_type, self.url)
            final = folder / f"{stem}.{extension_for(media_type, self.url)}"
            self.part.finish(final)
            return DownloadedFile(final, media_type, self.part.size, self.part.sha256)
        except Gone:
            self.part.discard()
            raise
        finally:
            self.part.close()

    def _decode(self) -> str:
        file = decode_data_uri(self.url)
        self.part.restart(None)
        self.part.write(file.content)
        self.report(self.part.size, self.part.size)
        return file.media_type

    def _fetch(self, policy: TransferPolicy) -> str | None:
        """Fetch the file into its part, and give its `Content-Type`."""
        return policy.downloading(TRANSIENT, self.unwanted)(self._attempt)

    def _attempt(self) -> str | None:
        headers = range_headers(self.part.size, self.part.etag)
        with self.fetcher.stream(self.url, headers) as response:
            self._socket = response.extensions["network_stream"].get_extra_info("socket")
            body = read_reply(response.status_code, response.headers, self.part.size)
            if body is None:
                self.part.restart(None)
                raise TryAgain(f"HTTP {response.status_code} does not fit the part that is there")
            if body.start == 0:
                self.part.restart(body.etag)
            self._receive(response, body)
        if body.total not in (None, self.part.size):
            raise TryAgain(f"{self.part.size} of {body.total} bytes arrived")
        return body.content_type

    def _receive(self, response: httpx.Response, body: Body) -> None:
        reported = 0.0
        for piece in response.iter_raw():
            if self.unwanted.is_set():
                raise TryAgain("nobody wants it any more")
            self.part.write(piece)
            if (now := time.monotonic()) - reported >= _REPORT_SECONDS:
                reported = now
                self.report(self.part.size, body.total)
        self.report(self.part.size, body.total)
