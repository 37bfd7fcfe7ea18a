"""A call that another process of the run has made, or is making; real ones are in deployments."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.runtime import flow_run
from prefect.states import State
from prefect.task_runners import ProcessPoolTaskRunner

from prefect_replicate import create_prediction
from prefect_replicate.emulator import Emulator
from prefect_replicate.engine import call
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.facts import Made
from prefect_replicate.ledger.ledger import Ledger
from prefect_replicate.ledger.log import OwnLog
from prefect_replicate.lifecycle import creation

pytestmark = pytest.mark.contract
MODEL, INPUT = "emulator/timer", {"seconds": 60}
CREATE = {"method": "POST", "path": "/predictions$"}
Records = Callable[[State[Any]], list[dict[str, Any]]]


class Oops(Exception):
    pass


@pytest.fixture(autouse=True)
def _impatient(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    monkeypatch.setattr(creation, "PAUSE_SECONDS", 0.05)


@pytest.fixture
def not_made(forget: Callable[..., None]) -> Callable[[], None]:
    """Have the run's only log say what it said before another process wrote the id down."""

    def not_made() -> None:
        async def remove(_: Any) -> None:
            [log] = await logs()
            async with get_client() as client:
                await client.delete_flow_run_input(UUID(flow_run.id), f"replicate-{log.name}-1")

        call(remove)
        forget("process", "ledgers", "taken")

    return not_made


async def logs() -> list[OwnLog]:
    ledger = Ledger(UUID(flow_run.id))
    await ledger.read()
    return ledger.all


def test_a_create_that_another_process_has_under_way_is_waited_for(
    still: Emulator,
    not_made: Callable[[], None],
    records: Records,
    eventually: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[str] = []

    @flow(retries=1)
    def generation() -> None:
        if not seen:
            seen.append(create_prediction(MODEL, INPUT).id)
            not_made()
            raise Oops
        future = create_prediction.submit(MODEL, INPUT)
        eventually(lambda: "Another process is already starting this" in caplog.text)
        call(lambda _: write(made=Made(id=seen[0], url="")))
        seen.append(future.result().id)

    state = generation(return_state=True)

    assert seen == [still.predictions.live()[0].id] * 2
    assert still.predictions.create_requests == 1
    assert [one["prediction_id"] for one in records(state)] == [seen[0]]


def test_a_create_that_another_process_has_abandoned_is_looked_for(
    still: Emulator, not_made: Callable[[], None], records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "ABANDONED_SECONDS", 0.0)
    seen: list[str] = []

    @flow(retries=1)
    def generation() -> None:
        seen.append(create_prediction(MODEL, INPUT).id)
        if len(seen) == 1:
            not_made()
            raise Oops

    state = generation(return_state=True)

    assert seen == [still.predictions.live()[0].id] * 2
    assert [one["prediction_id"] for one in records(state)] == [seen[0]]


def test_a_create_that_another_process_never_sent_is_sent(
    still: Emulator, not_made: Callable[[], None], records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "ABANDONED_SECONDS", 0.0)
    seen: list[str] = []

    @flow(retries=1)
    def generation() -> None:
        seen.append(create_prediction(MODEL, INPUT).id)
        if len(seen) == 1:
            still.predictions.clear()
            not_made()
            raise Oops

    state = generation(return_state=True)

    assert [one.id for one in still.predictions] == [seen[1]]
    assert [one["status"] for one in records(state)] == ["starting"]


def test_a_create_that_is_held_up_says_that_it_is_still_under_way(
    still: Emulator, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "SEND_SECONDS", 0.0)
    still.faults.add("throttled", **CREATE, retry_after=0)

    @flow
    def generation() -> None:
        create_prediction(MODEL, INPUT)

    [record] = records(generation(return_state=True))

    assert record["status"] == "starting"
    assert still.predictions.create_requests == 1


@pytest.mark.parametrize("takeover", ["announced", "made"])
def test_a_create_that_was_held_up_too_long_is_not_sent_any_more(
    still: Emulator, eventually: Any, monkeypatch: pytest.MonkeyPatch, takeover: str
) -> None:
    monkeypatch.setattr(creation, "SEND_SECONDS", 0.0)
    still.faults.add("throttled", **CREATE, times=None, retry_after=0)

    @flow
    def generation() -> None:
        future = create_prediction.submit(MODEL, INPUT)
        eventually(lambda: still.requests.matching("POST", "/predictions"))
        call(lambda _: take_over(takeover))
        still.faults.clear()
        future.result()

    with pytest.raises(LedgerError, match="another process took over this call"):
        generation()
    assert still.predictions.create_requests == 0


async def write(**content: Any) -> None:
    [log] = await logs()
    await log.note(**content)


async def take_over(how: str) -> None:
    """As another process does that waits no longer."""
    [log] = await logs()
    assert log.generation is not None
    origin, intent = log.generation.origin, log.generation.intent
    later = intent.model_copy(update={"at": intent.at + timedelta(seconds=1)})
    made = Made(id="anothers", url="") if how == "made" else None
    await log.note(origin=origin, intent=later, made=made)


@pytest.mark.full
def test_equal_calls_in_a_process_pool_are_separate_and_kept_by_a_retry(still: Emulator) -> None:
    seen: list[list[str]] = []

    @flow(retries=1, task_runner=ProcessPoolTaskRunner(max_workers=2))
    def generation() -> None:
        futures = [create_prediction.submit(MODEL, INPUT) for _ in range(3)]
        seen.append(sorted(future.result().id for future in futures))
        if len(seen) == 1:
            raise Oops

    generation()

    assert seen == [sorted(one.id for one in still.predictions)] * 2
    assert still.predictions.create_requests == 3
