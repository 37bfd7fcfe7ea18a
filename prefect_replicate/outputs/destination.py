"""Where files go: a folder, or a Prefect storage block."""

from __future__ import annotations

import inspect
import re
import tempfile
from pathlib import Path
from typing import Any, TypeAlias

import httpx
from fsspec import available_protocols
from prefect.blocks.abstract import ObjectStorageBlock
from prefect.blocks.core import Block, UnknownBlockType
from prefect.exceptions import PrefectException
from prefect.filesystems import LocalFileSystem, RemoteFileSystem, WritableFileSystem
from prefect.settings import get_current_settings

from prefect_replicate.engine import in_thread
from prefect_replicate.exceptions import ConfigurationError
from prefect_replicate.outputs.failure import one_line
from prefect_replicate.settings import path_of, settings


async def load_block(slug_and_name: str, what: str) -> Block:
    """Load a saved block, of whatever type.

    Args:
        slug_and_name: Such as `s3-bucket/videos`.
        what: What it is loaded for, as the message begins.

    Raises:
        ConfigurationError: There is none, or its type is not installed here.
    """
    try:
        return await Block.aload(slug_and_name)
    except (ValueError, RuntimeError, UnknownBlockType, PrefectException, httpx.HTTPError) as exc:
        raise ConfigurationError(f"{what} can't be loaded: {one_line(exc)}") from exc


async def call_block(block: Block, name: str, *args: Any) -> Any:
    """Call a method of a block without blocking the event loop.

    Blocks declare theirs as async, as sync, with an `a`-twin, or with Prefect's `sync_compatible`
    and `async_dispatch`, of which only the call itself shows whether it gives an awaitable.
    """
    method = getattr(block, f"a{name}", None) or getattr(block, name)
    if inspect.iscoroutinefunction(method):
        return await method(*args)
    result = await in_thread(method, *args)
    return await result if inspect.isawaitable(result) else result


StorageBlock: TypeAlias = WritableFileSystem | ObjectStorageBlock
Destination: TypeAlias = str | Path | StorageBlock

_BLOCK_REFERENCE = re.compile(r"block:([^/]+/[^/]+)")
_FORMS = (
    "a folder, a URL such as s3://bucket/folder, a storage block (a WritableFileSystem or an"
    " ObjectStorageBlock), or 'block:<type-slug>/<name>'"
)


async def check_destination(destination: Destination) -> None:
    """Find out whether files can be stored, before anything is paid for.

    A missing folder is made. Of a block it is checked that it can be loaded, that it is one that
    takes files, and that there is room to hold them until it has them; nothing is written to it.

    Raises:
        ConfigurationError: They can't be, or a setting makes no sense.
    """
    settings()
    await open_destination(destination)


async def open_destination(destination: object) -> Path | StorageBlock:
    """Turn a `Destination` into an existing folder, or a block to hand files to.

    Raises:
        ConfigurationError: It is neither, or can't be written to.
    """
    if isinstance(destination, str) and destination.startswith("block:"):
        destination = await _load(destination)
    if isinstance(destination, str):
        destination = path_of(destination)
    if isinstance(destination, str) and "://" in destination:
        destination = await in_thread(_at_url, destination)
    if isinstance(destination, LocalFileSystem):
        destination = destination.basepath or "."
    if isinstance(destination, ObjectStorageBlock | WritableFileSystem):
        await in_thread(_prepare_block, destination)
        return destination
    if isinstance(destination, str | Path):
        return await in_thread(_prepare_folder, destination)
    raise ConfigurationError(
        f"A {type(destination).__name__} can't be a destination; accepted are {_FORMS}."
    )


def label(block: StorageBlock) -> str:
    """A block as messages name it."""
    name = block._block_document_name  # pyright: ignore[reportPrivateUsage] # no public way
    return f"{block.get_block_type_slug()}/{name}" if name else type(block).__name__


_BUCKETS = {"s3-bucket": ("s3", "bucket_name"), "gcs-bucket": ("gs", "bucket")}
"""Blocks of Prefect's own integrations: how their URLs begin, and which field names the bucket."""


def bucket_of(block: StorageBlock) -> str | None:
    """The URL of the bucket that a block stores in, if it is known to have one."""
    scheme, field = _BUCKETS.get(block.get_block_type_slug(), ("", ""))
    return f"{scheme}://{getattr(block, field)}" if scheme else None


async def _load(reference: str) -> Block:
    match = _BLOCK_REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigurationError(f"Destination {reference!r} is not 'block:<type-slug>/<name>'.")
    return await load_block(match[1], f"Destination {reference!r}")


def _at_url(url: str) -> RemoteFileSystem:
    """A place as fsspec names it."""
    scheme, _, rest = url.partition("://")
    if "@" in rest.partition("/")[0]:
        raise ConfigurationError(
            f"A destination at {scheme}:// names a user or password, which would be shown: give a"
            " storage block."
        )
    if scheme in ("http", "https") or scheme not in available_protocols():
        raise ConfigurationError(
            f"Destination {url!r} can't be written to: {scheme} is not a storage; give {_FORMS}."
        )
    try:
        return RemoteFileSystem(basepath=url)
    except ValueError as exc:
        raise ConfigurationError(f"Destination {url!r} can't be used: {one_line(exc)}") from exc


def _prepare_block(block: StorageBlock) -> None:
    _prepare_folder(staging_root())
    if not isinstance(block, RemoteFileSystem):
        return
    try:
        _ = block.filesystem
    except (RuntimeError, ImportError, ValueError, TypeError) as exc:  # what fsspec raises
        raise ConfigurationError(
            f"Block {label(block)} can't open {block.basepath!r}: {one_line(exc)}"
        ) from exc


def _prepare_folder(path: str | Path) -> Path:
    if not str(path) or "://" in str(path):
        raise ConfigurationError(f"Destination {str(path)!r} is not a folder; give {_FORMS}.")
    try:
        folder = Path(path).expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError, ValueError) as exc:  # the latter: an unknown ~user, a null byte
        reason = (isinstance(exc, OSError) and exc.strerror) or exc
        raise ConfigurationError(
            f"Destination {str(path)!r} can't be written to: {reason}."
            " Give a folder that this process may create and write to."
        ) from exc
    return folder


def staging_root() -> Path:
    """A folder beside Prefect's own local storage."""
    return get_current_settings().home / "replicate-outputs"
