"""Where the files of a prediction are served, and the output with their URLs in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from prefect_replicate.emulator.artifacts import Artifact, NoiseFile, VideoFile, content_of
from prefect_replicate.emulator.plans import artifacts_in
from prefect_replicate.emulator.predictions import Record

# One of the first path segments of the files that Replicate serves.
_SHARD = "xezq"


def file_key(prediction_id: str, index: int) -> str:
    """Return the key of the `index`-th file of a prediction, which nobody can guess."""
    digest = hashlib.sha256(f"{prediction_id}/{index}".encode()).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


def files_of(record: Record) -> dict[str, Artifact]:
    """Return the files that `record` will have, by their keys."""
    found = enumerate(artifacts_in(record.plan.output))
    return {file_key(record.id, index): artifact for index, artifact in found}


def file_url(files_url: str, key: str, file: Artifact) -> str:
    """Return where a file is served."""
    return f"{files_url}/{_SHARD}/{key}/{file.name}"


def written_output(record: Record, output: Any, files_url: str, inline_limit: int = 0) -> Any:
    """Return the output with a URL in place of each file.

    Args:
        record: The prediction.
        output: All of its output, or the first items.
        files_url: Origin of the file host.
        inline_limit: Files up to this many bytes come as `data:` URIs, as in sync mode.
    """
    keys = iter(files_of(record))

    def place(file: Artifact) -> str:
        url = file_url(files_url, next(keys), file)
        return _data_uri(file, inline_limit) or url

    return _replaced(output, place)


def _data_uri(file: Artifact, limit: int) -> str | None:
    content = _small_content(file, limit)
    if content is None:
        return None
    return f"data:{file.media_type};base64,{base64.b64encode(content).decode()}"


def _small_content(file: Artifact, limit: int) -> bytes | None:
    # A real video is hardly ever ready before a create's wait ends.
    if limit == 0 or isinstance(file, VideoFile):
        return None
    if not isinstance(file, NoiseFile):
        content = content_of(file)
    elif file.size <= limit:
        content = b"".join(file.chunks(0, file.size))
    else:
        return None
    return content if 0 < len(content) <= limit else None


def _replaced(output: Any, place: Callable[[Artifact], str]) -> Any:
    if isinstance(output, Artifact):
        return place(output)
    if isinstance(output, Mapping):
        named = cast("Mapping[str, Any]", output)
        return {name: _replaced(value, place) for name, value in named.items()}
    if isinstance(output, list):
        return [_replaced(value, place) for value in cast("list[Any]", output)]
    return output
