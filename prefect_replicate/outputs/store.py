"""Storage of a finished prediction's files."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
from prefect.blocks.abstract import ObjectStorageBlock
from prefect.filesystems import RemoteFileSystem
from tenacity import RetryError

from prefect_replicate.engine import in_thread
from prefect_replicate.exceptions import ConfigurationError, OutputError
from prefect_replicate.outputs.destination import (
    Destination,
    StorageBlock,
    bucket_of,
    call_block,
    label,
    open_destination,
    staging_root,
)
from prefect_replicate.outputs.download import DownloadedFile, download
from prefect_replicate.outputs.failure import (
    TransferPolicy,
    expired_error,
    one_line,
    output_error,
)
from prefect_replicate.outputs.fetch import AccessRules, Fetcher
from prefect_replicate.outputs.found import (
    FoundFile,
    collect_files,
    is_usable_id,
    stems,
    without_query,
)
from prefect_replicate.outputs.part import feed, open_locked
from prefect_replicate.settings import settings
from prefect_replicate.values import OutputFile, Prediction
from prefect_replicate.values.media_types import UNKNOWN, media_type_of_suffix
from prefect_replicate.values.output import KEPT, OutputSchema


@asynccontextmanager
async def staging_folder(prediction_id: str) -> AsyncGenerator[Path]:
    """Provide a folder for a prediction's files, removed unless an error leaves files in it.

    A later call for the same prediction gets the same folder; a concurrent one gets another.
    """
    folder, lock = await in_thread(_open_folder, prediction_id)
    try:
        yield folder
        await in_thread(partial(shutil.rmtree, folder, ignore_errors=True))
    finally:
        with suppress(OSError):  # still there, and still needed
            folder.rmdir()
        if lock is not None:
            os.close(lock)


async def staged_file(folder: Path, stem: str) -> DownloadedFile | None:
    """Find a file that an earlier call downloaded but could not upload.

    Only a complete file ever gets a name without a leading dot.
    """
    return await in_thread(_staged_file, folder, stem)


def _open_folder(prediction_id: str) -> tuple[Path, int | None]:
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


async def upload(
    block: StorageBlock, path: Path, prediction: Prediction, policy: TransferPolicy
) -> str:
    """Store a file in a block and return the block's own path or key for it.

    Raises:
        OutputError: The block didn't accept it; the file stays where it is.
    """
    try:
        # A block may raise anything at all, so everything is retried.
        return await policy.uploading(on=(Exception, SystemExit))(_hand_over, block, path)
    except RetryError as failed:
        cause = failed.last_attempt.exception() or failed
        attempts = failed.last_attempt.attempt_number
        raise OutputError(
            f"Prediction {prediction.id} succeeded and is paid for, but block {label(block)} did"
            f" not accept {path.name} (attempts: {attempts}): {one_line(cause)}. The file is kept"
            f" at {path}; storing again uses it."
        ) from cause


async def _hand_over(block: StorageBlock, path: Path) -> str:
    if isinstance(block, ObjectStorageBlock):
        stored = await call_block(block, "upload_from_path", path, path.name)
    elif isinstance(block, RemoteFileSystem) and not block.basepath.startswith("smb:"):
        stored = await in_thread(_put_file, block, path)
    else:
        # The interface takes the bytes at once, so the whole file is in memory.
        # fsspec's smb wants paths in a form that only `write_path` knows.
        stored = await call_block(
            block, "write_path", path.name, await anyio.Path(path).read_bytes()
        )
    return str(stored or path.name)


def _put_file(block: RemoteFileSystem, path: Path) -> str:
    """Stream the file, as `write_path` can't."""
    target = f"{block.basepath.rstrip('/')}/{path.name}"
    filesystem: Any = block.filesystem  # fsspec has no types
    filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
    filesystem.put_file(str(path), target)
    return target


_AT_ONCE = 4


async def store_outputs(
    prediction: Prediction,
    destination: Destination,
    *,
    http: httpx.Client,
    rules: AccessRules,
    token: str,
    schema: OutputSchema | None = None,
    on_progress: Callable[[int, int | None], None] | None = None,
    on_stored: Callable[[Sequence[OutputFile], Mapping[str, Path]], Awaitable[None]] | None = None,
    policy: TransferPolicy | None = None,
) -> list[OutputFile]:
    """Store the files of a succeeded prediction, each complete or not at all.

    A failed file doesn't stop the others, since Replicate deletes all of them an hour after
    completion; its error is raised when they are done. Storing again resumes from what is there.

    Args:
        prediction: One that succeeded less than an hour ago.
        destination: A folder, created if missing; a `WritableFileSystem` or `ObjectStorageBlock`;
            or `block:<type-slug>/<name>`. A block gets the file from a folder under Prefect's
            home, which keeps the file if the block doesn't accept it. The interface of
            `WritableFileSystem` takes bytes, so the whole file passes through memory;
            Prefect's own local and remote file systems and every `ObjectStorageBlock` stream it.
        http: A client without credentials of its own.
        rules: The API that the prediction came from, whose origin alone gets the token, and the
            other hosts that its files may be on.
        token: The API's token.
        schema: The schema of the model's output, which says which parts are files.
        on_progress: Called with the bytes of all files so far and their total size, if known.
        on_stored: Called with the files, and their paths on this machine by their SHA-256; a file
            in a block has one only until the call returns.
        policy: The retry limits.

    Returns:
        One file for each place in the output, in the output's order; a URL in two places is
        downloaded once.

    Raises:
        OutputExpiredError: Replicate has deleted the files.
        OutputError: Some can't be stored; `.files` has those that are.
    """
    found = files_of(prediction, schema, rules)
    if not found:
        return []
    target = await _open(prediction, destination)
    urls = list(dict.fromkeys(file.url for file in found))
    async with _folder(prediction, target) as folder:
        store = _Store(
            prediction=prediction,
            target=target,
            folder=folder,
            fetcher=Fetcher(http, rules, token),
            policy=policy or TransferPolicy(),
            largest=settings().max_file_size,
            progress=_Progress(len(urls), on_progress),
        )
        stored = await store.store_all(urls, found)
        files = [stored[one.url].model_copy(update={"output_path": one.path}) for one in found]
        if on_stored is not None:
            await on_stored(files, store.paths)
    return files


def is_there(file: OutputFile) -> bool:
    """Return whether a file is still where it was stored, as far as this machine can tell."""
    path = Path(file.location)
    try:
        is_here = path.is_file() and path.stat().st_size == file.size
        return file.block is not None or is_here
    except (OSError, ValueError):  # anybody may have written the record
        return False


def files_of(
    prediction: Prediction, schema: OutputSchema | None, rules: AccessRules
) -> list[FoundFile]:
    """Return the files of a prediction's output, if any.

    Raises:
        OutputExpiredError: Replicate has removed the output.
        OutputError: The prediction has not succeeded.
    """
    if not prediction.is_succeeded:
        raise OutputError(
            f"Prediction {prediction.id} is {prediction.status!r}; only a succeeded prediction has"
            " files to store. Wait for it first."
        )
    if prediction.data_removed:
        raise expired_error(prediction)
    if not is_usable_id(prediction.id):
        raise OutputError(f"Prediction id {prediction.id!r} can't be part of a file name.")
    return collect_files(prediction, schema, rules.has_files_alone)


def _expiry_of(prediction: Prediction) -> datetime | None:
    ended = prediction.completed_at
    return None if ended is None or prediction.source == "web" else ended + KEPT


def _with_those_stored(errors: Sequence[OutputError], files: list[OutputFile]) -> OutputError:
    """Return the first error, extended by how many files are stored, and by those files."""
    first = errors[0]
    if len(errors) + len(files) == 1:
        return first
    message = f"{first} {len(files)} of {len(files) + len(errors)} files are stored."
    whole = type(first)(message, files)
    whole.__cause__ = first.__cause__
    return whole


async def _open(prediction: Prediction, destination: Destination) -> Path | StorageBlock:
    try:
        return await open_destination(destination)
    except ConfigurationError as exc:
        raise OutputError(
            f"Prediction {prediction.id} succeeded and is paid for, but: {exc}"
        ) from exc


@asynccontextmanager
async def _folder(prediction: Prediction, target: Path | StorageBlock) -> AsyncGenerator[Path]:
    if isinstance(target, Path):
        yield target
        return
    try:
        async with staging_folder(prediction.id) as folder:
            yield folder
    except OSError as exc:
        raise output_error(exc, prediction, "its files", staging_root()) from exc


@dataclass
class _Progress:
    """The sum over files that download at the same time."""

    count: int
    callback: Callable[[int, int | None], None] | None
    _files: dict[str, tuple[int, int | None]] = field(
        default_factory=dict[str, tuple[int, int | None]]
    )

    def report(self, url: str, done: int, total: int | None) -> None:
        self._files[url] = (done, total)
        if self.callback is not None:
            self.callback(sum(done for done, _ in self._files.values()), self._total())

    def _total(self) -> int | None:
        totals = [total for _, total in self._files.values() if total is not None]
        return sum(totals) if len(totals) == self.count else None


@dataclass(frozen=True)
class _Store:
    """One call of `store_outputs`."""

    prediction: Prediction
    target: Path | StorageBlock
    folder: Path
    fetcher: Fetcher
    policy: TransferPolicy
    progress: _Progress
    largest: int
    """The most bytes that a file may have."""
    paths: dict[str, Path] = field(default_factory=dict[str, Path])
    """The paths of files on this machine, by their SHA-256."""

    async def store_all(
        self, urls: Sequence[str], found: Sequence[FoundFile]
    ) -> dict[str, OutputFile]:
        names = {file.url: file.path for file in reversed(found)}
        stored: dict[str, OutputFile] = {}
        errors: list[OutputError] = []
        places = anyio.Semaphore(_AT_ONCE)

        async def store(url: str, stem: str) -> None:
            async with places:
                try:
                    stored[url] = await self._store(url, stem, names[url])
                except OutputError as exc:
                    errors.append(exc)

        async with anyio.create_task_group() as group:
            for url, stem in zip(urls, stems(self.prediction.id, len(urls)), strict=True):
                group.start_soon(store, url, stem)
        if errors:
            raise _with_those_stored(errors, list(stored.values()))
        return stored

    async def _store(self, url: str, stem: str, path: str) -> OutputFile:
        file = await self._fetch(url, stem, path)
        self.paths[file.sha256] = file.path
        location, block, bucket = str(file.path), None, None
        if not isinstance(self.target, Path):
            location = await upload(self.target, file.path, self.prediction, self.policy)
            block, bucket = label(self.target), bucket_of(self.target)
        return OutputFile(
            location=location,
            output_path=path,
            source=without_query(url),
            media_type=file.media_type,
            size=file.size,
            sha256=file.sha256,
            block=block,
            bucket=bucket,
            expires_at=_expiry_of(self.prediction),
        )

    async def _fetch(self, url: str, stem: str, path: str) -> DownloadedFile:
        report = partial(self.progress.report, url)
        what = f"its file {without_query(url)}" + (f" (output {path})" if path else "")
        try:
            if not isinstance(self.target, Path) and (
                staged := await staged_file(self.folder, stem)
            ):
                report(staged.size, staged.size)
                return staged
            return await download(
                url, self.folder, stem, self.fetcher, self.policy, report, self.largest
            )
        except Exception as exc:  # hosts make httpx raise anything; the others must be stored
            raise output_error(exc, self.prediction, what, self.folder) from exc
