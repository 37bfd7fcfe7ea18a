"""What earlier predictions took adds looks near the expected end, and costs none before it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import Any

import pytest
from benchmarks.local_account import LocalAccount

from prefect_replicate import Prediction, acreate_prediction, await_for_prediction
from prefect_replicate.exceptions import PredictionFailedError


async def generate(**input: Any) -> Prediction:
    created = await acreate_prediction.fn("emulator/timer", input)
    return await await_for_prediction.fn(created)


async def after_three_of(seconds: float) -> None:
    await asyncio.gather(*(generate(seconds=seconds) for _ in range(3)))


@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.0, 8.0, 20.0])
async def test_what_ends_sooner_than_usual_is_noticed_as_soon_as_without_history(
    account: LocalAccount, seconds: float
) -> None:
    await after_three_of(25)

    with pytest.raises(PredictionFailedError) as failed:
        await generate(seconds=seconds, outcome="failed", error="CUDA out of memory")

    assert seconds_late(failed.value.prediction) <= max(1.0, 0.1 * seconds)


async def test_a_prediction_that_runs_is_said_to(
    account: LocalAccount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "prefect_replicate")
    await after_three_of(20)
    caplog.clear()
    created = await acreate_prediction.fn("emulator/timer", {"seconds": 20, "queue_seconds": 2})
    waiting = asyncio.ensure_future(await_for_prediction.fn(created))

    await asyncio.sleep(4)

    assert f"Prediction {created.id} is processing" in caplog.text
    await waiting


async def test_the_usual_end_is_noticed_sooner(account: LocalAccount) -> None:
    await after_three_of(60)

    done = await generate(seconds=60)

    assert seconds_late(done) <= 1.5  # not up to six, the pause at that age


def seconds_late(ended: Prediction) -> float:
    """How long after its end it was noticed, which is now."""
    assert ended.completed_at
    return (datetime.now(timezone.utc) - ended.completed_at).total_seconds()
