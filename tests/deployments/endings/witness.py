"""Which process sent what to Replicate, as the kernel knows it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Process:
    """A process while it lived."""

    pid: int
    command: str
    ancestors: tuple[int, ...]
    """Their ids, from the parent upwards."""


NOBODY = Process(0, "", ())


@dataclass(frozen=True)
class Sent:
    """A piece of a request, and whose it is."""

    at: float
    process: Process
    text: str


class Witness:
    """Stands before a server, passes everything on, and notes who sends it.

    When it is gone, so is the server, for those who know the way through it alone.
    """

    def __init__(self, origin: str) -> None:
        self._port = urlsplit(origin).port
        self._sent: list[Sent] = []
        self._unwanted: list[str] = []
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self.base_url = ""

    def __enter__(self) -> Witness:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to listen, on `base_url`."""
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        """Cut all connections."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._serving.cancel)
            self._thread.join(10)
            self._thread = None

    def keep_back(self, text: str) -> None:
        """Do not pass on the next piece that has this text, nor what follows it."""
        self._unwanted.append(text)

    def has_kept(self, text: str) -> bool:
        """Whether a piece with this text has come and was kept."""
        return text not in self._unwanted and any(text in one.text for one in self._sent)

    def creators(self, prompt: str) -> list[Process]:
        """Who sent creates with this prompt, in the order of the creates."""
        return [one.process for one in self._sent if f'"{prompt}"' in one.text]

    def lookers(self, prediction_id: str) -> set[Process]:
        """Who has looked at this prediction."""
        request = f"GET /v1/predictions/{prediction_id} "
        return {one.process for one in self._sent if request in one.text}

    def page_readers(self) -> set[Process]:
        """Who has read pages of the list, as a process that has several waits does."""
        return {one.process for one in self._sent if "GET /v1/predictions?" in one.text}

    def cancelers(self, prediction_id: str) -> list[Process]:
        """Who sent cancels of this prediction, in their order."""
        path = f"POST /v1/predictions/{prediction_id}/cancel "
        return [one.process for one in self._sent if path in one.text]

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._stand())

    async def _stand(self) -> None:
        self._loop, self._serving = asyncio.get_running_loop(), asyncio.current_task()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_CHUNK)
        async with server:
            self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._ready.set()
            await asyncio.Event().wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client, own = writer.get_extra_info("peername")[1], writer.get_extra_info("sockname")[1]
        process = NOBODY
        with contextlib.suppress(OSError):  # it has died meanwhile
            process = process_of(owner_of_connection(client, own))
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        with contextlib.suppress(asyncio.CancelledError):  # by `stop`
            await asyncio.gather(
                self._pass_on(reader, inner_writer, process),
                self._pass_on(inner_reader, writer, None),
            )
        writer.transport.abort()
        inner_writer.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sender: Process | None
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(_CHUNK):
                if sender is not None:
                    text = chunk.decode("utf-8", "replace")
                    self._sent.append(Sent(time.time(), sender, text))
                    await self._stay_if_unwanted(text)
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def _stay_if_unwanted(self, text: str) -> None:
        for unwanted in [one for one in self._unwanted if one in text]:
            self._unwanted.remove(unwanted)
            await asyncio.Event().wait()


def owner_of_connection(local_port: int, remote_port: int) -> int:
    """The process that has the end with `local_port` of a connection on this machine."""
    ends = f":{local_port:04X}", f":{remote_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
            return _holder(f"socket:[{fields[9]}]")
    raise ProcessLookupError(f"nobody has a connection from {local_port} to {remote_port}")


def _holder(socket: str) -> int:
    for pid in pids():
        with contextlib.suppress(OSError):
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor.path) == socket:
                        return pid
    raise ProcessLookupError(f"nobody has {socket}")


def pids() -> list[int]:
    """All processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def process_of(pid: int) -> Process:
    """What is known of a process that lives."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return Process(pid, command, tuple(_ancestors(pid)))


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        # The name, in parentheses, may have spaces.
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        yield pid
