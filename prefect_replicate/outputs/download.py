"""Fetch one file: streamed, resumed, hashed on the way, and whole or not there at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio
import httpx
from typing_extensions import TypeVarTuple, Unpack

from prefect_replicate.outputs.collect import is_inline
from prefect_replicate.outputs.failure import TRANSIENT, Gone, TryAgain
from prefect_replicate.outputs.fetch import Fetcher
from prefect_replicate.outputs.inline import decode_data_uri
from prefect_replicate.outputs.names import extension_for, media_type_of
from prefect_replicate.outputs.part import PartFile
from prefect_replicate.outputs.replies import Body, range_headers, read_reply
from prefect_replicate.outputs.retry import TransferPolicy

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Measured over loopback: 540 MB/s; with 64 KiB, which switches threads too often, 200 MB/s.
_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class DownloadedFile:
    """A file that is whole and under its final name."""

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
    report: Callable[[int, int | None], None],
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
    part = PartFile(folder, stem)
    disk = _Disk()
    try:
        await disk.run(part.open)
        if is_inline(url):
            content_type = await _decode(url, part, disk, report)
        else:
            content_type = await _Transfer(url, fetcher, part, disk, report).run(policy)
        media_type = media_type_of(content_type, url)
        final = folder / f"{stem}.{extension_for(media_type, url)}"
        await disk.run(part.finish, final)
        return DownloadedFile(final, media_type, part.size, part.sha256)
    except Gone:
        await disk.run(part.discard)
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await disk.run(part.close)
        disk.close()


class _Disk:
    """One thread for one file.

    A cancelled caller stops waiting for its write, and the write goes on; the one thread keeps
    what is asked for next, such as closing the file, behind it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="replicate-output")

    async def run(self, function: Callable[[Unpack[Ts]], T], *args: Unpack[Ts]) -> T:
        return await self.start(function, *args)

    def start(self, function: Callable[[Unpack[Ts]], T], *args: Unpack[Ts]) -> asyncio.Future[T]:
        """Begin `function` after all that was asked for before."""
        loop = asyncio.get_running_loop()
        # Shielded, or a cancelled caller would take a write that is still queued with it.
        return asyncio.shield(loop.run_in_executor(self._thread, function, *args))

    def close(self) -> None:
        self._thread.shutdown(wait=False)


async def _decode(
    url: str, part: PartFile, disk: _Disk, report: Callable[[int, int | None], None]
) -> str:
    file = decode_data_uri(url)
    await disk.run(part.restart, None)
    await disk.run(part.write, file.content)
    report(part.size, part.size)
    return file.media_type


@dataclass
class _Transfer:
    """The attempts at one file, which share its part."""

    url: str
    fetcher: Fetcher
    part: PartFile
    disk: _Disk
    report: Callable[[int, int | None], None]

    async def run(self, policy: TransferPolicy) -> str | None:
        """Fetch the file into its part, and give its `Content-Type`."""
        return await policy.downloading(on=TRANSIENT)(self._attempt)

    async def _attempt(self) -> str | None:
        headers = range_headers(self.part.size, self.part.etag)
        async with self.fetcher.stream(self.url, headers) as response:
            body = read_reply(response.status_code, response.headers, self.part.size)
            if body is None:
                await self.disk.run(self.part.restart, None)
                raise TryAgain(f"HTTP {response.status_code} does not fit the part that is there")
            if body.start == 0:
                await self.disk.run(self.part.restart, body.etag)
            await self._receive(response, body)
        if body.total not in (None, self.part.size):
            raise TryAgain(f"{self.part.size} of {body.total} bytes arrived")
        return body.content_type

    async def _receive(self, response: httpx.Response, body: Body) -> None:
        blocks = _Blocks(self.part, self.disk)
        received = body.start
        try:
            async for piece in response.aiter_raw():
                received += len(piece)
                if await blocks.add(piece):
                    self.report(received, body.total)
        finally:
            # What has arrived is kept even when the connection breaks or the caller is cancelled.
            with anyio.CancelScope(shield=True):
                await blocks.flush()
        self.report(received, body.total)


@dataclass
class _Blocks:
    """Collects what arrives into blocks, and writes one while the next is arriving."""

    part: PartFile
    disk: _Disk
    _block: bytearray = field(default_factory=bytearray)
    _writing: asyncio.Future[None] | None = None

    async def add(self, piece: bytes) -> bool:
        """Take the next bytes, and say whether they made a block full."""
        self._block += piece
        if len(self._block) < _BLOCK:
            return False
        await self._write()
        return True

    async def flush(self) -> None:
        if self._block:
            await self._write()
        await self._written()

    async def _write(self) -> None:
        await self._written()
        self._writing = self.disk.start(self.part.write, self._block)
        self._block = bytearray()

    async def _written(self) -> None:
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        try:
            await writing
        except OSError:
            self._block = bytearray()  # it must not follow a block that is missing
            raise
