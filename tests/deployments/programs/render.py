"""Flows of users, each a way to wait for predictions that take ten minutes.

Usage: render.py FLOW PARAMETERS TAG
"""

import asyncio
import inspect
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from prefect import flow, suspend_flow_run, tags, task
from prefect.deployments import run_deployment
from prefect.events import emit_event

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
SLOW_TO_REPLY = "emulator/community-timer"
"""Has a route of its own, whose replies the tests keep back."""

FOLDER = Path(os.environ.get("RENDER_FOLDER", "."))
HOOKS: dict[str, Any] = {
    "on_cancellation": [cancel_predictions],
    "on_crashed": [cancel_predictions],
    "on_failure": [cancel_predictions],
}


def asked(prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "queue_seconds": 0.2, "seconds": 3000}


def video(prompt: str) -> dict[str, Any]:
    return {"model": MODEL, "prompt": prompt, "input": asked(prompt), "destination": str(FOLDER)}


@flow(**HOOKS)
def called(prompt: str) -> None:
    wait_for_prediction(create_prediction(MODEL, asked(prompt)))


@flow(**HOOKS)
async def awaited(prompt: str) -> None:
    await await_for_prediction(await acreate_prediction(MODEL, asked(prompt)))


@flow(**HOOKS)
async def gathered(prompt: str) -> None:
    started = await asyncio.gather(*[acreate_prediction(MODEL, asked(prompt)) for _ in range(3)])
    await asyncio.gather(*[await_for_prediction(one) for one in started])


@flow(**HOOKS)
def submitted(prompt: str) -> None:
    started = [create_prediction.submit(MODEL, asked(prompt)) for _ in range(2)]
    for wait in [wait_for_prediction.submit(one) for one in started]:
        wait.result()


@flow(**HOOKS)
def mapped(prompt: str) -> None:
    started = create_prediction.map([MODEL] * 3, [asked(prompt)] * 3)
    for wait in wait_for_prediction.map(started):
        wait.result()


timed_agenerate_video = agenerate_video.with_options(timeout_seconds=8)
timed_called = called.with_options(timeout_seconds=8)
timed_awaited = awaited.with_options(timeout_seconds=8)
timed_gathered = gathered.with_options(timeout_seconds=8)
timed_submitted = submitted.with_options(timeout_seconds=8)
timed_mapped = mapped.with_options(timeout_seconds=8)


def told(prompt: str) -> None:
    """Wait until the test says so."""
    while not (FOLDER / prompt).exists():
        time.sleep(0.05)


@task
def created_when_told(prompt: str) -> None:
    told(prompt)
    create_prediction.fn(MODEL, asked(prompt))


@flow(timeout_seconds=5, **HOOKS)
def late(prompt: str) -> None:
    created_when_told.submit(prompt).result()


def __getattr__(name: str) -> Any:
    """The flows in Dask workers, since its import takes as long as all the others."""
    own = {
        "in_dask": (submitted, None),
        "timed_in_dask": (submitted, 30),
        "late_in_dask": (late, 30),
    }
    if name not in own:
        raise AttributeError(name)
    from prefect_dask import DaskTaskRunner

    cluster = {"n_workers": 1, "threads_per_worker": 4, "dashboard_address": None}
    flow, limit = own[name]
    return flow.with_options(
        task_runner=DaskTaskRunner(cluster_kwargs=cluster), timeout_seconds=limit
    )


@task
def fails(prompt: str) -> None:
    """Fail when the test says so."""
    told(prompt)
    raise RuntimeError("another task of the flow failed")


@flow(**HOOKS)
def called_beside_a_failure(prompt: str) -> None:
    prediction = create_prediction(MODEL, asked(prompt))
    fails(prompt)
    wait_for_prediction(prediction)


@flow(**HOOKS)
async def gathered_beside_a_failure(prompt: str) -> None:
    prediction = await acreate_prediction(MODEL, asked(prompt))
    await asyncio.gather(await_for_prediction(prediction), asyncio.to_thread(fails, prompt))


@flow(**HOOKS)
def submitted_beside_a_failure(prompt: str) -> None:
    wait = wait_for_prediction.submit(create_prediction.submit(MODEL, asked(prompt)))
    fails.submit(prompt).result()
    wait.result()


@flow(**HOOKS)
def called_with_task_timeout(prompt: str) -> None:
    prediction = create_prediction(MODEL, asked(prompt))
    wait_for_prediction.with_options(timeout_seconds=4)(prediction)


@flow(**HOOKS)
async def awaited_with_task_timeout(prompt: str) -> None:
    prediction = await acreate_prediction(MODEL, asked(prompt))
    await await_for_prediction.with_options(timeout_seconds=4)(prediction)


@flow(**HOOKS)
def submitted_with_task_timeout(prompt: str) -> None:
    prediction = create_prediction.submit(MODEL, asked(prompt))
    wait_for_prediction.with_options(timeout_seconds=4).submit(prediction).result()


@flow
def parent(prompt: str) -> None:
    """Without a hook of its own."""
    generate_video(**video(prompt))


@flow
def client(prompt: str, deployment: str) -> None:
    """Without a hook of its own."""
    run_deployment(deployment, parameters=video(prompt), poll_interval=1)


@flow(**HOOKS)
def starter(prompt: str, deployment: str) -> None:
    """Fail when the test says so, while what it has started goes on."""
    run_deployment(deployment, parameters={"prompt": prompt}, timeout=0, tags=[prompt])
    fails(prompt)


@flow(**HOOKS)
def suspending(prompt: str) -> None:
    prediction = create_prediction(MODEL, asked(prompt))
    suspend_flow_run(timeout=600)
    wait_for_prediction(prediction)


@flow(**HOOKS)
def short_deadline(prompt: str) -> None:
    wait_for_prediction(create_prediction(MODEL, asked(prompt), cancel_after=15))


@flow(**HOOKS)
def slow_to_create(prompt: str) -> None:
    wait_for_prediction(create_prediction(SLOW_TO_REPLY, asked(prompt)))


@flow(**HOOKS)
def kept_on_crash(prompt: str) -> None:
    wait_for_prediction(create_prediction(MODEL, asked(prompt), on_crash="keep"))


@flow(**HOOKS)
def slow_to_create_kept_on_crash(prompt: str) -> None:
    wait_for_prediction(create_prediction(SLOW_TO_REPLY, asked(prompt), on_crash="keep"))


@task(timeout_seconds=8, retries=1)
def made_and_awaited(prompt: str) -> None:
    wait_for_prediction.fn(create_prediction.fn(MODEL, asked(prompt)))


@flow(**HOOKS)
def with_retried_task(prompt: str) -> None:
    made_and_awaited(prompt)


retried = called.with_options(timeout_seconds=10, retries=1)


@flow(**HOOKS)
def short(prompt: str) -> None:
    """Its prediction takes some seconds, and the wait for it may be retried."""
    prediction = create_prediction(MODEL, {**asked(prompt), "seconds": 6})
    wait_for_prediction.with_options(retries=1)(prediction)


@flow
def pulse() -> None:
    """Give signs of life, and nothing else."""
    while True:
        emit_event("pulse", {"prefect.resource.id": "prefect-replicate.tests"})
        time.sleep(0.5)


def main(name: str, parameters: str, tag: str) -> None:
    chosen = getattr(sys.modules[__name__], name)
    with tags(tag):
        result = chosen(**json.loads(parameters))
        if inspect.iscoroutine(result):
            asyncio.run(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
