"""Who calls again gets the prediction that the call has made before; equal calls get their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client, task
from prefect.runtime import flow_run
from prefect.settings import PREFECT_RESULTS_PERSIST_BY_DEFAULT, temporary_settings

from prefect_replicate import (
    PollPolicy,
    Prediction,
    ReplicateModel,
    acreate_prediction,
    adownload_outputs,
    agenerate_video,
    await_for_prediction,
    create_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.lifecycle import adoption

INPUT = {"seconds": 60}
MODEL = "emulator/timer"


class Oops(Exception):
    pass


def ids(emulator: Emulator) -> list[str]:
    return sorted(one.id for one in emulator.predictions)


@pytest.mark.smoke
async def test_a_flow_retry_continues_with_the_prediction(still: Emulator) -> None:
    seen: list[str] = []

    @flow(retries=1)
    async def generation() -> None:
        seen.append((await acreate_prediction(MODEL, INPUT)).id)
        if len(seen) == 1:
            raise Oops

    await generation()

    assert seen == ids(still) * 2


@pytest.mark.contract
def test_equal_calls_in_threads_each_continue_with_another_prediction(still: Emulator) -> None:
    seen: list[list[str]] = []

    @flow(retries=1)
    def generation() -> None:
        started = create_prediction.map(MODEL, [INPUT] * 4)
        seen.append(sorted(future.result().id for future in started))
        if len(seen) == 1:
            raise Oops

    generation()

    assert seen == [ids(still)] * 2
    assert len(ids(still)) == 4


async def test_a_task_retry_continues_with_the_prediction(still: Emulator) -> None:
    seen: list[str] = []

    @task(retries=1)
    async def generate() -> None:
        run = await ReplicateModel(model=MODEL).atrigger(INPUT)
        seen.append(run.prediction.id)
        if len(seen) == 1:
            raise Oops

    @flow
    async def generation() -> None:
        await generate()

    await generation()

    assert seen == ids(still) * 2


async def test_a_retry_of_an_enclosing_task_continues_with_the_prediction(still: Emulator) -> None:
    seen: list[str] = []

    @task(retries=1)
    async def generate() -> None:
        seen.append((await acreate_prediction(MODEL, INPUT)).id)
        if len(seen) == 1:
            raise Oops

    @flow
    async def generation() -> None:
        await generate()

    await generation()

    assert seen == ids(still) * 2


async def test_a_call_outside_of_tasks_is_continued_with(still: Emulator) -> None:
    seen: list[str] = []

    @flow(retries=1)
    async def generation() -> None:
        seen.append((await ReplicateModel(model=MODEL).atrigger(INPUT)).prediction.id)
        if len(seen) == 1:
            raise Oops

    await generation()

    assert seen == ids(still) * 2


async def test_equal_calls_in_one_flow_are_separate(still: Emulator) -> None:
    @flow
    async def generation() -> None:
        await acreate_prediction(MODEL, INPUT)
        await asyncio.gather(*(acreate_prediction(MODEL, INPUT) for _ in range(2)))

    await generation()

    assert still.predictions.create_requests == 3


async def test_equal_calls_in_one_task_are_separate_and_kept_by_its_retry(still: Emulator) -> None:
    seen: list[str] = []

    @task(retries=1)
    async def generate() -> None:
        for _ in range(2):
            seen.append((await ReplicateModel(model=MODEL).atrigger(INPUT)).prediction.id)
        if len(seen) == 2:
            raise Oops

    @flow
    async def generation() -> None:
        await generate()

    await generation()

    assert still.predictions.create_requests == 2
    assert seen[:2] == seen[2:]


@pytest.mark.contract
async def test_equal_subflows_are_separate_and_kept_by_a_retry_of_the_parent(
    still: Emulator,
) -> None:
    seen: list[str] = []

    @flow
    async def child() -> None:
        seen.append((await acreate_prediction(MODEL, INPUT)).id)

    @flow(retries=1)
    async def parent() -> None:
        await child()
        await child()
        if len(seen) == 2:
            raise Oops

    await parent()

    assert still.predictions.create_requests == 2
    assert seen[:2] == seen[2:]


def test_submitted_equal_calls_are_separate_and_kept_by_a_flow_retry(still: Emulator) -> None:
    seen: list[set[str]] = []

    @flow(retries=1)
    def generation() -> None:
        futures = [create_prediction.submit(MODEL, INPUT) for _ in range(3)]
        seen.append({future.result().id for future in futures})
        if len(seen) == 1:
            raise Oops

    generation()

    assert seen == [set(ids(still))] * 2
    assert still.predictions.create_requests == 3


async def test_separate_runs_are_separate(still: Emulator) -> None:
    @flow
    async def generation() -> str:
        return (await acreate_prediction(MODEL, INPUT)).id

    assert await generation() != await generation()


@pytest.mark.parametrize("outcome", ["failed", "canceled", "aborted"])
async def test_one_that_ended_badly_is_replaced_on_a_retry(still: Emulator, outcome: str) -> None:
    seen: list[str] = []
    failing = {"outcome": "failed", "error": "Prediction interrupted; please retry (code: PA)"}
    asked: dict[str, Any] = failing if outcome == "failed" else {"queue_seconds": 60}

    @flow(retries=1)
    async def generation() -> None:
        prediction = await acreate_prediction(MODEL, asked, cancel_after=5)
        seen.append(prediction.id)
        if len(seen) == 1:
            still.clock.advance(10 if outcome == "aborted" else 0)
            if outcome == "canceled":
                _cancel_elsewhere(still, prediction.id)
            raise Oops

    await generation()

    assert len(set(seen)) == still.predictions.create_requests == 2


async def test_one_that_failed_for_good_is_not_paid_again(still: Emulator) -> None:
    seen: list[str] = []

    @flow(retries=1)
    async def generation() -> None:
        failed = await acreate_prediction(MODEL, {"outcome": "failed", "error": "CUDA OOM"})
        seen.append(failed.id)
        if len(seen) == 1:
            raise Oops

    await generation()

    assert seen == ids(still) * 2


@pytest.mark.parametrize(("regenerate_expired", "creates"), [(False, 1), (True, 2)])
async def test_one_whose_result_has_expired_is_paid_again_only_if_asked(
    still: Emulator, regenerate_expired: bool, creates: int
) -> None:
    seen: list[str] = []

    @flow(retries=1)
    async def generation() -> None:
        prediction = await acreate_prediction(
            MODEL, {"output": 1}, regenerate_expired=regenerate_expired
        )
        seen.append(prediction.id)
        if len(seen) == 1:
            still.clock.advance(2 * 3600)
            raise Oops

    await generation()

    assert still.predictions.create_requests == creates
    assert len(set(seen)) == creates


def _cancel_elsewhere(emulator: Emulator, prediction_id: str) -> None:
    import replicate

    client = replicate.Client(api_token=emulator.token, base_url=emulator.base_url)
    client.predictions.cancel(prediction_id)


async def test_one_that_has_succeeded_meanwhile_is_not_paid_again(
    replicate_emulator: Emulator,
) -> None:
    seen: list[str] = []

    @flow(retries=1)
    async def generation() -> None:
        prediction = await acreate_prediction(MODEL, {"output": 1})
        seen.append(prediction.status)
        if len(seen) == 1:
            raise Oops

    await generation()

    assert seen[1] == "succeeded"
    assert replicate_emulator.predictions.create_requests == 1


@pytest.mark.parametrize("how", ["in another order", "gathered"])
async def test_a_retry_gives_each_subflow_its_own_result_where_prefect_keeps_them(
    replicate_emulator: Emulator, quick: PollPolicy, tmp_path: Path, how: str
) -> None:
    prompts, attempts, made = ["a fox", "a seal"], list[int](), dict[str, str]()

    async def one(prompt: str) -> None:
        if how == "gathered" and prompt == prompts[len(attempts) - 1]:
            await asyncio.sleep(0.1)
        video = await agenerate_video(prompt, MODEL, policy=quick, destination=tmp_path)
        made[prompt] = video.prediction.input["prompt"]

    @flow(retries=1)
    async def pipeline() -> None:
        attempts.append(1)
        if how == "gathered":
            await asyncio.gather(*map(one, prompts))
        else:
            for prompt in prompts[:: 1 if len(attempts) == 1 else -1]:
                await one(prompt)
        if len(attempts) == 1:
            raise Oops

    with temporary_settings({PREFECT_RESULTS_PERSIST_BY_DEFAULT: True}):
        await pipeline()

    assert made == {"a fox": "a fox", "a seal": "a seal"}
    assert replicate_emulator.predictions.create_requests == 2


async def test_a_lost_create_leaves_other_runs_their_predictions(
    still: Emulator, impatient: None, quick: PollPolicy, forget: Callable[..., None]
) -> None:
    @flow
    async def generation() -> Prediction:
        return await acreate_prediction(MODEL, INPUT)

    @flow
    async def waiting(prediction: Prediction) -> None:
        def end(_: Prediction) -> None:
            still.clock.advance(2)

        await await_for_prediction(prediction, policy=quick, on_update=end)

    old = await acreate_prediction.fn(MODEL, {"seconds": 1000})
    still.clock.advance(999)
    others = await generation()
    await waiting(old)
    forget("ledgers", "taken")  # as another process
    still.faults.add("reset", method="POST", path="/predictions$")

    made = await generation()

    assert made.id != others.id
    assert still.predictions.create_requests == 3


async def test_a_lost_create_leaves_other_runs_what_they_wrote_down_long_before(
    still: Emulator,
    impatient: None,
    forget: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A create may wait for its turn after its record was written."""
    monkeypatch.setattr(adoption, "CLOCK_SLACK", timedelta(seconds=0.2))
    generation = flow(acreate_prediction.fn)
    others = await generation(MODEL, INPUT)
    await asyncio.sleep(0.5)  # by Prefect's clock; Replicate's stands still
    forget("ledgers", "taken")  # as another process
    still.faults.add("reset", method="POST", path="/predictions$")

    made = await generation(MODEL, INPUT)

    assert made.id != others.id
    assert still.predictions.create_requests == 2


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_lost_create_of_another_process_is_told_apart_by_its_secret(
    still: Emulator,
    impatient: None,
    forget: Callable[..., None],
    lose_create: Callable[[], None],
    is_known: bool,
) -> None:
    @flow
    async def generation(key: str) -> Prediction:
        return await acreate_prediction(MODEL, {**INPUT, "key": key})

    if not is_known:
        lose_create()
    others = await generation("a", return_state=True)
    forget("ledgers", "taken")  # as another process
    still.faults.add("lost_reply", method="POST", path="/predictions$")

    made = await generation("b", return_state=True)

    assert others.is_completed() == made.is_completed() == is_known
    assert still.predictions.create_requests == 2
    if is_known:
        assert still.predictions[(await made.aresult()).id].input["key"] == "b"


async def test_a_lost_create_is_found_beside_a_fact_that_cannot_be_understood(
    still: Emulator, impatient: None
) -> None:
    @flow
    async def generation() -> Prediction:
        await acreate_prediction(MODEL, {"seconds": 61})
        async with get_client() as client:
            key, value = "replicate-0123-1-0", '{"version": 9}'
            await client.create_flow_run_input(UUID(flow_run.id), key, value)
        still.faults.add("lost_reply", method="POST", path="/predictions$")
        return await acreate_prediction(MODEL, INPUT)

    made = await generation()

    assert made.id in ids(still)
    assert still.predictions.create_requests == 2


async def test_files_that_are_stored_are_found_when_replicate_has_deleted_theirs(
    still: Emulator, quick: PollPolicy, tmp_path: Path, forget: Callable[..., None]
) -> None:
    seen: list[Any] = []

    @flow(retries=1)
    async def generation() -> None:
        made = await acreate_prediction(MODEL, {"seconds": 0}, regenerate_expired=True)
        done = await await_for_prediction(made, policy=quick)
        seen.append(await adownload_outputs(done, tmp_path))
        if len(seen) == 1:
            still.clock.advance(2 * 3600)
            forget("ledgers")
            raise Oops

    await generation()

    assert seen[0] == seen[1]
    assert still.predictions.create_requests == 1
