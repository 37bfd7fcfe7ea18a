from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilterKey
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import State

from prefect_replicate import (
    PollPolicy,
    acreate_prediction,
    await_for_prediction,
    cancel_prediction,
    create_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.engine import acall, call
from prefect_replicate.exceptions import APIError, InvalidInputError, LedgerError
from prefect_replicate.ledger import artifacts, store
from prefect_replicate.ledger.artifacts import artifacts_of_type
from prefect_replicate.ledger.record import Record
from prefect_replicate.ledger.scope import RunScope, ancestry_of
from prefect_replicate.ledger.store import add_record, delete_record, records_with_key

pytestmark = pytest.mark.contract
Records = Callable[[State[Any]], list[dict[str, Any]]]
CREATE = {"method": "POST", "path": "/predictions$"}


class Oops(Exception):
    pass


@pytest.mark.smoke
async def test_a_prediction_is_recorded_from_its_intent_to_its_end(
    replicate_emulator: Emulator, records: Records, quick: PollPolicy
) -> None:
    @flow
    async def generation() -> str:
        prediction = await acreate_prediction("emulator/timer", {"seconds": 0.1})
        return (await await_for_prediction(prediction, policy=quick)).id

    state = await generation(return_state=True)

    [record] = await asyncio.to_thread(records, state)
    assert record["prediction_id"] == await state.aresult()
    assert (record["status"], record["model"]) == ("succeeded", "emulator/timer")
    assert record["seconds_billed"] == pytest.approx(0.1)
    assert record["web_url"].endswith(record["prediction_id"])


async def test_a_record_holds_no_input_and_no_token(
    replicate_emulator: Emulator, records: Records
) -> None:
    @flow
    async def generation() -> None:
        await acreate_prediction("emulator/timer", {"prompt": "a private matter"})

    [record] = await asyncio.to_thread(records, await generation(return_state=True))

    assert "private matter" not in str(record)
    assert replicate_emulator.token not in str(record)


async def test_an_intent_is_recorded_before_anything_is_sent(
    replicate_emulator: Emulator, records: Records, impatient: None
) -> None:
    replicate_emulator.faults.add("lost_reply", **CREATE)
    replicate_emulator.faults.add("error_page", path="/v1/predictions$", method="GET", times=None)

    @flow
    async def generation() -> None:
        await acreate_prediction("emulator/timer", {})

    [record] = await asyncio.to_thread(records, await generation(return_state=True))

    assert (record["status"], record["prediction_id"]) == ("intent", None)


async def test_an_intent_without_an_id_is_adopted_by_the_retry(
    still: Emulator,
    records: Records,
    lose_create: Callable[[], None],
    odd_call: tuple[str, dict[str, Any]],
    forget: Callable[..., None],
) -> None:
    lose_create()

    @flow(retries=1)
    async def generation() -> str:
        forget("taken", "entries", "uploads", "occurrences")  # as in another process
        return (await acreate_prediction(*odd_call)).id

    state = await generation(return_state=True)

    [record] = await asyncio.to_thread(records, state)
    assert [one.id for one in still.predictions] == [await state.aresult()]
    assert record["prediction_id"] == await state.aresult()


async def test_equal_calls_that_lose_their_replies_together_adopt_one_each(
    still: Emulator, impatient: None
) -> None:
    still.faults.add("lost_reply", **CREATE, times=3)

    @flow
    async def generation() -> list[str]:
        calls = [acreate_prediction("emulator/timer", {"seconds": 60}) for _ in range(3)]
        return [one.id for one in await asyncio.gather(*calls)]

    assert sorted(await generation()) == sorted(one.id for one in still.predictions)
    assert still.predictions.create_requests == 3


@pytest.mark.parametrize(
    ("asked", "fault", "error", "said"),
    [
        ({"seconds": "soon"}, None, InvalidInputError, "seconds"),
        ({}, "insufficient_credit", APIError, "credit"),
    ],
)
async def test_a_create_that_was_refused_leaves_nothing_to_look_for(
    replicate_emulator: Emulator,
    records: Records,
    asked: dict[str, Any],
    fault: Any,
    error: type[Exception],
    said: str,
) -> None:
    if fault:
        replicate_emulator.faults.add(fault, **CREATE)

    @flow
    async def generation() -> None:
        with pytest.raises(error, match=said):
            await acreate_prediction("emulator/timer", asked)

    [record] = await asyncio.to_thread(records, await generation(return_state=True))

    assert record["status"] == "void"


async def test_nothing_is_paid_where_the_ledger_cannot_be_written(
    replicate_emulator: Emulator, no_prefect_api: str
) -> None:
    @flow
    async def generation() -> None:
        with temporary_settings({PREFECT_API_URL: no_prefect_api}):
            await acreate_prediction.fn("emulator/timer", {})

    with pytest.raises(LedgerError, match=r"^Prefect's API could not [^\n]*$"):
        await generation()
    assert replicate_emulator.predictions.create_requests == 0


async def test_a_task_without_a_flow_is_recorded_too(still: Emulator) -> None:
    seen: list[str] = []

    @task(retries=1)
    async def generate() -> None:
        seen.append((await acreate_prediction.fn("emulator/timer", {"seconds": 60})).id)
        if len(seen) == 1:
            raise Oops

    await generate()

    assert seen == [one.id for one in still.predictions] * 2


@pytest.mark.smoke
def test_a_cancel_is_recorded(still: Emulator, records: Records) -> None:
    @flow
    def generation() -> None:
        cancel_prediction(create_prediction("emulator/timer", {"seconds": 60}))

    [record] = records(generation(return_state=True))

    assert record["status"] == "canceled"


async def test_a_lost_result_is_worse_than_a_record_that_is_behind(
    replicate_emulator: Emulator,
    quick: PollPolicy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    request = PrefectClient.request

    async def changes_nothing(client: PrefectClient, method: Any, *args: Any, **more: Any) -> Any:
        if method == "PATCH":
            raise PrefectException("503 Service Unavailable")
        return await request(client, method, *args, **more)

    @flow
    async def generation() -> bool:
        monkeypatch.setattr(PrefectClient, "request", changes_nothing)
        prediction = await acreate_prediction("emulator/timer", {})
        return (await await_for_prediction(prediction, policy=quick)).is_succeeded

    assert await generation()
    assert "Prefect's API could not record that prediction" in caplog.text


def test_a_run_around_that_cannot_be_read_is_an_error_of_ours() -> None:
    unknown = RunScope(flow_run_id=uuid4())

    with pytest.raises(LedgerError, match="could not read the run around a subflow run"):
        call(lambda _: ancestry_of(unknown))


def a_record(key: str) -> Record:
    return Record(
        key=key,
        call="c",
        model="emulator/timer",
        input_digest=None,
        intent_at=datetime.now(timezone.utc),
        cancel_after=60,
        base_url="http://127.0.0.1",
    )


async def test_calls_that_are_made_together_are_looked_up_together(
    still: Emulator, ledger_requests: list[str]
) -> None:
    @flow
    async def generation() -> None:
        calls = [acreate_prediction.fn("emulator/timer", {"seed": one}) for one in range(50)]
        await asyncio.gather(*calls)

    await generation()

    assert ledger_requests.count("POST filter") <= 25
    assert still.predictions.create_requests == 50


async def test_each_of_many_keys_gets_its_own_records(
    ledger_requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_KEYS_A_READ", 4)
    keys = [f"replicate-{uuid4()}" for _ in range(10)]

    async def read(_: Any) -> list[list[str]]:
        await asyncio.gather(*(add_record(a_record(key), RunScope()) for key in keys[::2]))
        found = await asyncio.gather(*(records_with_key(key) for key in keys))
        return [[entry.record.key for entry in entries] for entries in found]

    assert await acall(read) == [[key] if key in keys[::2] else [] for key in keys]
    assert ledger_requests.count("POST filter") == 3


async def test_a_read_that_is_under_way_serves_nobody_who_comes_later(
    ledger_requests: list[str],
) -> None:
    key = f"replicate-{uuid4()}"

    async def read(_: Any) -> int:
        first = asyncio.create_task(records_with_key(key))
        for _ in range(3):  # loop turns: it asks for the read, which begins
            await asyncio.sleep(0)
        later = asyncio.create_task(records_with_key(key))
        await asyncio.gather(first, later)
        return ledger_requests.count("POST filter")

    assert await acall(read) == 2


async def test_no_record_is_missed_where_others_are_deleted_while_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(artifacts, "PAGE", 5)
    key = f"replicate-{uuid4()}"

    async def read(_: Any) -> set[UUID]:
        made = await asyncio.gather(*(add_record(a_record(key), RunScope()) for _ in range(7)))
        left = {entry.artifact_id for entry in made}
        chosen = ArtifactFilterKey(any_=[key])
        async for artifact in artifacts_of_type("replicate-prediction", key=chosen):
            left.remove(artifact.id)
            if len(left) == 2:
                await delete_record(next(one for one in made if one.artifact_id not in left))
        return left

    assert not await acall(read)


async def test_who_is_canceled_leaves_the_read_to_the_others() -> None:
    key = f"replicate-{uuid4()}"

    async def read(_: Any) -> int:
        await add_record(a_record(key), RunScope())
        first, other = (asyncio.create_task(records_with_key(key)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return len(await other)

    assert await acall(read) == 1


async def test_a_read_that_fails_fails_for_all_who_wanted_it(no_prefect_api: str) -> None:
    async def read(_: Any) -> list[Any]:
        calls = (records_with_key(f"replicate-{one}") for one in range(3))
        return await asyncio.gather(*calls, return_exceptions=True)

    with temporary_settings({PREFECT_API_URL: no_prefect_api}):
        errors = await acall(read)

    assert [type(error) for error in errors] == [LedgerError] * 3
