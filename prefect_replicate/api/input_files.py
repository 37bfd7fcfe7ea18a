"""Local files in a prediction's input: inline when small, through the files API when not.

Limits: https://replicate.com/docs/topics/predictions/input-files (256 kB inline as the OpenAPI
document has it, 100 MB through `POST /files`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import anyio.to_thread
from pydantic import BaseModel

from prefect_replicate.api.connection import Connection
from prefect_replicate.api.replies import parsed
from prefect_replicate.exceptions import InvalidInputError

INLINE_BYTES = 256 * 1024
UPLOAD_BYTES = 100 * 1024 * 1024


class _FileURLs(BaseModel):
    get: str


class _File(BaseModel):
    urls: _FileURLs


@dataclass(frozen=True)
class LocalFile:
    """A file's content, read once."""

    name: str
    content: bytes
    sha256: str

    @property
    def media_type(self) -> str:
        return mimetypes.guess_type(self.name)[0] or "application/octet-stream"

    @property
    def is_inline(self) -> bool:
        """Whether it travels in the create itself."""
        return len(self.content) <= INLINE_BYTES


async def read_files(input: Mapping[str, Any]) -> dict[str, Any]:
    """Replace each `Path` and open binary file in `input`, at any depth, by a `LocalFile`.

    Raises:
        InvalidInputError: A file is missing, not readable, or larger than 100 MB, or what is not a
            file is not JSON.
    """
    if not isinstance(input, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(
            f"input is a {type(input).__name__}, not a mapping of the model's inputs."
            " Nothing was sent."
        )

    async def read(leaf: Any) -> Any:
        if isinstance(leaf, Path):
            return await anyio.to_thread.run_sync(_read_path, leaf)
        if hasattr(leaf, "read"):
            return await anyio.to_thread.run_sync(_read_open_file, leaf)
        return leaf

    files = await _map_leaves(input, read)
    _check_json(files)
    return files


def _check_json(files: Any) -> None:
    try:
        json.dumps(without_content(files), allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise InvalidInputError(
            f"The input can't be written as JSON: {exc}. Nothing was sent."
        ) from exc


def needs_upload(value: Any) -> bool:
    """Whether `send_files` would send something ahead of the create."""
    if isinstance(value, Mapping):
        return any(map(needs_upload, cast("Mapping[str, Any]", value).values()))
    if isinstance(value, list):
        return any(map(needs_upload, cast("list[Any]", value)))
    return isinstance(value, LocalFile) and not value.is_inline


async def send_files(connection: Connection, value: Any) -> Any:
    """Replace each `LocalFile` by a data URI or by the URL it was uploaded to."""

    async def send(leaf: Any) -> Any:
        if not isinstance(leaf, LocalFile):
            return leaf
        return _inline(leaf) if leaf.is_inline else await _upload(leaf)

    async def _upload(file: LocalFile) -> str:
        parts = {
            "content": (file.name, file.content, file.media_type),
            "filename": (None, file.name),
            "type": (None, file.media_type),
        }
        return parsed(_File, await connection.read("POST", "/v1/files", files=parts)).urls.get

    return await _map_leaves(value, send)


def inlined(value: Any) -> Any:
    """Replace each `LocalFile` by a data URI, as `send_files` does where none needs an upload."""
    return _with_files(value, _inline)


def without_content(value: Any) -> Any:
    """Put the SHA-256 in place of each `LocalFile`, for telling equal inputs."""
    return _with_files(value, lambda file: f"sha256:{file.sha256}")


def _with_files(value: Any, change: Callable[[LocalFile], str]) -> Any:
    if isinstance(value, LocalFile):
        return change(value)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: _with_files(item, change) for key, item in items}
    if isinstance(value, list):
        return [_with_files(item, change) for item in cast("list[Any]", value)]
    return value


async def _map_leaves(value: Any, change: Callable[[Any], Awaitable[Any]]) -> Any:
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {str(key): await _map_leaves(item, change) for key, item in items}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [await _map_leaves(item, change) for item in cast("Sequence[Any]", value)]
    return await change(value)


def _read_path(path: Path) -> LocalFile:
    try:
        path = path.expanduser()
        _check_size(str(path), path.stat().st_size)
        return _local_file(path.name, path.read_bytes())
    except OSError as exc:
        raise InvalidInputError(
            f"input file {str(path)!r} can't be read: {exc.strerror or exc}. Nothing was sent."
        ) from exc


def _read_open_file(file: BinaryIO) -> LocalFile:
    name = Path(str(getattr(file, "name", "file"))).name
    try:
        if file.seekable():
            file.seek(0)  # a retry gets the same object, read to its end
        content = file.read(UPLOAD_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise InvalidInputError(f"input file {name!r} can't be read: {exc}") from exc
    if not isinstance(content, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"input file {name!r} is open as text; open it with mode 'rb'.")
    _check_size(name, len(content))
    return _local_file(name, content)


def _check_size(name: str, size: int) -> None:
    if size > UPLOAD_BYTES:
        raise InvalidInputError(
            f"input file {name!r} is larger than the 100 MB that Replicate's files API takes"
            f" ({size / 1024**2:.0f} MB). Put it on a server and pass its URL. Nothing was sent."
        )


def _local_file(name: str, content: bytes) -> LocalFile:
    return LocalFile(name, content, hashlib.sha256(content).hexdigest())


def _inline(file: LocalFile) -> str:
    return f"data:{file.media_type};base64,{base64.b64encode(file.content).decode()}"
