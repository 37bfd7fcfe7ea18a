"""Where files wait until a storage block has them, so that none is lost when it won't take them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import anyio
import anyio.to_thread
from prefect.settings import get_current_settings

from prefect_replicate.outputs.download import DownloadedFile
from prefect_replicate.outputs.lock import open_locked
from prefect_replicate.outputs.names import UNKNOWN, media_type_of_suffix
from prefect_replicate.outputs.part import feed


def staging_root() -> Path:
    """A folder beside Prefect's own local storage."""
    return get_current_settings().home / "replicate-outputs"


@asynccontextmanager
async def staging_folder(prediction_id: str) -> AsyncGenerator[Path]:
    """Give a folder for a prediction's files, removed unless an error leaves files in it.

    A later call for the same prediction gets the same folder, and one at the same time another.
    """
    folder, lock = await anyio.to_thread.run_sync(_open, prediction_id)
    try:
        yield folder
        await anyio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))
    finally:
        with suppress(OSError):  # still there, and still needed
            folder.rmdir()
        if lock is not None:
            os.close(lock)


async def staged_file(folder: Path, stem: str) -> DownloadedFile | None:
    """A file that an earlier call downloaded and could not hand over.

    Only a whole file ever gets a name without a dot in front.
    """
    return await anyio.to_thread.run_sync(_staged_file, folder, stem)


def _open(prediction_id: str) -> tuple[Path, int | None]:
    folder = staging_root() / prediction_id
    folder.mkdir(parents=True, exist_ok=True)
    lock = open_locked(folder, os.O_RDONLY)
    if lock is None:
        folder = folder.with_name(f"{prediction_id}.{uuid4().hex}")
        folder.mkdir()
    return folder, lock


def _staged_file(folder: Path, stem: str) -> DownloadedFile | None:
    path = next(folder.glob(f"{stem}.*"), None)
    if path is None:
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = feed(digest.update, file)
    media_type = media_type_of_suffix(path.name) or UNKNOWN
    return DownloadedFile(path, media_type, size, digest.hexdigest())
