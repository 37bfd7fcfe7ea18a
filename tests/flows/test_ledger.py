from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client, tags, task
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import State

from prefect_replicate import (
    PollPolicy,
    acancel_prediction,
    acreate_prediction,
    await_for_prediction,
    cancel_prediction,
    create_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.engine import acall, call, process_state
from prefect_replicate.exceptions import APIError, InvalidInputError, LedgerError
from prefect_replicate.ledger import ledger, log, scope
from prefect_replicate.ledger.facts import Claim, Intent, Origin
from prefect_replicate.ledger.ledger import Ledger, ledger_of
from prefect_replicate.ledger.scope import RunScope, ancestry_of

pytestmark = pytest.mark.contract
Records = Callable[[State[Any]], list[dict[str, Any]]]
NOW = datetime.now(timezone.utc)
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
    assert record["predict_time"] == pytest.approx(0.1)
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
        forget("taken", "ledgers", "uploads", "process")  # as in another process
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
            await acreate_prediction("emulator/timer", asked, check_input=False)

    [record] = await asyncio.to_thread(records, await generation(return_state=True))

    assert record["status"] == "void"


async def test_nothing_is_paid_where_the_ledger_cannot_be_written(
    replicate_emulator: Emulator, no_prefect_api: str
) -> None:
    @flow
    async def generation() -> None:
        with temporary_settings({PREFECT_API_URL: no_prefect_api}):
            await acreate_prediction.fn("emulator/timer", {})

    with pytest.raises(
        LedgerError,
        match=r"^Prefect's API could not [^\n]*; check that the server"
        r" is running, and that PREFECT_API_URL is its address \(http://127\.0\.0\.1:1/api\)$",
    ):
        await generation()
    assert replicate_emulator.predictions.create_requests == 0


async def test_a_task_without_a_flow_continues_with_its_prediction_too(still: Emulator) -> None:
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
        if ("/input" in str(args) and '"made"' in str(more)) or '"ended"' in str(more):
            raise PrefectException("503 Service Unavailable")
        return await request(client, method, *args, **more)

    @flow
    async def generation() -> bool:
        monkeypatch.setattr(PrefectClient, "request", changes_nothing)
        prediction = await acreate_prediction("emulator/timer", {})
        return (await await_for_prediction(prediction, policy=quick)).is_succeeded

    assert await generation()
    assert "Prefect's API could not record" in caplog.text


def test_a_run_around_that_cannot_be_read_is_an_error_of_ours() -> None:
    unknown = RunScope(flow_run_id=uuid4())

    with pytest.raises(LedgerError, match="could not read the parent of a subflow run"):
        call(lambda _: ancestry_of(unknown))


@pytest.mark.contract
async def test_a_generation_takes_three_requests_to_prefect_and_one_for_its_run(
    replicate_emulator: Emulator, quick: PollPolicy, ledger_requests: list[str]
) -> None:
    @flow
    async def generation() -> None:
        for seconds in (0.1, 0.2):
            prediction = await acreate_prediction.fn("emulator/timer", {"seconds": seconds})
            await await_for_prediction.fn(prediction, policy=quick)

    await generation()

    assert ledger_requests.count("POST input") == 6
    assert len([one for one in ledger_requests if one.startswith("PATCH")]) == 1
    assert len(ledger_requests) == 7


@pytest.mark.contract
@pytest.mark.parametrize("forgotten", [(), ("ledgers",)], ids=["same process", "another"])
async def test_a_retry_that_continues_takes_two_at_most(
    still: Emulator, ledger_requests: list[str], forget: Callable[..., None], forgotten: Any
) -> None:
    calls = 5

    @flow(retries=1)
    async def generation() -> None:
        forget(*forgotten)
        ledger_requests.clear()
        for number in range(calls):
            await acreate_prediction.fn("emulator/timer", {"seconds": 60, "seed": number})
        if still.predictions.create_requests == calls and not attempts:
            attempts.append(1)
            raise Oops

    attempts: list[int] = []
    await generation()

    of_the_attempt = 2  # how its run stands, and what states it has had
    assert len(ledger_requests) - of_the_attempt <= 2 * calls
    assert still.predictions.create_requests == calls


async def test_the_run_is_tagged_for_people_and_for_sweeps(still: Emulator) -> None:
    @flow
    async def generation() -> None:
        await acreate_prediction("emulator/timer", {})

    with tags("mine"):
        state = await generation(return_state=True)

    async with get_client() as client:
        assert state.state_details.flow_run_id is not None
        run = await client.read_flow_run(state.state_details.flow_run_id)
    assert set(run.tags) == {"mine", "replicate", "replicate-open"}


@pytest.mark.parametrize("value", ["{}", "no JSON", '{"version": 2, "id": "a", "process": "b"}'])
async def test_a_fact_that_cannot_be_read_stops_the_call_that_it_belongs_to_alone(
    still: Emulator, value: str
) -> None:
    @flow(retries=1)
    async def generation() -> None:
        if not attempts:
            attempts.append(1)
            await acreate_prediction("emulator/timer", {"seconds": 60})
            [log] = (await acall(lambda _: ledger_of(RunScope.current()))).all
            async with get_client() as client:
                key = f"replicate-{log.name}-{log.next}"
                await client.create_flow_run_input(UUID(flow_run.id), key, value)
            raise Oops
        await acreate_prediction("emulator/timer", {"seconds": 61})
        with pytest.raises(LedgerError, match=r"^The input replicate-\S+ of flow run .* can't be"):
            await acreate_prediction("emulator/timer", {"seconds": 60})

    attempts: list[int] = []
    await generation()

    assert still.predictions.create_requests == 2


@pytest.mark.contract
async def test_of_many_who_write_the_same_fact_one_does(still: Emulator) -> None:
    @flow
    async def generation() -> list[bool]:
        ledgers = [Ledger(UUID(flow_run.id)) for _ in range(20)]
        claim = Claim("1", "x")
        logs = [await one.choose(claim, "c", is_retry=False) for one in ledgers]
        intent = Intent(call="c", model="a/b", input_digest={}, at=NOW, cancel_after=5)

        async def write(_: Any) -> list[bool]:
            origin = Origin(base_url="https://x.org")
            writes = [log.write(0, origin=origin, intent=intent) for log in logs]
            return await asyncio.gather(*writes)

        return await acall(write)

    assert sorted(await generation()) == [False] * 19 + [True]


async def test_what_runs_are_over_is_let_go(still: Emulator, forget: Callable[..., None]) -> None:
    @flow
    async def generation() -> None:
        await acreate_prediction.fn("emulator/timer", {})

    forget("ledgers")
    for _ in range(40):
        await generation()
    gc.collect()  # the contexts of runs are parts of cycles
    await generation()

    assert len(await acall(known_ledgers)) <= 33


async def test_of_what_is_over_less_is_kept_the_more_there_is(
    still: Emulator, forget: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    @flow
    async def generation() -> None:
        for seconds in (60, 61):
            await acreate_prediction.fn("emulator/timer", {"seconds": seconds})

    monkeypatch.setattr(ledger, "_KEPT_LOGS", 3)
    forget("ledgers")
    for _ in range(10):
        await generation()
    gc.collect()
    await generation()

    assert len(await acall(known_ledgers)) <= 4


async def known_ledgers(_: Any) -> list[Any]:
    return list(process_state("ledgers", dict))


@flow
async def child() -> int:
    here = RunScope.current()
    await acreate_prediction.fn("emulator/timer", {"seconds": 60})
    ancestry = await acall(lambda _: ancestry_of(here))
    assert ancestry is not None
    return len(here.levels) * 10 + len(ancestry.flow_runs)


@flow(retries=1)
async def parent() -> int:
    found = await child()
    if Counter(attempts)[flow_run.id] == 0:
        attempts.append(flow_run.id)
        raise Oops
    return found


attempts: list[Any] = []


@pytest.mark.contract
async def test_prefect_still_shows_the_runs_around_a_run(still: Emulator) -> None:
    """If it does not, the API has to be asked for them in each subflow."""
    assert await parent() == 22
    assert still.predictions.create_requests == 1


async def test_where_prefect_hides_the_runs_around_a_run_its_api_is_asked(
    still: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scope, "_enclosing", lambda context: iter([context] if context else []))

    assert await parent() == 12
    assert still.predictions.create_requests == 1


async def test_a_fact_that_is_read_before_its_reply_has_come_counts_once(
    still: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = log._put

    async def read_meanwhile(root: UUID, name: str, fact: Any) -> bool:
        is_there = await put(root, name, fact)
        await (await ledger_of(RunScope(root))).read()
        return is_there

    @flow
    async def generation() -> list[int]:
        prediction = await acreate_prediction.fn("emulator/timer", {"seconds": 60})
        await acancel_prediction.fn(prediction)
        here = RunScope.current()
        return [one.next for one in (await acall(lambda _: ledger_of(here))).all]

    monkeypatch.setattr(log, "_put", read_meanwhile)

    assert await generation() == [3]  # announced, made, canceled
