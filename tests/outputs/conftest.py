"""A file host with faults, and `store_outputs` pointed at it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_HOME, temporary_settings

from prefect_replicate.outputs import TransferPolicy, store_outputs
from prefect_replicate.outputs.fetch import AccessRules
from prefect_replicate.values import OutputFile, Prediction

TOKEN = "r8_secret"


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    reader: asyncio.StreamReader


@dataclass
class HostedFile:
    content: bytes | memoryview
    content_type: str | None = "video/mp4"
    etag: str | None = '"v1"'


Answer = Callable[[asyncio.StreamWriter, Request], Awaitable[None]]


@dataclass
class FileHost:
    """Serves `files`; a request takes the next of `faults` instead, if there is one."""

    url: str = ""
    files: dict[str, HostedFile] = field(default_factory=dict)
    faults: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    stalled: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, path: str, content: bytes | memoryview, **kwargs: Any) -> str:
        self.files[path] = HostedFile(content, **kwargs)
        return self.url + path

    @property
    def ranges(self) -> list[str | None]:
        return [request.headers.get("range") for request in self.requests]

    def breaks_off(self, after: int) -> None:
        """Close the connection after so many bytes of the body."""
        self.faults.append(partial(self._serve, limit=after))

    def stalls(self, after: int) -> None:
        """Send so many bytes of the body and then nothing, with the connection open."""
        self.faults.append(partial(self._serve, limit=after, stall=True))

    def answers(self, status: int, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append(partial(self._answer, status, named, b""))

    def ignores_range(self) -> None:
        self.faults.append(partial(self._serve, ranges=False))

    def redirects(self, location: str) -> None:
        self.answers(302, Location=location)

    async def _answer(
        self,
        status: int,
        headers: dict[str, str],
        body: bytes | memoryview,
        writer: asyncio.StreamWriter,
        request: Request,
    ) -> None:
        lines = {"Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode())
        for start in range(0, len(body), 65536):
            writer.write(body[start : start + 65536])
            await writer.drain()

    async def _serve(
        self,
        writer: asyncio.StreamWriter,
        request: Request,
        *,
        limit: int | None = None,
        stall: bool = False,
        ranges: bool = True,
    ) -> None:
        file = self.files.get(request.path)
        if file is None:
            return await self._answer(404, {}, b"", writer, request)
        headers = {"Content-Type": file.content_type, "ETag": file.etag}
        headers = {name: value for name, value in headers.items() if value}
        start = self._start(file, request) if ranges else 0
        if start and start >= len(file.content):
            return await self._answer(416, {}, b"", writer, request)
        body = file.content[start:]
        if start:
            last, total = len(file.content) - 1, len(file.content)
            headers["Content-Range"] = f"bytes {start}-{last}/{total}"
        headers["Content-Length"] = str(len(body))
        await self._answer(206 if start else 200, headers, body[:limit], writer, request)
        await writer.drain()
        if stall:
            self.stalled.set()
            await request.reader.read()  # until the other side hangs up
        if limit is not None:
            writer.close()
        return None

    def _start(self, file: HostedFile, request: Request) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if match is None or request.headers.get("if-range", file.etag) != file.etag:
            return 0
        return int(match[1])

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            pairs = (line.split(": ", 1) for line in lines)
            headers = {name.lower(): value for name, value in pairs}
            request = Request(first.split()[1], headers, reader)
            self.requests.append(request)
            answer = self.faults.pop(0) if self.faults else self._serve
            await answer(writer, request)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _serving() -> AsyncIterator[FileHost]:
    host = FileHost()
    server = await asyncio.start_server(host.handle, "127.0.0.1", 0)
    host.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield host
    server.close()


@pytest.fixture
async def host() -> AsyncIterator[FileHost]:
    """A file host on the origin of the API."""
    async for host in _serving():
        yield host


@pytest.fixture
async def other_host() -> AsyncIterator[FileHost]:
    """A host of another name, which is to be allowed."""
    async for host in _serving():
        host.url = host.url.replace("127.0.0.1", "localhost")
        yield host


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


@pytest.fixture
def policy() -> TransferPolicy:
    return TransferPolicy(download_attempts=4, upload_attempts=3, first_wait=0, longest_wait=0)


@pytest.fixture
def store(host: FileHost, http: httpx.Client, policy: TransferPolicy) -> Callable[..., Any]:
    """`store_outputs` with everything but the prediction and the destination filled in."""

    def store(
        prediction: Prediction,
        destination: Any,
        *,
        api_url: str = "http://127.0.0.1:9",
        allowed_hosts: Sequence[str] = (),
        **kwargs: Any,
    ) -> Any:
        rules = AccessRules.make(api_url, allowed_hosts)
        settings = {"http": http, "rules": rules, "token": TOKEN, "policy": policy}
        return store_outputs(prediction, destination, **{**settings, **kwargs})

    return store


@pytest.fixture
def prediction() -> Callable[..., Prediction]:
    def prediction(output: Any, **kwargs: Any) -> Prediction:
        return Prediction(**{"id": "abc123", "status": "succeeded", "output": output, **kwargs})

    return prediction


@pytest.fixture
def prefect_home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "prefect"
    with temporary_settings({PREFECT_HOME: home}):
        yield home


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content_of(file: OutputFile) -> bytes:
    return Path(file.location).read_bytes()
