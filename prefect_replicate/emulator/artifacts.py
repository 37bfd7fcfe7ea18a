"""Files that models produce; their bytes are made on request."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from prefect_replicate.emulator.scenes import Scene
from prefect_replicate.emulator.sounds import write_wav

_BLOCK = 1 << 20
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class TextFile:
    """A small text."""

    name: str
    text: str
    media_type: str = "text/plain"


@dataclass(frozen=True)
class NoiseFile:
    """A file of any size that is never held in memory whole: its bytes follow from its seed."""

    name: str
    size: int
    seed: int

    @property
    def media_type(self) -> str:
        """The MIME type."""
        return "application/octet-stream"

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop` in blocks of at most 1 MiB."""
        block = _noise_block(self.seed)
        for index in range(start // _BLOCK, -(-stop // _BLOCK)):
            # The block's number makes each block different.
            whole = index.to_bytes(8, "big") + block
            first = index * _BLOCK
            yield whole[max(start - first, 0) : min(stop - first, _BLOCK)]


@dataclass(frozen=True)
class VideoFile:
    """An H.264 MP4 of a scene, drawn on first use."""

    name: str
    scene: Scene

    @property
    def media_type(self) -> str:
        """The MIME type."""
        return "video/mp4"


@dataclass(frozen=True)
class PictureFile:
    """A scene as PNG, WebP or JPEG, depending on its extension; drawn on first use."""

    name: str
    scene: Scene

    @property
    def format(self) -> str:
        """The format as Pillow names it."""
        suffix = self.name.rpartition(".")[2].lower()
        return "jpeg" if suffix == "jpg" else suffix

    @property
    def media_type(self) -> str:
        """The MIME type."""
        return f"image/{self.format}"


@dataclass(frozen=True)
class SoundFile:
    """A WAV of notes, made on first use."""

    name: str
    seconds: float
    seed: int

    @property
    def media_type(self) -> str:
        """The MIME type."""
        return "audio/wav"


Artifact = TextFile | NoiseFile | VideoFile | PictureFile | SoundFile


@dataclass(frozen=True)
class Body:
    """The bytes of a file: their number, a validator, and any part of them."""

    size: int
    etag: str
    content: bytes | NoiseFile

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop` in blocks of at most 1 MiB."""
        if isinstance(self.content, bytes):
            return _slices(self.content, start, stop)
        return self.content.chunks(start, stop)


async def load(artifact: Artifact) -> Body:
    """Return the bytes of `artifact`; drawing happens in a thread."""
    if isinstance(artifact, NoiseFile):
        etag = hashlib.md5(f"{artifact.seed}-{artifact.size}".encode()).hexdigest()
        return Body(artifact.size, etag, artifact)
    if isinstance(artifact, TextFile):
        return _body_of(artifact.text.encode())
    return _body_of(await asyncio.to_thread(content_of, artifact))


def content_of(artifact: TextFile | VideoFile | PictureFile | SoundFile) -> bytes:
    """Return all bytes of `artifact`; a video takes a second, the others some milliseconds."""
    if isinstance(artifact, TextFile):
        return artifact.text.encode()
    if isinstance(artifact, VideoFile):
        with _one_at_a_time:
            return _drawn(artifact)
    return _drawn(artifact)


@lru_cache(maxsize=64)
def _drawn(artifact: VideoFile | PictureFile | SoundFile) -> bytes:
    if isinstance(artifact, SoundFile):
        return write_wav(artifact.seconds, artifact.seed)
    # Importing PyAV takes a quarter of a second, so it waits until a file is drawn.
    from prefect_replicate.emulator import drawing

    if isinstance(artifact, PictureFile):
        return drawing.draw_picture(artifact.scene, artifact.format)
    return drawing.draw_video(artifact.scene)


def _body_of(content: bytes) -> Body:
    return Body(len(content), hashlib.md5(content).hexdigest(), content)


@lru_cache(maxsize=8)
def _noise_block(seed: int) -> bytes:
    return random.Random(seed).randbytes(_BLOCK - 8)


def _slices(content: bytes, start: int, stop: int) -> Iterator[bytes]:
    for first in range(start, stop, _BLOCK):
        yield content[first : min(first + _BLOCK, stop)]
