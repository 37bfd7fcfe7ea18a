"""The sweep for predictions that no flow run waits for, on a real ledger and a local Replicate."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from held import Hold
from prefect import flow, get_client
from prefect.client.schemas.objects import StateType
from prefect.events import Event
from prefect.events.clients import get_events_client
from prefect.flow_engine import run_flow_async
from prefect.states import AwaitingRetry, Crashed, Pending, Running, State, Suspended

from prefect_replicate import (
    PollPolicy,
    ReplicateCredentials,
    acancel_orphaned_predictions,
    acreate_prediction,
    await_for_prediction,
    cancel_orphaned_predictions,
)
from prefect_replicate.cleanup import orphans
from prefect_replicate.cleanup import sweep as sweep_of_package
from prefect_replicate.cleanup.orphans import Thresholds, silent_runs
from prefect_replicate.emulator import Emulator
from prefect_replicate.engine import acall
from prefect_replicate.exceptions import LedgerError, ReplicateError
from prefect_replicate.ledger import flow_runs, ledger
from prefect_replicate.ledger.facts import input_digest
from prefect_replicate.ledger.flow_runs import FlowRunSeen, last_heartbeats
from prefect_replicate.ledger.ledger import Ledger
from prefect_replicate.ledger.log import OwnLog
from prefect_replicate.values import Orphan

MODEL, INPUT = "emulator/timer", {"seconds": 1000}
Artifacts = Callable[..., list[Any]]
Records = Callable[[State[Any]], list[dict[str, Any]]]
T = TypeVar("T")
LostGeneration = Callable[..., Awaitable[State[Any]]]


pytestmark = pytest.mark.usefixtures("own_ledger")


@pytest.fixture(autouse=True)
def _old_intents(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """An intent counts as abandoned at once."""
    monkeypatch.setattr(orphans, "ABANDONED_SECONDS", 0.0)


@flow
async def generation(model: str = MODEL, input: dict[str, Any] = INPUT) -> str:
    """Starts a prediction, and has no hooks."""
    return (await acreate_prediction(model, input)).id


async def crashed_generation() -> State[str]:
    state: State[str] = await generation(return_state=True)
    await set_state(state, Crashed())
    return state


async def set_state(state: State[Any], to: State[Any]) -> None:
    async with get_client() as client:
        await client.set_flow_run_state(run_of(state), to, force=True)


def run_of(state: State[Any]) -> UUID:
    assert state.state_details.flow_run_id is not None
    return state.state_details.flow_run_id


async def sweep(**options: Any) -> list[Orphan]:
    return await acancel_orphaned_predictions(**{"grace": 0.0, **options})


@pytest.mark.contract
async def test_what_a_crashed_run_has_left_is_canceled_and_recorded(
    still: Emulator, records: Records
) -> None:
    state = await crashed_generation()

    [orphan] = await sweep()

    [prediction] = still.predictions
    assert (orphan.prediction_id, orphan.outcome) == (prediction.id, "canceled")
    assert orphan.why.startswith("its flow run crashed ")
    assert prediction.status == "canceled"
    [record] = await asyncio.to_thread(records, state)
    assert record["status"] == "canceled"


@pytest.mark.smoke
async def test_the_sync_flow_does_the_same(still: Emulator) -> None:
    await crashed_generation()

    [orphan] = await asyncio.to_thread(cancel_orphaned_predictions, grace=0)

    assert orphan.outcome == "canceled"
    assert still.predictions.live() == []


async def test_how_long_it_ran_and_how_much_that_saved_is_said(still: Emulator) -> None:
    await crashed_generation()
    still.clock.advance(100)
    [prediction] = still.predictions
    assert prediction.deadline is not None

    [orphan] = await sweep()

    assert orphan.seconds_run == pytest.approx(100, abs=2)
    assert orphan.seconds_saved == pytest.approx(prediction.deadline - still.clock.now(), abs=2)


@pytest.mark.contract
async def test_what_a_deleted_subflow_has_left_is_canceled(still: Emulator) -> None:
    children: list[State[Any]] = []

    @flow
    async def parent() -> None:
        children.append(await generation(return_state=True))

    await set_state(await parent(return_state=True), Running())
    async with get_client() as client:
        await client.delete_flow_run(run_of(children[0]))

    [orphan] = await sweep()

    assert (orphan.why, orphan.outcome) == ("its flow run was deleted", "canceled")
    assert orphan.flow_run_name is None
    assert still.predictions.live() == []


@pytest.mark.parametrize("state", [Running(), Pending(), AwaitingRetry(), Suspended()])
async def test_a_run_that_goes_on_or_comes_back_keeps_its_prediction(
    still: Emulator, state: State[Any]
) -> None:
    await set_state(await generation(return_state=True), state)

    assert await sweep() == []
    assert still.predictions.cancel_requests == 0


async def test_a_run_that_has_just_ended_is_left_to_its_hooks(still: Emulator) -> None:
    await crashed_generation()

    assert await sweep(grace=300.0) == []
    assert len(still.predictions.live()) == 1


async def test_what_is_kept_on_a_crash_is_left_alone(still: Emulator) -> None:
    @flow
    async def keeping() -> None:
        await acreate_prediction(MODEL, INPUT, on_crash="keep")

    await set_state(await keeping(return_state=True), Crashed())

    assert await sweep() == []


async def test_other_predictions_of_the_account_are_left_alone(still: Emulator) -> None:
    await acreate_prediction.fn(MODEL, INPUT)  # outside of runs, which leaves no record
    await crashed_generation()

    [orphan] = await sweep()

    [left] = still.predictions.live()
    assert left.id != orphan.prediction_id
    assert left.cancel_requests == 0


@pytest.mark.contract
async def test_a_subflow_of_a_run_that_has_crashed_is_no_protection(still: Emulator) -> None:
    children: list[State[Any]] = []

    @flow
    async def parent() -> None:
        children.append(await generation(return_state=True))

    state = await parent(return_state=True)
    await set_state(children[0], Running())
    await set_state(state, Crashed())

    [orphan] = await sweep()

    assert orphan.why.startswith("a parent flow run crashed ")
    assert still.predictions.live() == []


async def test_a_second_run_that_waits_protects_the_prediction_of_the_first(
    still: Emulator, quick: PollPolicy
) -> None:
    @flow
    async def waiting(prediction_id: str) -> None:
        await await_for_prediction(prediction_id, policy=quick)

    await crashed_generation()
    [prediction] = still.predictions
    wait = asyncio.create_task(waiting(prediction.id, return_state=True))
    await until(lambda: are_tagged(2))

    assert await sweep() == []

    still.clock.advance(1000)
    assert (await wait).is_completed()


async def test_a_run_that_comes_back_in_the_last_moment_keeps_its_prediction(
    still: Emulator, hold: Hold
) -> None:
    state = await crashed_generation()
    [prediction] = still.predictions
    hold.first("reply", f"/predictions/{prediction.id}")

    sweeping = asyncio.create_task(sweep())
    assert await asyncio.to_thread(hold.is_held.wait, 20)
    await set_state(state, Running())
    hold.let_go.set()

    [orphan] = await sweeping
    assert (orphan.outcome, orphan.seconds_saved) == ("left", 0.0)
    assert still.predictions.cancel_requests == 0


async def test_a_record_that_is_behind_is_brought_up_to_date(
    still: Emulator, records: Records
) -> None:
    state = await crashed_generation()
    still.clock.advance(1000)

    [orphan] = await sweep()

    assert (orphan.outcome, orphan.seconds_saved) == ("ended", 0.0)
    assert still.predictions.cancel_requests == 0
    [record] = await asyncio.to_thread(records, state)
    assert (record["status"], record["predict_time"]) == ("succeeded", 1000)
    assert await sweep() == []


async def test_a_dry_run_says_what_it_would_do_and_changes_nothing(
    still: Emulator, records: Records
) -> None:
    state = await crashed_generation()
    before = await asyncio.to_thread(records, state)

    [orphan] = await sweep(dry_run=True)

    assert (orphan.outcome, orphan.seconds_saved > 0) == ("found", True)
    assert still.predictions.cancel_requests == 0
    assert await asyncio.to_thread(records, state) == before


@pytest.fixture
def lost_generation(lose_create: Callable[[], None]) -> LostGeneration:
    """A run that has failed between its create and the recording of the id."""

    async def lost_generation(model: str = MODEL, input: dict[str, Any] = INPUT) -> State[Any]:
        lose_create()
        state = await generation(model, input, return_state=True)
        assert state.is_failed()
        return state

    return lost_generation


async def test_a_create_whose_id_was_not_recorded_is_found_and_canceled(
    still: Emulator,
    lost_generation: LostGeneration,
    odd_call: tuple[str, dict[str, Any]],
    records: Records,
) -> None:
    state = await lost_generation(*odd_call)

    [dry] = await sweep(dry_run=True)
    [orphan] = await sweep()

    [prediction] = still.predictions
    assert (dry.prediction_id, dry.outcome) == (prediction.id, "found")
    assert (orphan.prediction_id, orphan.outcome) == (prediction.id, "canceled")
    [record] = await asyncio.to_thread(records, state)
    assert (record["status"], record["prediction_id"]) == ("canceled", prediction.id)


async def test_equal_creates_whose_ids_were_not_recorded_are_all_canceled(
    still: Emulator, lost_generation: LostGeneration
) -> None:
    for _ in range(3):
        await lost_generation()

    found = await sweep()

    assert {one.prediction_id for one in found} == {one.id for one in still.predictions}
    assert still.predictions.live() == []


async def test_what_an_equal_call_has_recorded_is_not_taken_for_a_lost_one(
    still: Emulator, lost_generation: LostGeneration
) -> None:
    await lost_generation()
    still.clock.advance(1)
    await set_state(await generation(return_state=True), Running())
    lost, going_on = sorted(still.predictions, key=lambda one: one.created_at)

    [orphan] = await sweep()

    assert orphan.prediction_id == lost.id
    assert [one.id for one in still.predictions.live()] == [going_on.id]


async def test_what_may_be_the_prediction_of_an_equal_call_is_left_alone(
    still: Emulator, lost_generation: LostGeneration
) -> None:
    await lost_generation()
    await set_state(await lost_generation(), Running())

    [orphan] = await sweep()

    assert orphan.outcome == "left"
    assert len(still.predictions.live()) == 2


async def never_sent() -> State[Any]:
    """A run that has died after it had announced a create."""
    state = await crashed_generation()

    async def announce(_: Any) -> None:
        [log] = await logs_of(run_of(state))
        known = log.generation
        assert known is not None
        digest = {"input_digest": input_digest({"seconds": 6})}
        await log.note(origin=known.origin, intent=known.intent.model_copy(update=digest))

    await acall(announce)
    return state


async def test_a_create_that_was_never_sent_is_recorded_as_void(
    still: Emulator, records: Records
) -> None:
    state = await never_sent()
    await acreate_prediction.fn(MODEL, {"seconds": 5})

    [dry] = await sweep(dry_run=True)
    [orphan] = await sweep()

    assert (dry.outcome, orphan.outcome, orphan.prediction_id) == ("void", "void", None)
    [record] = await asyncio.to_thread(records, state)
    assert record["status"] == "void"
    assert still.predictions.cancel_requests == 0
    assert await sweep() == []


async def test_an_equal_prediction_made_much_later_is_not_that_of_a_lost_create(
    still: Emulator,
) -> None:
    await never_sent()
    still.clock.advance(600)
    later = await acreate_prediction.fn(MODEL, {"seconds": 6})

    [orphan] = await sweep()

    assert (orphan.outcome, orphan.prediction_id) == ("void", None)
    assert still.predictions[later.id].cancel_requests == 0


async def write_input(state: State[Any], key: str, value: str) -> None:
    async with get_client() as client:
        await client.create_flow_run_input(run_of(state), key, value)


async def test_a_fact_that_cannot_be_understood_is_skipped_and_said(
    still: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    state = await crashed_generation()
    await write_input(state, "replicate-0123-1-0", '{"version": 9}')

    [orphan] = await sweep()

    assert orphan.outcome == "canceled"
    assert caplog.text.count("1 record can't be understood") == 1


async def test_the_prediction_of_a_fact_that_cannot_be_understood_is_left_alone(
    still: Emulator,
) -> None:
    state = await crashed_generation()
    [prediction] = still.predictions
    value = json.dumps({"version": 9, "made": {"id": prediction.id}})
    await write_input(state, "replicate-0123-1-0", value)

    assert await sweep() == []
    assert len(still.predictions.live()) == 1


@pytest.mark.contract
async def test_a_run_that_is_settled_is_read_no_more_until_it_is_retried(
    still: Emulator, ledger_requests: list[str]
) -> None:
    @flow
    async def twice() -> None:
        await acreate_prediction(MODEL, INPUT)
        if len(still.predictions) == 1:
            raise RuntimeError

    state = await twice(return_state=True)
    await sweep()
    await sweep()  # it takes the run off the list, of which nothing is open any more
    ledger_requests.clear()

    assert await sweep() == []
    assert "POST filter" not in ledger_requests or ledger_requests.count("POST filter") <= 4
    async with get_client() as client:
        run = await client.read_flow_run(run_of(state))
        assert [tag for tag in run.tags if tag.startswith("OPEN_TAG")] == []
        await client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
        await run_flow_async(twice, flow_run=await client.read_flow_run(run.id))
        run = await client.read_flow_run(run.id)
    assert len([tag for tag in run.tags if tag.startswith("OPEN_TAG")]) == 1
    assert len(still.predictions.live()) == 1


async def test_many_are_canceled_in_groups(
    still: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_of_package, "AT_ONCE", 3)

    @flow
    async def many() -> None:
        calls = (acreate_prediction.fn(MODEL, {"seconds": 1000 + one}) for one in range(7))
        await asyncio.gather(*calls)

    await set_state(await many(return_state=True), Crashed())

    found = await sweep()

    assert [one.outcome for one in found] == ["canceled"] * 7
    assert still.predictions.cancel_requests == 7


async def test_one_that_cannot_be_handled_does_not_stop_the_others(
    still: Emulator, impatient: None, artifacts: Artifacts
) -> None:
    await crashed_generation()
    [other] = still.predictions
    await crashed_generation()
    path = f"/predictions/{other.id}/cancel$"
    still.faults.add("error_page", method="POST", path=path, times=None)

    state = await acancel_orphaned_predictions(grace=0, return_state=True)

    assert [one.id for one in still.predictions.live()] == [other.id]
    with pytest.raises(ReplicateError, match=r"^1 of 2 orphaned .*; \w+ of emulator/timer: .*502"):
        await state.aresult()
    rows = await asyncio.to_thread(table, artifacts, state)
    assert sorted(row["done"][:11] for row in rows) == ["canceled", "not handled"]


async def test_without_a_token_the_flow_fails_and_says_so(
    still: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await crashed_generation()
    monkeypatch.delenv("REPLICATE_API_TOKEN")

    with pytest.raises(ReplicateError, match="There is no Replicate API token"):
        await sweep()


async def test_an_account_can_be_given(still: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    await crashed_generation()
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    monkeypatch.delenv("REPLICATE_BASE_URL")
    account = ReplicateCredentials(api_token=still.token, base_url=still.base_url)

    [orphan] = await sweep(credentials=account)

    assert orphan.outcome == "canceled"


async def test_the_account_given_is_not_sent_where_a_record_says(
    still: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await crashed_generation()
    account = ReplicateCredentials(api_token="r8_of_another", base_url="http://127.0.0.1:1")

    with pytest.raises(ReplicateError, match=r"this process's token is for http://127\.0\.0\.1:1"):
        await sweep(credentials=account)

    assert not [one for one in still.requests if "r8_of_another" in str(one.headers)]


async def test_a_saved_block_is_the_account_of_what_was_made_with_it(
    still: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = ReplicateCredentials(api_token=still.token, base_url=still.base_url)
    await account.asave("account-of-orphan", overwrite=True)

    @flow
    async def with_account() -> None:
        await acreate_prediction(MODEL, INPUT, account)

    await set_state(await with_account(return_state=True), Crashed())
    monkeypatch.delenv("REPLICATE_API_TOKEN")

    [orphan] = await sweep()

    assert orphan.outcome == "canceled"


@pytest.mark.contract
async def test_a_running_run_whose_heartbeat_has_stopped_is_dead(still: Emulator) -> None:
    state = await generation(return_state=True)
    await set_state(state, Running())
    await emit("prefect.flow-run.heartbeat", run_of(state), datetime.now(timezone.utc))

    assert await sweep(dry_run=True) == []
    await until(lambda: sweep(dry_run=True, silence=0.9))
    [orphan] = await sweep(silence=0.9)

    assert orphan.why.startswith("its flow run sent its last heartbeat ")
    assert (orphan.outcome, still.predictions.live()) == ("canceled", [])


@pytest.mark.contract
async def test_a_heartbeat_counts_from_when_it_came_whatever_the_clock_of_its_machine() -> None:
    began = datetime.now(timezone.utc)
    behind, ahead = uuid4(), uuid4()

    await emit("prefect.flow-run.heartbeat", behind, began - timedelta(hours=2))
    await emit("prefect.flow-run.heartbeat", ahead, began + timedelta(hours=2))

    for flow_run_id in (behind, ahead):
        heard = await until(lambda run=flow_run_id: heartbeat_of(run))
        assert began <= heard <= datetime.now(timezone.utc)


@pytest.mark.contract
async def test_silence_is_no_sign_of_death_while_the_server_was_away() -> None:
    async def is_in_doubt() -> bool:
        flow_run_id = uuid4()
        await emit("prefect.flow-run.heartbeat", flow_run_id, datetime.now(timezone.utc))
        heard = await until(lambda: heartbeat_of(flow_run_id))
        # Made while the server was away, and sent when it was back.
        await asyncio.sleep(0.06)
        await emit("something.else", uuid4(), heard + timedelta(seconds=0.03))
        runs = {flow_run_id: FlowRunSeen("a run", StateType.RUNNING, heard)}
        patience = Thresholds(heard + timedelta(seconds=0.061), grace=0, silence=0.06)
        try:
            await acall(lambda _: silent_runs(runs, patience))
        except LedgerError as exc:
            return "1 flow run has sent no heartbeat for 0 s, but Prefect's server rec" in str(exc)
        return False

    await until(is_in_doubt)  # now and then, the server hears a run of another test


async def heartbeat_of(flow_run_id: UUID) -> datetime | None:
    day = datetime.now(timezone.utc) - timedelta(days=1)
    return (await acall(lambda _: last_heartbeats([flow_run_id], day))).get(flow_run_id)


async def emit(name: str, flow_run_id: UUID, occurred: datetime) -> None:
    resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}"}
    event = Event.model_validate(
        {"event": name, "resource": resource, "occurred": occurred, "id": uuid4()}
    )
    async with get_events_client() as client:
        await client.emit(event)


async def test_open_predictions_of_running_flow_runs_are_counted_with_when_those_are_dead(
    still: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    await crashed_generation()
    for _ in range(2):
        await set_state(await generation(return_state=True), Running())

    assert len(await sweep(silence=540.0)) == 1

    assert (
        "2 open predictions of running flow runs are left alone: such a run counts as dead 9 min"
        " after its last heartbeat." in caplog.messages
    )


async def test_a_table_shows_what_was_found_and_done(still: Emulator, artifacts: Artifacts) -> None:
    generated = await crashed_generation()
    still.clock.advance(100)

    state = await acancel_orphaned_predictions(grace=0, return_state=True)

    [row] = await asyncio.to_thread(table, artifacts, state)
    [prediction] = still.predictions
    assert row["prediction"].startswith(f"[{prediction.id}](http")
    assert (row["model"], row["done"], row["ran (s)"]) == (MODEL, "canceled", "100")
    assert f"/runs/flow-run/{run_of(generated)})" in row["flow run"]
    [artifact] = await asyncio.to_thread(artifacts, state, "table")
    assert artifact.key == "orphaned-predictions"
    assert re.match(
        r"1 orphaned prediction: 1 canceled\. Up to [\d,]+ s saved\.", artifact.description
    )


async def test_where_there_is_no_orphan_the_table_is_empty(
    still: Emulator, artifacts: Artifacts
) -> None:
    state = await acancel_orphaned_predictions(return_state=True)

    [artifact] = await asyncio.to_thread(artifacts, state, "table")
    assert (artifact.data, artifact.description) == ("[]", "No orphaned predictions.")


def table(artifacts: Artifacts, state: State[Any]) -> list[dict[str, Any]]:
    [artifact] = artifacts(state, "table")
    return json.loads(artifact.data)


async def logs_of(flow_run_id: UUID) -> list[OwnLog]:
    ledger = Ledger(flow_run_id)
    await ledger.read()
    return ledger.all


async def are_tagged(count: int) -> bool:
    since = datetime.now(timezone.utc) - timedelta(hours=1)
    found = await acall(lambda _: ledger.ledgers_since(since, flow_runs.OPEN_TAG))
    return sum(bool(ledger.all) for _, ledger in found) == count


async def until(is_so: Callable[[], Awaitable[T | None]]) -> T:
    give_up = time.monotonic() + 60
    while not (outcome := await is_so()):
        assert time.monotonic() < give_up
        await asyncio.sleep(0.05)
    return outcome
