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
    """Load a saved block of any type.

    Args:
        slug_and_name: Such as `s3-bucket/videos`.
        what: What it is loaded for; the message begins with it.

    Raises:
        ConfigurationError: There is no such block, or its type is not installed here.
    """
    try:
        return await Block.aload(slug_and_name)
    except (ValueError, RuntimeError, UnknownBlockType, PrefectException, httpx.HTTPError) as exc:
        raise ConfigurationError(f"{what} can't be loaded: {one_line(exc)}") from exc


async def call_block(block: Block, name: str, *args: Any) -> Any:
    """Call a method of a block without blocking the event loop.

    Blocks declare methods as async, as sync, with an `a`-prefixed async version, or with Prefect's
    `sync_compatible` and `async_dispatch`; only a call of these shows whether it returns an
    awaitable.
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
    """Check that files can be stored, before anything is paid for.

    A missing folder is created. A block must load and take files, and the local folder that holds
    files for it must be writable; nothing is written to the block.

    Raises:
        ConfigurationError: Files can't be stored, or a setting is invalid.
    """
    settings()
    await open_destination(destination)


async def open_destination(destination: object) -> Path | StorageBlock:
    """Turn a `Destination` into an existing folder, or a block that takes files.

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
        f"A {type(destination).__name__} can't be a destination; use {_FORMS}."
    )


def label(block: StorageBlock) -> str:
    """Return a block's name for messages."""
    name = block._block_document_name  # pyright: ignore[reportPrivateUsage] # no public API
    return f"{block.get_block_type_slug()}/{name}" if name else type(block).__name__


_BUCKETS = {"s3-bucket": ("s3", "bucket_name"), "gcs-bucket": ("gs", "bucket")}
"""Blocks of Prefect's own integrations: how their URLs begin, and which field names the bucket."""


def bucket_of(block: StorageBlock) -> str | None:
    """Return the URL of the bucket that a block stores in, if it is known to have one."""
    scheme, field = _BUCKETS.get(block.get_block_type_slug(), ("", ""))
    return f"{scheme}://{getattr(block, field)}" if scheme else None


async def _load(reference: str) -> Block:
    match = _BLOCK_REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigurationError(f"Destination {reference!r} is not 'block:<type-slug>/<name>'.")
    return await load_block(match[1], f"Destination {reference!r}")


def _at_url(url: str) -> RemoteFileSystem:
    """Return the file system of a URL that fsspec supports."""
    scheme, _, rest = url.partition("://")
    if "@" in rest.partition("/")[0]:
        raise ConfigurationError(
            f"A destination at {scheme}:// names a user or password, which would be shown: use a"
            " storage block."
        )
    if scheme in ("http", "https") or scheme not in available_protocols():
        raise ConfigurationError(
            f"Destination {url!r} can't be written to: {scheme} is not a storage protocol; use"
            f" {_FORMS}."
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
        raise ConfigurationError(f"Destination {str(path)!r} is not a folder; use {_FORMS}.")
    try:
        folder = Path(path).expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError, ValueError) as exc:  # the last two: unknown ~user, null byte
        reason = (isinstance(exc, OSError) and exc.strerror) or exc
        raise ConfigurationError(
            f"Destination {str(path)!r} can't be written to: {reason}."
            " Use a folder that this process may create and write to."
        ) from exc
    return folder


def staging_root() -> Path:
    """Return a folder next to Prefect's own local storage."""
    return get_current_settings().home / "replicate-outputs"
