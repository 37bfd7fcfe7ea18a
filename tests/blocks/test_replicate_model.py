from __future__ import annotations

import pytest
from pydantic import ValidationError

from prefect_replicate import PollPolicy, Prediction, PredictionRun, ReplicateModel
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import (
    PredictionError,
    PredictionFailedError,
    PredictionTimeoutError,
)

QUICK = PollPolicy(min_interval=0.01, max_interval=0.02)


def timer(**options: object) -> ReplicateModel:
    return ReplicateModel(**{"model": "emulator/timer", "policy": QUICK, **options})  # pyright: ignore


def test_a_model_is_triggered_waited_for_and_read(replicate_emulator: Emulator) -> None:
    run = timer().trigger({"seconds": 0.1, "output": "hello"})

    run.wait_for_completion()

    assert isinstance(run, PredictionRun)
    assert run.prediction.is_succeeded
    assert run.fetch_result() == "hello"


async def test_a_model_is_run_by_async_code_too(replicate_emulator: Emulator) -> None:
    run = await timer().atrigger({"output": "hello"})

    await run.await_for_completion()

    assert await run.afetch_result() == "hello"


def test_the_input_wins_over_the_default_input(replicate_emulator: Emulator) -> None:
    model = timer(default_input={"prompt": "a fox", "seed": 1})

    run = model.trigger({"seed": 2})

    assert run.prediction.input == {"prompt": "a fox", "seed": 2}
    assert model.default_input == {"prompt": "a fox", "seed": 1}


def test_a_run_without_input_has_the_default_input(replicate_emulator: Emulator) -> None:
    assert timer(default_input={"seed": 1}).trigger().prediction.input == {"seed": 1}


@pytest.mark.parametrize(("timeout", "header"), [(100, "160s"), (None, "86400s")])
def test_the_timeout_is_replicates_deadline_too(
    replicate_emulator: Emulator, timeout: float | None, header: str
) -> None:
    timer(timeout=timeout).trigger()

    [sent] = replicate_emulator.requests.matching("POST")
    assert sent.headers["cancel-after"] == header


def test_a_run_that_takes_too_long_is_canceled(replicate_emulator: Emulator) -> None:
    run = timer(timeout=0.1).trigger({"seconds": 60})

    with pytest.raises(PredictionTimeoutError, match=r"timeout 0.1 s\); canceled, stopped after"):
        run.wait_for_completion()
    assert replicate_emulator.predictions.live() == []


def test_a_run_that_fails_is_an_error(replicate_emulator: Emulator) -> None:
    run = timer().trigger({"outcome": "failed", "error": "out of memory"})

    with pytest.raises(PredictionFailedError, match="out of memory"):
        run.wait_for_completion()


def test_a_run_is_canceled(replicate_emulator: Emulator) -> None:
    run = timer().trigger({"seconds": 60})

    assert run.cancel().status == "canceled"
    assert run.prediction.status == "canceled"


async def test_a_run_is_canceled_by_async_code_too(replicate_emulator: Emulator) -> None:
    run = await timer().atrigger({"seconds": 60})

    assert (await run.acancel()).status == "canceled"


def test_a_result_is_not_there_before_the_end(replicate_emulator: Emulator) -> None:
    run = timer().trigger({"seconds": 60})

    with pytest.raises(PredictionError, match=r"has no result: it is processing.*Call `wait_for"):
        run.fetch_result()


def test_each_look_is_told(replicate_emulator: Emulator) -> None:
    seen: list[Prediction] = []

    timer().trigger({"seconds": 0.1}).wait_for_completion(on_update=seen.append)

    assert [one.status for one in seen][-1] == "succeeded"


@pytest.mark.parametrize(
    "model", ["timer", "emulator/timer:latest", "deployment:timer", "", " ", "/timer", "emulator/"]
)
def test_a_model_that_is_no_reference_is_refused_when_it_is_made(model: str) -> None:
    with pytest.raises(ValidationError, match="is not a model reference; use 'owner/nam"):
        timer(model=model)


def test_a_model_is_kept_without_the_spaces_around_it() -> None:
    assert timer(model=" emulator/timer\n").model == "emulator/timer"


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_is_longer_than_nothing(timeout: float) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        timer(timeout=timeout)
