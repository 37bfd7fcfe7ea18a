"""The file that a batch is read from: local, or in a storage block."""

from __future__ import annotations

import re
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import anyio.to_thread
from prefect.blocks.abstract import ObjectStorageBlock
from prefect.filesystems import ReadableFileSystem, WritableFileSystem

from prefect_replicate.exceptions import ConfigurationError, ReplicateError
from prefect_replicate.flows.rows import Reader, Row, reader_for, refuse
from prefect_replicate.outputs.failure import one_line
from prefect_replicate.outputs.saved_block import call_block, load_block

_ReadableBlock: TypeAlias = ReadableFileSystem | WritableFileSystem | ObjectStorageBlock

_BLOCK_PATH = re.compile(r"block:([^/]+/[^/]+)/(.+)")
_FORMS = "a local file, or 'block:<type-slug>/<name>/<path>' for a file in a saved storage block"


async def read_rows(path: str | Path, most: int) -> list[Row]:
    """Read a file's rows, and not more of the file than that takes.

    Args:
        path: A local file, or `block:<type-slug>/<name>/<path>`; the suffix tells its kind.
        most: How many rows to read.

    Raises:
        InvalidInputError: It is not there, or can't be read as what its suffix says.
        ConfigurationError: The block can't be loaded or read from, or pyarrow is missing.
    """
    name = str(path)
    reader = _reader_of(name)
    if not name.startswith("block:"):
        return await anyio.to_thread.run_sync(_read_local, name, reader, most)
    content = BytesIO(await _from_block(name))
    return await anyio.to_thread.run_sync(lambda: list(islice(reader(content, name), most)))


def _reader_of(name: str) -> Reader:
    is_block = name.startswith("block:")
    if not name or "://" in name or (is_block and not _BLOCK_PATH.fullmatch(name)):
        refuse(f"{name!r} is no file that rows can be read from; give {_FORMS}.")
    return reader_for(name)


def _read_local(name: str, reader: Reader, most: int) -> list[Row]:
    try:
        with Path(name).expanduser().open("rb") as file:
            return list(islice(reader(file, name), most))
    except ReplicateError:
        raise
    except (OSError, RuntimeError, ValueError) as exc:  # an unknown ~user, a null byte
        reason = (isinstance(exc, OSError) and exc.strerror) or exc
        place = "" if Path(name).is_absolute() else f" in {Path.cwd()}"
        refuse(f"No rows can be read from {name!r}{place}: {reason}.")


async def _from_block(reference: str) -> bytes:
    match = _BLOCK_PATH.fullmatch(reference)
    assert match is not None
    block = await load_block(match[1], repr(reference))
    if not isinstance(block, _ReadableBlock):
        raise ConfigurationError(
            f"No rows can be read from {reference!r}: a {type(block).__name__} is no storage block"
            " (a ReadableFileSystem or an ObjectStorageBlock). Nothing was paid."
        )
    try:
        return await _content(block, match[2])
    except Exception as exc:  # noqa: BLE001 - a block may raise anything at all
        refuse(f"No rows can be read from {reference!r}: {one_line(exc)}.")


async def _content(block: _ReadableBlock, path: str) -> bytes:
    if not isinstance(block, ObjectStorageBlock):
        return await call_block(block, "read_path", path)
    content = BytesIO()
    await call_block(block, "download_object_to_file_object", path, content)
    return content.getvalue()
