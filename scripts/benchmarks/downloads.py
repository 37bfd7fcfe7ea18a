"""Fetching one large file with `download_outputs`, beside a plain httpx stream."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import replicate

from benchmarks.report import Measurement, against
from benchmarks.rounds import fresh_python, interleaved, ratio, without_prefect_settings
from prefect_replicate.emulator import Emulator

_TARGET = 0.8
_MEMORY_TARGET = 32.0
_NAMES = {
    "plain": "plain httpx stream",
    "synced": "the same with `fsync`",
    "ours": "`download_outputs`",
}


def measure(quick: bool) -> Measurement:
    """Fetch the same file in a fresh process a run, in turn."""
    size = 20_000_000 if quick else 1_000_000_000
    with TemporaryDirectory() as home, Emulator() as emulator:
        prediction = _finished(emulator, size)
        env = without_prefect_settings(
            PREFECT_HOME=home,
            REPLICATE_API_TOKEN=emulator.token,
            REPLICATE_BASE_URL=emulator.base_url,
        )
        taken = interleaved(
            tuple(_NAMES),
            1 if quick else 7,
            lambda way: _one_download(way, prediction, env),
        )
    _check_same_file(taken, size)
    return _reported(taken, size)


def _finished(emulator: Emulator, size: int) -> str:
    client = replicate.Client(api_token=emulator.token, base_url=emulator.base_url)
    made = client.predictions.create(model="emulator/timer", input={"output_bytes": size})
    made.reload()
    return json.dumps({"id": made.id, "status": made.status, "output": made.output})


def _one_download(way: str, prediction: str, env: dict[str, str]) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        done = fresh_python("-m", "benchmarks.one_download", way, folder, prediction, env=env)
        for file in Path(folder).iterdir():
            file.unlink()
    os.sync()  # or the next one would wait for this one's blocks
    return done


def _check_same_file(taken: dict[str, list[dict[str, Any]]], size: int) -> None:
    found = {(run["sha256"], run["size"]) for runs in taken.values() for run in runs}
    if len(found) != 1 or next(iter(found))[1] != size:
        raise SystemExit(f"not everyone fetched the same {size} bytes: {found}")


def _reported(taken: dict[str, list[dict[str, Any]]], size: int) -> Measurement:
    seconds = {way: [run["seconds"] for run in runs] for way, runs in taken.items()}
    growth = {way: max(run["growth"] for run in runs) for way, runs in taken.items()}
    rows = [
        (
            name,
            f"{statistics.median(size / 1e6 / each for each in seconds[way]):.0f} MB/s",
            f"{ratio(seconds[way], seconds['ours']):.2f}",
            f"{statistics.median(run['cpu'] for run in taken[way]):.2f} s",
            f"{growth[way]:.1f} MB",
        )
        for way, name in _NAMES.items()
    ]
    speed = ratio(seconds["plain"], seconds["ours"])
    memory = growth["ours"]
    return Measurement(
        (
            "method",
            "median speed",
            "speed of `download_outputs` over it",
            "median CPU",
            "largest memory growth",
        ),
        rows,
        [
            "Speed of `download_outputs` over the plain stream:"
            f" {against(speed, _TARGET, at_most=False)}.",
            "Memory growth of `download_outputs`, in MB:"
            f" {against(memory, _MEMORY_TARGET, at_most=True)}.",
        ],
        is_met=speed >= _TARGET and memory <= _MEMORY_TARGET,
    )
