"""A program: do one thing with many predictions, and print what it took of this process as JSON.

The environment says which Prefect server and which local Replicate.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from tempfile import TemporaryDirectory
from typing import Any

import replicate
from prefect import flow, task

from benchmarks.memory import mark, most_resident
from benchmarks.requests_sent import recorded
from prefect_replicate import Prediction, await_for_prediction, generate_videos

_MODEL = "emulator/timer"
_MEDIAN, _P95 = 3.0, 15.0
"""Seconds; a twentieth of those in the comparison of many waits."""


@task
def _trivial(number: int) -> int:
    return number + 1


@flow
def _bare(count: int) -> None:
    for future in [_trivial.submit(number) for number in range(count)]:
        future.result()


def _trivial_tasks(count: int, _: float) -> Callable[[], None]:
    return lambda: _bare(count)


def model_seconds(count: int) -> list[float]:
    """How long each item of a batch runs."""
    chance, sigma = random.Random(1), math.log(_P95 / _MEDIAN) / 1.645
    return [chance.lognormvariate(math.log(_MEDIAN), sigma) for _ in range(count)]


def _batch(count: int, _: float) -> Callable[[], None]:
    requests: list[Any] = [
        {"prompt": f"video {number}", "input": {"seconds": seconds}}
        for number, seconds in enumerate(model_seconds(count))
    ]

    def generate() -> None:
        with TemporaryDirectory() as folder:
            generate_videos(requests, _MODEL, destination=folder, concurrency=count)

    return generate


def _our_waits(count: int, seconds: float) -> Callable[[], None]:
    started = [Prediction(id=one.id, status=one.status) for one in _long_ones(count)]
    return lambda: _for_a_while(seconds, lambda: [await_for_prediction.fn(one) for one in started])


def _client_waits(count: int, seconds: float) -> Callable[[], None]:
    started = _long_ones(count)
    return lambda: _for_a_while(seconds, lambda: [one.async_wait() for one in started])


def _long_ones(count: int) -> list[Any]:
    """Predictions that last longer than anybody waits."""
    client = replicate.Client(base_url=os.environ["REPLICATE_BASE_URL"])
    make = client.predictions.create
    return [make(model=_MODEL, input={"seconds": 3600}) for _ in range(count)]


def _for_a_while(seconds: float, waits: Callable[[], list[Awaitable[Any]]]) -> None:
    async def wait() -> None:
        tasks = [asyncio.ensure_future(one) for one in waits()]
        done, _ = await asyncio.wait(tasks, timeout=seconds)
        _print(failed=sum(one.exception() is not None for one in done))
        os._exit(0)  # how an interrupted wait cleans up after itself is not of interest here

    asyncio.run(wait())


_KINDS: dict[str, Callable[[int, float], Callable[[], None]]] = {
    "trivial tasks": _trivial_tasks,
    "a batch": _batch,
    "waits": _our_waits,
    "waits of the official client": _client_waits,
}
_begun: dict[str, float] = {}
_requests: list[tuple[str, float]] = []


def main(what: str, count: int, seconds: float) -> None:
    """Print CPU and wall seconds, growth of the resident set in MB, and requests."""
    act = _KINDS[what](count, seconds)
    if what in ("trivial tasks", "a batch"):
        _bare(1)
    mark()
    _begun.update(_used())
    with recorded() as requests:
        globals()["_requests"] = requests
        act()
    _print()


def _print(failed: int = 0) -> None:
    taken = {name: value - _begun[name] for name, value in _used().items()}
    sent = {kind: sum(to == kind for to, _ in _requests) for kind in ("prefect", "replicate")}
    print(json.dumps(taken | sent | {"failed": failed}), flush=True)


def _used() -> dict[str, float]:
    return {
        "cpu": time.process_time(),
        "wall": time.perf_counter(),
        "megabytes": most_resident(),
    }


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
