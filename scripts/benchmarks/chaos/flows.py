"""Flows as users write them, each with another way to ask for predictions.

A process that loads them has the clock that `CLOCK_AHEAD` says.
"""

# No `from __future__ import annotations`: Prefect could not resolve annotations that are text.

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import time_machine
from prefect import flow, unmapped

from prefect_replicate import (
    Prediction,
    acreate_prediction,
    adownload_outputs,
    await_for_prediction,
    cancel_predictions,
    create_prediction,
    download_outputs,
    generate_video,
    wait_for_prediction,
)

if ahead := float(os.environ.get("CLOCK_AHEAD", "0")):
    time_machine.travel(time.time() + ahead).start()

MODEL = "emulator/timer"

video = generate_video

OnCrash = Literal["cancel", "keep"]

_AS_USERS_DO: dict[str, Any] = {
    "retries": 1,
    "on_cancellation": [cancel_predictions],
    "on_crashed": [cancel_predictions],
    "on_failure": [cancel_predictions],
}


@flow(**_AS_USERS_DO)
def called(
    prompts: dict[str, int], input: dict[str, Any], destination: str, on_crash: OnCrash
) -> None:
    """One task after the other."""
    for whole in _inputs(prompts, input):
        prediction = create_prediction(MODEL, whole, on_crash=on_crash)
        download_outputs(wait_for_prediction(prediction), destination)


@flow(**_AS_USERS_DO)
def mapped(
    prompts: dict[str, int], input: dict[str, Any], destination: str, on_crash: OnCrash
) -> None:
    """Equal calls in threads."""
    started = create_prediction.map(MODEL, list(_inputs(prompts, input)), on_crash=on_crash)
    done = wait_for_prediction.map(started)
    for stored in download_outputs.map(done, unmapped(destination)):
        stored.result()


@flow(**_AS_USERS_DO)
async def gathered(
    prompts: dict[str, int], input: dict[str, Any], destination: str, on_crash: OnCrash
) -> None:
    """Equal and other calls on one event loop."""

    async def render(whole: dict[str, Any]) -> None:
        prediction: Prediction = await acreate_prediction(MODEL, whole, on_crash=on_crash)
        await adownload_outputs(await await_for_prediction(prediction), destination)

    await asyncio.gather(*[render(whole) for whole in _inputs(prompts, input)])


@flow(**_AS_USERS_DO)
def nested(
    prompts: dict[str, int], input: dict[str, Any], destination: str, on_crash: OnCrash
) -> None:
    """`generate_video` as a subflow."""
    for prompt in prompts:
        generate_video(prompt, MODEL, _with_file(input), destination=destination, on_crash=on_crash)


def _inputs(prompts: dict[str, int], input: dict[str, Any]) -> Iterable[dict[str, Any]]:
    input = _with_file(input)
    for prompt, count in prompts.items():
        yield from ({"prompt": prompt, **input} for _ in range(count))


def _with_file(input: dict[str, Any]) -> dict[str, Any]:
    """The input with its image, a path or a `data:` URI, as Python code gives it."""
    image = input.get("image", "data:")
    return input if image.startswith("data:") else {**input, "image": Path(image)}
