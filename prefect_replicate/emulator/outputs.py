"""Where the files of a prediction are served, and the output with their URLs in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from prefect_replicate.emulator.artifacts import Artifact, NoiseFile, TextFile
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


def output_with_urls(record: Record, files_url: str) -> Any:
    """Return the output with a URL in the place of each file."""
    keys = iter(files_of(record))
    return _replaced(
        record.plan.output, lambda file: f"{files_url}/{_SHARD}/{next(keys)}/{file.name}"
    )


def output_inline(record: Record, files_url: str, limit: int) -> Any:
    """Return the output with small texts as `data:` URIs, as sync mode does, and URLs otherwise."""
    keys = iter(files_of(record))

    def place(file: Artifact) -> str:
        key = next(keys)
        inline = _data_uri(file, limit)
        return inline or f"{files_url}/{_SHARD}/{key}/{file.name}"

    return _replaced(record.plan.output, place)


def _data_uri(file: Artifact, limit: int) -> str | None:
    content = _small_content(file, limit)
    if content is None:
        return None
    return f"data:{file.media_type};base64,{base64.b64encode(content).decode()}"


def _small_content(file: Artifact, limit: int) -> bytes | None:
    if isinstance(file, TextFile):
        content = file.text.encode()
    elif isinstance(file, NoiseFile) and file.size <= limit:
        content = b"".join(file.chunks(0, file.size))
    else:
        return None
    return content if len(content) <= limit else None


def _replaced(output: Any, place: Callable[[Artifact], str]) -> Any:
    if isinstance(output, Artifact):
        return place(output)
    if isinstance(output, Mapping):
        named = cast("Mapping[str, Any]", output)
        return {name: _replaced(value, place) for name, value in named.items()}
    if isinstance(output, list):
        return [_replaced(value, place) for value in cast("list[Any]", output)]
    return output
