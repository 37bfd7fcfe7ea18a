"""Files in a prediction's input, which are uploaded through the files API.

The create never contains them. Replicate's replies leave out such content, so a create whose reply
is lost could not be told from one with another picture. Large creates are on record as failing.

Limit: 100 MB (https://replicate.com/docs/topics/predictions/input-files).
"""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from pydantic import BaseModel

from prefect_replicate.api.connection import Connection
from prefect_replicate.api.replies import parsed
from prefect_replicate.engine import in_thread, process_state
from prefect_replicate.exceptions import APIError, InvalidInputError
from prefect_replicate.values.data_uri import read_data_uri
from prefect_replicate.values.media_types import media_type_of_content, media_type_of_suffix

UPLOAD_BYTES = 100 * 1024 * 1024

_FRESH_SECONDS = 60.0
"""How long an upload is reused without checking that it still exists."""


class _FileURLs(BaseModel):
    get: str


class _File(BaseModel):
    id: str
    urls: _FileURLs


@dataclass(frozen=True)
class LocalFile:
    """A file's content, read once."""

    name: str
    media_type: str
    content: bytes
    sha256: str


async def read_files(given: Mapping[str, Any]) -> dict[str, Any]:
    """Replace each file and `data:` URI, at any depth, with a `LocalFile`.

    Args:
        given: From `as_given`.

    Raises:
        InvalidInputError: A file is missing, not readable, empty, or larger than 100 MB.
    """

    async def read(leaf: Any) -> Any:
        if isinstance(leaf, Path):
            return await in_thread(_read_path, leaf)
        if isinstance(leaf, bytes):
            return _local_file("file", leaf)
        if hasattr(leaf, "read"):
            return await in_thread(_read_open_file, leaf)
        if isinstance(leaf, str) and (inline := read_data_uri(leaf)):
            name = f"file{mimetypes.guess_extension(inline.media_type) or ''}"
            return _local_file(name, inline.content, inline.media_type)
        return leaf

    return await _map_leaves(given, read)


def needs_upload(value: Any) -> bool:
    """Whether `send_files` would upload anything before the create."""
    if isinstance(value, Mapping):
        return any(map(needs_upload, cast("Mapping[str, Any]", value).values()))
    if isinstance(value, list):
        return any(map(needs_upload, cast("list[Any]", value)))
    return isinstance(value, LocalFile)


async def send_files(connection: Connection, value: Any) -> Any:
    """Replace each `LocalFile` with the URL of its upload, made now or for an earlier call."""

    async def send(leaf: Any) -> Any:
        return await _url_of(connection, leaf) if isinstance(leaf, LocalFile) else leaf

    return await _map_leaves(value, send)


class _Uploads(dict[Any, "_Upload"]):
    """By account and file."""


@dataclass
class _Upload:
    file: asyncio.Task[_File]
    seen_at: float
    """When it was last known to exist; by the monotonic clock."""


async def _url_of(connection: Connection, file: LocalFile) -> str:
    uploads = process_state("uploads", _Uploads)
    key = (connection.address, file.name, file.media_type, file.sha256)
    known = uploads.get(key)
    if known is None or not await _is_there(connection, known):
        known = _Upload(asyncio.create_task(_upload(connection, file)), time.monotonic())
        uploads[key] = known
    return (await asyncio.shield(known.file)).urls.get  # others may wait for it too


async def _is_there(connection: Connection, upload: _Upload) -> bool:
    """Whether a file can be reused: Replicate deletes it after a day, and its owner may, too."""
    if not upload.file.done():
        return True
    if upload.file.cancelled() or upload.file.exception() is not None:
        return False
    if time.monotonic() - upload.seen_at < _FRESH_SECONDS:
        return True
    try:
        await connection.read("GET", f"/v1/files/{quote(upload.file.result().id, safe='')}")
    except APIError:
        return False
    upload.seen_at = time.monotonic()
    return True


async def _upload(connection: Connection, file: LocalFile) -> _File:
    parts = {
        "content": (file.name, file.content, file.media_type),
        "filename": (None, file.name),
        "type": (None, file.media_type),
    }
    return parsed(_File, await connection.read("POST", "/v1/files", files=parts))


def without_content(value: Any) -> Any:
    """Replace each `LocalFile` with its SHA-256, to recognize equal inputs."""
    if isinstance(value, LocalFile):
        return f"sha256:{value.sha256}"
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: without_content(item) for key, item in items}
    if isinstance(value, list):
        return [without_content(item) for item in cast("list[Any]", value)]
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
        _check_name(path.name)
        found = path.stat()
        if not S_ISREG(found.st_mode):
            kind = "a folder" if S_ISDIR(found.st_mode) else "a device, a pipe or a socket"
            raise InvalidInputError(f"input file {str(path)!r} is {kind}. Nothing was sent.")
        _check_size(str(path), found.st_size)
        with path.open("rb") as file:
            return _local_file(path.name, file.read(UPLOAD_BYTES + 1))
    except OSError as exc:
        raise InvalidInputError(
            f"input file {str(path)!r} can't be read: {exc.strerror or exc}. Nothing was sent."
        ) from exc


def _read_open_file(file: BinaryIO) -> LocalFile:
    named = getattr(file, "name", "file")  # a number, for a file that was opened by descriptor
    name = Path(named).name if isinstance(named, str) else "file"
    _check_name(name)
    try:
        if file.seekable():
            file.seek(0)  # a retry gets the same object, already read
        content = file.read(UPLOAD_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise InvalidInputError(f"input file {name!r} can't be read: {exc}") from exc
    if not isinstance(content, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"input file {name!r} is open as text; open it with mode 'rb'.")
    return _local_file(name, content)


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(
            f"input file {name!r} has a name that is not UTF-8. Rename it, or pass its bytes."
            " Nothing was sent."
        ) from None


def _check_size(name: str, size: int) -> None:
    if size > UPLOAD_BYTES:
        raise InvalidInputError(
            f"input file {name!r} is larger than the 100 MB that Replicate's files API accepts"
            f" ({size / 1024**2:.0f} MB). Put it on a server and pass its URL. Nothing was sent."
        )


def _local_file(name: str, content: bytes, media_type: str | None = None) -> LocalFile:
    _check_size(name, len(content))
    if not content:
        raise InvalidInputError(f"input file {name!r} is empty. Nothing was sent.")
    media_type = media_type or media_type_of_suffix(name) or media_type_of_content(content)
    return LocalFile(name, media_type, content, hashlib.sha256(content).hexdigest())
