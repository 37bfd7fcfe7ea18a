"""A program: fetch one file in one way, and print what it took.

Memory growth is the high-water mark of the resident set from just before to just after, with
everything that the first use of a client or an engine allocates. It is read where Linux has it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import httpx

from benchmarks.memory import mark, most_resident
from prefect_replicate import Prediction, download_outputs


def _plain(prediction: Prediction, folder: Path, *, sync: bool) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with (
        httpx.Client() as http,
        http.stream("GET", prediction.output) as response,
        (folder / "plain").open("wb") as file,
    ):
        for piece in response.iter_bytes():
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    return digest.hexdigest(), size


def _ours(prediction: Prediction, folder: Path) -> tuple[str, int]:
    (file,) = download_outputs.fn(prediction, folder)
    return file.sha256, file.size


def main(way: str, folder: Path, prediction: Prediction) -> None:
    """Fetch, and print what it took as JSON."""
    before, wall, cpu = mark(), time.perf_counter(), time.process_time()
    if way == "ours":
        sha256, size = _ours(prediction, folder)
    else:
        sha256, size = _plain(prediction, folder, sync=way == "synced")
    took = {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "growth": most_resident() - before,
    }
    print(json.dumps({**took, "sha256": sha256, "size": size}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Prediction.model_validate_json(sys.argv[3]))
