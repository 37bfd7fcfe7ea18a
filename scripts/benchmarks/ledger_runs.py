"""A program: make predictions within a flow run and outside of any, and print what that took.

The environment says which Prefect server and which local Replicate.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import sys
import time
from typing import Any, NamedTuple

from prefect import flow

from benchmarks.requests_sent import recorded
from benchmarks.rounds import interleaved
from prefect_replicate import (
    PollPolicy,
    acreate_prediction,
    cancel_predictions,
    create_prediction,
    wait_for_prediction,
)

_MODEL, _INPUT = "emulator/timer", {"seconds": 0.1}
_QUICK = PollPolicy(min_interval=0.02, max_interval=0.02)


class Taken(NamedTuple):
    """One generation: seconds until it was created, and requests to Prefect before and after."""

    seconds: float
    to_create: int
    to_finish: int


def _generate() -> Taken:
    with recorded() as creating:
        started = time.perf_counter()
        prediction = create_prediction.fn(_MODEL, _INPUT)
        seconds = time.perf_counter() - started
    with recorded() as finishing:
        wait_for_prediction.fn(prediction, policy=_QUICK)
    return Taken(seconds, *(sum(to == "prefect" for to, _ in all) for all in (creating, finishing)))


def _generate_outside() -> Taken:
    return contextvars.Context().run(_generate)


@flow
async def _many(count: int) -> None:
    running = {"seconds": 3600}
    await asyncio.gather(*(acreate_prediction.fn(_MODEL, running) for _ in range(count)))
    raise RuntimeError("to be cleaned up after")


def _seconds_of_hook(count: int) -> float:
    """How long the hook takes for so many running predictions."""
    taken: list[float] = []

    def timed(flow: Any, flow_run: Any, state: Any) -> None:
        started = time.perf_counter()
        cancel_predictions(flow, flow_run, state)
        taken.append(time.perf_counter() - started)

    asyncio.run(_many.with_options(on_failure=[timed])(count, return_state=True))
    return taken[0]


def main(rounds: int, many: int) -> None:
    """Print the takings of both, those of a retry that finds all of it done, and of the hook."""
    taken: dict[str, list[Taken]] = {}

    @flow(retries=1)
    def generations() -> None:
        ways = {"within": _generate, "outside": _generate_outside}
        if not taken:
            interleaved(tuple(ways), 2, lambda way: ways[way]())
            taken.update(interleaved(tuple(ways), rounds, lambda way: ways[way]()))
            raise RuntimeError("to be retried")
        taken["retried"] = [_generate() for _ in range(rounds)]

    generations()
    print(json.dumps({"taken": taken, "hook": _seconds_of_hook(many)}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
