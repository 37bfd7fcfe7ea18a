"""Programs of users, each a way to wait for a prediction that takes a minute.

Usage: render.py VARIANT PROMPT
"""

import asyncio
import sys
from typing import Any

from prefect import flow

from prefect_replicate import (
    acreate_prediction,
    agenerate_video,
    await_for_prediction,
    cancel_predictions,
    create_prediction,
    generate_video,
    wait_for_prediction,
)

MODEL = "emulator/timer"
MINUTE = {"queue_seconds": 0.5, "seconds": 60}


def asked(prompt: str) -> dict[str, Any]:
    return {"model": MODEL, "prompt": prompt, "input": MINUTE, "destination": "videos"}


def plain(prompt: str) -> None:
    generate_video(**asked(prompt))


def plain_async(prompt: str) -> None:
    asyncio.run(agenerate_video(**asked(prompt)))


def flow_timeout(prompt: str) -> None:
    generate_video.with_options(timeout_seconds=4)(**asked(prompt))


def flow_timeout_async(prompt: str) -> None:
    asyncio.run(agenerate_video.with_options(timeout_seconds=4)(**asked(prompt)))


@flow
def two_tasks(prompt: str) -> None:
    prediction = create_prediction(MODEL, {"prompt": prompt, **MINUTE})
    wait_for_prediction.with_options(timeout_seconds=3)(prediction)


def task_timeout(prompt: str) -> None:
    two_tasks(prompt)


@flow(timeout_seconds=5)
async def gathered(prompt: str) -> None:
    """Eight at once, which a timeout of Prefect's cancels all together."""
    whole = {"prompt": prompt, **MINUTE}
    started = await asyncio.gather(*[acreate_prediction(MODEL, whole) for _ in range(8)])
    await asyncio.gather(*[await_for_prediction(one) for one in started])


def gather_timeout(prompt: str) -> None:
    asyncio.run(gathered(prompt))


@flow(timeout_seconds=5, on_failure=[cancel_predictions])
def mapped(prompt: str) -> None:
    """Four in threads, which a timeout of Prefect's does not reach: the hook does."""
    whole = {"prompt": prompt, **MINUTE}
    started = [create_prediction.submit(MODEL, whole) for _ in range(4)]
    for wait in wait_for_prediction.map(started):
        wait.result()


def mapped_timeout(prompt: str) -> None:
    mapped(prompt)


def serve(prompt: str) -> None:
    generate_video.serve(name=prompt, parameters=asked(prompt))


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
