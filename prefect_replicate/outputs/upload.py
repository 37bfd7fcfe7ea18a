"""Hand a downloaded file to a storage block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from prefect.blocks.abstract import ObjectStorageBlock
from prefect.filesystems import RemoteFileSystem
from tenacity import RetryError

from prefect_replicate.exceptions import OutputError
from prefect_replicate.outputs.destination import StorageBlock, label
from prefect_replicate.outputs.failure import one_line
from prefect_replicate.outputs.retry import TransferPolicy
from prefect_replicate.outputs.saved_block import call_block
from prefect_replicate.values import Prediction


async def upload(
    block: StorageBlock, path: Path, prediction: Prediction, policy: TransferPolicy
) -> str:
    """Store a file in a block and give the block's own path or key for it.

    Raises:
        OutputError: The block didn't take it; the file stays where it is.
    """
    try:
        # A block may raise anything at all, so that everything is worth another attempt.
        return await policy.uploading(on=(Exception,))(_hand_over, block, path)
    except RetryError as failed:
        cause = failed.last_attempt.exception() or failed
        attempts = failed.last_attempt.attempt_number
        raise OutputError(
            f"Prediction {prediction.id} is done and paid, but block {label(block)} did not take"
            f" {path.name} in {attempts} attempts: {one_line(cause)}. The file is kept at {path};"
            " storing again uses it."
        ) from cause


async def _hand_over(block: StorageBlock, path: Path) -> str:
    if isinstance(block, ObjectStorageBlock):
        stored = await call_block(block, "upload_from_path", path, path.name)
    elif isinstance(block, RemoteFileSystem) and not block.basepath.startswith("smb:"):
        stored = await anyio.to_thread.run_sync(_put_file, block, path)
    else:
        # The interface takes the bytes at once, so that memory is the file's size.
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
