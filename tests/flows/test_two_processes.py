"""A call that another process of the run has made, or is making; real ones are in deployments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.runtime import flow_run
from prefect.states import State
from prefect.task_runners import ProcessPoolTaskRunner

from prefect_replicate import create_prediction
from prefect_replicate.emulator import Emulator
from prefect_replicate.engine import call
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.record import INTENT, VOID
from prefect_replicate.ledger.store import delete_record, records_of_runs, update_record
from prefect_replicate.lifecycle import claiming, intent, resumption

pytestmark = pytest.mark.contract
MODEL, INPUT = "emulator/timer", {"seconds": 60}
CREATE = {"method": "POST", "path": "/predictions$"}
Records = Callable[[State[Any]], list[dict[str, Any]]]


class Oops(Exception):
    pass


@pytest.fixture(autouse=True)
def _impatient(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    monkeypatch.setattr(resumption, "PAUSE", 0.05)


SetRecord = Callable[..., None]


@pytest.fixture
def set_record(forget: Callable[..., None]) -> SetRecord:
    """Change the run's only record, as another process does, and know nothing of it."""

    def set_record(**changes: Any) -> None:
        async def change(_: Any) -> None:
            [entry] = (await records_of_runs([UUID(flow_run.id)])).entries
            await update_record(entry, entry.record.model_copy(update=changes))

        call(change)
        forget("settled", "taken", "entries", "occurrences", "calls")

    return set_record


def test_a_create_that_another_process_has_under_way_is_waited_for(
    still: Emulator,
    set_record: SetRecord,
    records: Records,
    eventually: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[str] = []

    @flow(retries=1)
    def generation() -> None:
        if not seen:
            seen.append(create_prediction(MODEL, INPUT).id)
            set_record(status=INTENT, prediction_id=None)
            raise Oops
        future = create_prediction.submit(MODEL, INPUT)
        eventually(lambda: "Another process of this run is starting this" in caplog.text)
        set_record(status="processing", prediction_id=seen[0])
        seen.append(future.result().id)

    state = generation(return_state=True)

    assert seen == [still.predictions.live()[0].id] * 2
    assert still.predictions.create_requests == 1
    assert [one["prediction_id"] for one in records(state)] == [seen[0]]


def test_a_create_that_another_process_has_abandoned_is_looked_for(
    still: Emulator, set_record: SetRecord, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "ABANDONED_SECONDS", 0.0)
    seen: list[str] = []

    @flow(retries=1)
    def generation() -> None:
        seen.append(create_prediction(MODEL, INPUT).id)
        if len(seen) == 1:
            set_record(status=INTENT, prediction_id=None)
            raise Oops

    state = generation(return_state=True)

    assert seen == [still.predictions.live()[0].id] * 2
    assert [one["prediction_id"] for one in records(state)] == [seen[0]]


def test_a_create_that_another_process_never_sent_is_sent(
    still: Emulator, set_record: SetRecord, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "ABANDONED_SECONDS", 0.0)
    seen: list[str] = []

    @flow(retries=1)
    def generation() -> None:
        seen.append(create_prediction(MODEL, INPUT).id)
        if len(seen) == 1:
            still.predictions.clear()
            set_record(status=INTENT, prediction_id=None)
            raise Oops

    state = generation(return_state=True)

    assert [one.id for one in still.predictions] == [seen[1]]
    assert [one["status"] for one in records(state)] == [VOID, "processing"]


def test_an_input_whose_files_were_still_being_sent_was_not_paid(
    still: Emulator, set_record: SetRecord, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "ABANDONED_SECONDS", 0.0)
    seen: list[str] = []

    @flow(retries=1)
    def generation() -> None:
        seen.append(create_prediction(MODEL, INPUT).id)
        if len(seen) == 1:
            set_record(status=INTENT, prediction_id=None, input_digest=None)
            raise Oops

    generation(return_state=True)

    assert still.requests.matching("GET", "/v1/predictions") == []


def test_a_create_that_is_held_up_says_that_it_is_still_under_way(
    still: Emulator, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intent, "SEND_SECONDS", 0.0)
    still.faults.add("throttled", **CREATE, retry_after=0)

    @flow
    def generation() -> None:
        create_prediction(MODEL, INPUT)

    [record] = records(generation(return_state=True))

    assert record["status"] == "processing"
    assert still.predictions.create_requests == 1


@pytest.mark.parametrize("takeover", ["voided", "deleted", "completed"])
def test_a_create_that_was_held_up_too_long_is_not_sent_any_more(
    still: Emulator, eventually: Any, monkeypatch: pytest.MonkeyPatch, takeover: str
) -> None:
    monkeypatch.setattr(intent, "SEND_SECONDS", 0.0)
    still.faults.add("throttled", **CREATE, times=None, retry_after=0)

    @flow
    def generation() -> None:
        future = create_prediction.submit(MODEL, INPUT)
        eventually(lambda: still.requests.matching("POST", "/predictions"))
        call(lambda _: take_over(takeover))
        still.faults.clear()
        future.result()

    with pytest.raises(LedgerError, match="another process has taken this call"):
        generation()
    assert still.predictions.create_requests == 0


async def take_over(how: str) -> None:
    [entry] = (await records_of_runs([UUID(flow_run.id)])).entries
    if how == "deleted":
        await delete_record(entry)
        return
    changes = {"status": VOID} if how == "voided" else {"prediction_id": "anothers"}
    await update_record(entry, entry.record.model_copy(update=changes))


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
