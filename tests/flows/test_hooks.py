"""State hooks, which go by the ledger; the deaths of real processes are in tests/deployments."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any
from uuid import UUID

import pytest
from held import Hold
from prefect import flow, get_client, task
from prefect.client.schemas.objects import StateType
from prefect.deployments import arun_deployment
from prefect.flow_engine import run_flow_async
from prefect.runtime import flow_run
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Running, State

from prefect_replicate import (
    PollPolicy,
    ReplicateCredentials,
    ReplicateModel,
    acreate_prediction,
    await_for_prediction,
    cancel_predictions,
    create_prediction,
    wait_for_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import (
    InvalidInputError,
    PredictionCanceledError,
    RunEndedError,
)
from prefect_replicate.lifecycle import run_watch

INPUT = {"seconds": 1000}
HOOKS: dict[str, Any] = {
    "on_cancellation": [cancel_predictions],
    "on_crashed": [cancel_predictions],
    "on_failure": [cancel_predictions],
}


class Oops(Exception):
    pass


def statuses(emulator: Emulator) -> set[str]:
    return {one.status for one in emulator.predictions}


@pytest.mark.smoke
async def test_a_flow_that_fails_leaves_nothing_running(still: Emulator) -> None:
    @flow(**HOOKS)
    async def generation() -> None:
        await asyncio.gather(*(acreate_prediction("emulator/timer", INPUT) for _ in range(3)))
        raise Oops

    await generation(return_state=True)

    assert statuses(still) == {"canceled"}
    assert still.predictions.create_requests == 3


async def test_what_was_started_outside_of_tasks_is_canceled_too(still: Emulator) -> None:
    @flow(**HOOKS)
    async def generation() -> None:
        await ReplicateModel(model="emulator/timer").atrigger(INPUT)
        raise Oops

    await generation(return_state=True)

    assert statuses(still) == {"canceled"}


async def test_a_flow_that_succeeds_is_left_alone(still: Emulator) -> None:
    @flow(**HOOKS)
    async def generation() -> None:
        await acreate_prediction("emulator/timer", INPUT)

    await generation()

    assert statuses(still) == {"processing"}


@pytest.mark.contract
async def test_predictions_of_subflows_are_canceled_too(still: Emulator) -> None:
    @flow
    async def child() -> None:
        await acreate_prediction("emulator/timer", INPUT)

    @flow(**HOOKS)
    async def parent() -> None:
        await child()
        raise Oops

    await parent(return_state=True)

    assert statuses(still) == {"canceled"}


async def test_a_create_whose_id_was_not_recorded_is_found_and_canceled(
    still: Emulator, lose_create: Callable[[], None], odd_call: tuple[str, dict[str, Any]]
) -> None:
    lose_create()

    @flow(**HOOKS)
    async def generation() -> None:
        await acreate_prediction(*odd_call)

    state = await generation(return_state=True)

    assert state.is_failed()
    assert statuses(still) == {"canceled"}


async def test_lost_creates_that_differ_in_a_secret_alone_are_all_canceled(
    still: Emulator, impatient: None
) -> None:
    still.faults.add("lost_reply", method="POST", path="/predictions$", times=2)
    still.faults.add("error_page", method="GET", path="/v1/predictions$", times=2)

    @flow(**HOOKS)
    async def generation() -> None:
        calls = [acreate_prediction("emulator/timer", {**INPUT, "key": key}) for key in "ab"]
        await asyncio.gather(*calls, return_exceptions=True)
        raise Oops

    await generation(return_state=True)

    assert len(still.predictions) == 2
    assert statuses(still) == {"canceled"}


@pytest.mark.parametrize("held", ["request", "reply"])
@pytest.mark.contract
def test_a_create_that_is_under_way_when_its_run_fails_leaves_nothing_running(
    still: Emulator,
    hold: Hold,
    impatient: None,
    eventually: Any,
    records: Callable[[State[Any]], list[dict[str, Any]]],
    held: Any,
) -> None:
    hold.first(held, "/predictions")

    # Prefect runs the hooks before it waits for the task.
    @flow(on_failure=[cancel_predictions, lambda *_: hold.let_go.set()])
    def generation() -> None:
        create_prediction.submit("emulator/timer", INPUT)
        assert hold.is_held.wait(20)
        raise Oops

    state = generation(return_state=True)

    eventually(lambda: statuses(still) == {"canceled"})
    assert still.predictions.create_requests == 1
    eventually(lambda: [one["status"] for one in records(state)] == ["canceled"])


async def test_what_has_ended_costs_no_cancel(
    replicate_emulator: Emulator, quick: PollPolicy
) -> None:
    @flow(**HOOKS)
    async def generation() -> None:
        await await_for_prediction(await acreate_prediction("emulator/timer", {}), policy=quick)
        raise Oops

    await generation(return_state=True)

    assert replicate_emulator.predictions.cancel_requests == 0


async def test_a_saved_account_is_loaded_by_the_hook(
    still: Emulator, forget: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = ReplicateCredentials(api_token=still.token, base_url=still.base_url)
    await account.asave("account-of-hook", overwrite=True)
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    monkeypatch.delenv("REPLICATE_BASE_URL")

    @flow(**HOOKS)
    async def generation() -> None:
        await acreate_prediction("emulator/timer", INPUT, account)
        forget("ledgers")
        raise Oops

    await generation(return_state=True)

    assert statuses(still) == {"canceled"}


async def test_an_account_that_was_deleted_is_said_by_the_hook(
    still: Emulator, forget: Any, caplog: pytest.LogCaptureFixture
) -> None:
    account = ReplicateCredentials(api_token=still.token, base_url=still.base_url)
    await account.asave("account-that-goes", overwrite=True)

    @flow(**HOOKS)
    async def generation() -> None:
        await acreate_prediction("emulator/timer", INPUT, account)
        forget("ledgers")
        await ReplicateCredentials.adelete("account-that-goes")
        raise Oops

    await generation(return_state=True)

    assert "could not load the credentials block that it was made with" in caplog.text


async def test_a_record_does_not_decide_where_the_environments_token_goes(
    still: Emulator, forget: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    account = ReplicateCredentials(api_token=still.token, base_url=still.base_url)
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_of_the_environment")
    monkeypatch.setenv("REPLICATE_BASE_URL", "http://127.0.0.1:1")

    @flow(**HOOKS)
    async def generation() -> None:
        await acreate_prediction("emulator/timer", INPUT, account)
        forget("ledgers")
        raise Oops

    await generation(return_state=True)

    assert "this process's token is for http://127.0.0.1:1" in caplog.text
    assert not [one for one in still.requests if "r8_of_the" in str(one.headers)]


async def test_a_hook_that_cannot_cancel_says_so_and_does_not_raise(
    still: Emulator, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    still.faults.add("error_page", method="POST", path="/cancel$", times=None)

    @flow(**HOOKS)
    async def generation() -> None:
        await acreate_prediction("emulator/timer", INPUT)
        raise Oops

    state = await generation(return_state=True)

    assert state.is_failed()
    assert "could not be canceled and may run until its deadline" in caplog.text


@pytest.mark.parametrize("of", ["flow", "task"])
async def test_a_timeout_ends_the_prediction(
    still: Emulator, quick: PollPolicy, unhurried: float, of: str
) -> None:
    limit = {"timeout_seconds": unhurried}

    @task(**(limit if of == "task" else {}))
    async def wait(prediction: Any) -> None:
        await await_for_prediction.fn(prediction, policy=quick)

    @flow(**(limit if of == "flow" else {}))
    async def generation() -> None:
        await wait(await acreate_prediction("emulator/timer", INPUT))

    state = await generation(return_state=True)

    assert (state.type, state.name) == (StateType.FAILED, "TimedOut")
    assert statuses(still) == {"canceled"}


@pytest.mark.parametrize("of", ["flow", "task"])
@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_timeout_that_is_retried_keeps_the_prediction(
    still: Emulator, quick: PollPolicy, unhurried: float, of: str, form: str
) -> None:
    limit = {"timeout_seconds": unhurried, "retries": 1}
    of_task, of_flow = (limit, {}) if of == "task" else ({}, limit)
    begun: list[int] = []

    def begin() -> None:
        begun.append(len(still.predictions.live()))
        if len(begun) == 2:
            still.clock.advance(2000)

    @task(**of_task)
    def wait(prediction: Any) -> None:
        begin()
        wait_for_prediction.fn(prediction, policy=quick)

    @task(**of_task)
    async def await_(prediction: Any) -> None:
        begin()
        await await_for_prediction.fn(prediction, policy=quick)

    @flow(**of_flow)
    def generation() -> None:
        wait(create_prediction("emulator/timer", INPUT))

    @flow(**of_flow)
    async def ageneration() -> None:
        await await_(await acreate_prediction("emulator/timer", INPUT))

    run = generation if form == "sync" else lambda **how: asyncio.run(ageneration(**how))
    state = run(return_state=True)

    assert state.is_completed()
    assert begun == [1, 1]
    assert statuses(still) == {"succeeded"}
    assert still.predictions.create_requests == 1


def test_a_timeout_ends_the_prediction_of_a_sync_flow(
    still: Emulator, quick: PollPolicy, unhurried: float
) -> None:
    @flow(timeout_seconds=unhurried)
    def generation() -> None:
        wait_for_prediction(create_prediction("emulator/timer", INPUT), policy=quick)

    state = generation(return_state=True)

    assert state.name == "TimedOut"
    assert statuses(still) == {"canceled"}


@pytest.mark.contract
def test_a_script_that_is_canceled_through_the_api_stops(
    still: Emulator, quick: PollPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_watch, "INTERVAL", 0.1)

    @flow(**HOOKS)
    def generation() -> None:
        future = create_prediction.submit("emulator/timer", INPUT)
        threading.Timer(0.3, _cancel_run, [flow_run.id]).start()
        wait_for_prediction.submit(future.result(), policy=quick).result()

    state = generation(return_state=True)

    assert state.type in {StateType.CANCELLING, StateType.CANCELLED}
    assert statuses(still) == {"canceled"}


@pytest.mark.contract
def test_a_prediction_of_another_run_belongs_to_the_run_that_waits_for_it(
    still: Emulator,
    quick: PollPolicy,
    eventually: Any,
    forget: Callable[..., None],
    records: Callable[[State[Any]], list[dict[str, Any]]],
) -> None:
    @flow
    def starting() -> Any:
        return create_prediction("emulator/timer", INPUT)

    @flow(**HOOKS)
    def waiting(prediction_id: str) -> None:
        wait_for_prediction.submit(prediction_id, policy=quick)
        eventually(lambda: still.requests.matching("GET", prediction_id))
        raise Oops

    prediction = starting()
    forget("ledgers")
    state = waiting(prediction.id, return_state=True)

    [record] = records(state)
    assert (record["prediction_id"], record["status"]) == (prediction.id, "canceled")
    assert statuses(still) == {"canceled"}


def test_a_run_that_waits_for_a_prediction_of_its_subflow_has_a_record_of_its_own(
    still: Emulator, quick: PollPolicy, records: Callable[[State[Any]], list[dict[str, Any]]]
) -> None:
    @flow
    def child() -> Any:
        return create_prediction("emulator/timer", INPUT)

    @flow
    def parent() -> None:
        started.append(child(return_state=True))
        wait_for_prediction(
            started[0].result(),
            policy=quick,
            on_update=lambda _: still.clock.advance(2000) and None,
        )

    started: list[State[Any]] = []
    [record] = records(parent(return_state=True))
    [of_child] = records(started[0])

    assert (record["status"], of_child["status"]) == ("succeeded", "succeeded")


def test_a_subflow_that_waits_for_a_prediction_of_its_parent_needs_no_record(
    still: Emulator, quick: PollPolicy, records: Callable[[State[Any]], list[dict[str, Any]]]
) -> None:
    @flow
    def child(prediction: Any) -> str:
        wait_for_prediction(
            prediction, policy=quick, on_update=lambda _: still.clock.advance(2000) and None
        )
        return flow_run.id

    @flow
    def parent() -> Any:
        return child(create_prediction("emulator/timer", INPUT), return_state=True)

    state = parent(return_state=True)

    assert [one["status"] for one in records(state)] == ["succeeded"]
    assert records(state.result(raise_on_failure=False)) == []


@pytest.mark.parametrize(("on_crash", "status"), [("cancel", "canceled"), ("keep", "processing")])
@pytest.mark.parametrize("create", ["task", "block"])
def test_what_a_crash_does_is_a_parameter(
    still: Emulator, on_crash: Any, status: str, create: str
) -> None:
    @flow(**HOOKS)
    def generation() -> None:
        if create == "task":
            create_prediction("emulator/timer", INPUT, on_crash=on_crash)
        else:
            ReplicateModel(model="emulator/timer", on_crash=on_crash).trigger(INPUT)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        generation()

    assert statuses(still) == {status}


@pytest.mark.parametrize("on_crash", ["cancel", "keep"])
def test_a_failure_is_no_crash(still: Emulator, on_crash: Any) -> None:
    @flow(**HOOKS)
    def generation() -> None:
        create_prediction("emulator/timer", INPUT, on_crash=on_crash)
        raise Oops

    generation(return_state=True)

    assert statuses(still) == {"canceled"}


@pytest.mark.parametrize(("canceled", "status"), [(True, "canceled"), (False, "processing")])
def test_an_interruption_keeps_the_prediction_only_if_nobody_has_canceled_the_run(
    still: Emulator, quick: PollPolicy, canceled: bool, status: str
) -> None:
    def interrupt(_: Any) -> None:
        if canceled:
            _cancel_run(flow_run.id)
        raise KeyboardInterrupt

    @flow
    def generation() -> None:
        prediction = create_prediction("emulator/timer", INPUT, on_crash="keep")
        wait_for_prediction(prediction, policy=quick, on_update=interrupt)

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        generation()

    assert statuses(still) == {status}


def test_what_on_crash_can_be_is_said_before_anything_is_paid(still: Emulator) -> None:
    with pytest.raises(InvalidInputError, match="'cancel' or 'keep', not 'ignore'"):
        create_prediction.fn("emulator/timer", INPUT, on_crash="ignore")  # pyright: ignore[reportArgumentType]

    assert still.predictions.create_requests == 0


@pytest.mark.contract
def test_a_run_that_was_canceled_while_it_waited_for_its_retry_starts_nothing(
    still: Emulator, eventually: Any
) -> None:
    attempts: list[str] = []

    @flow(retries=1, retry_delay_seconds=1)
    def generation() -> None:
        attempts.append(flow_run.id)
        if len(attempts) == 1:
            threading.Thread(target=cancel, args=[flow_run.id]).start()
            raise Oops
        create_prediction("emulator/timer", INPUT)

    def cancel(id: Any) -> None:
        """As Prefect does it with a run that has no process to its knowledge."""
        with get_client(sync_client=True) as client:
            eventually(lambda: client.read_flow_run(id).state_name == "AwaitingRetry")
            client.set_flow_run_state(id, Cancelled(), force=True)

    with pytest.raises(RunEndedError, match="has been ended; nothing more is started"):
        generation()

    assert len(attempts) == 2
    assert still.predictions.create_requests == 0


def test_a_task_that_creates_after_its_run_was_canceled_starts_nothing(
    still: Emulator, quick: PollPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_watch, "INTERVAL", 0.1)

    @flow
    def generation() -> None:
        _cancel_run(flow_run.id)
        waited = wait_for_prediction.submit(
            create_prediction.submit("emulator/timer", INPUT), policy=quick
        )
        waited.wait()
        create_prediction("emulator/timer", {"seconds": 1})

    with pytest.raises(RunEndedError, match="has been ended"):
        generation()

    assert still.predictions.create_requests == 1


def _cancel_run(id: Any) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(id, Cancelling(), force=False)


def test_a_hook_without_a_ledger_does_not_raise(
    no_prefect_api: str, caplog: pytest.LogCaptureFixture
) -> None:
    from uuid import uuid4

    from prefect.client.schemas.objects import FlowRun
    from prefect.settings import PREFECT_API_URL, temporary_settings

    @flow
    def generation() -> None: ...

    run = FlowRun(id=uuid4(), flow_id=uuid4(), name="lost")
    with temporary_settings({PREFECT_API_URL: no_prefect_api}):
        cancel_predictions(generation, run, State(type=StateType.FAILED))

    assert "Predictions of this run may still be running: Prefect's API could not" in caplog.text


@pytest.mark.parametrize("what", ["completed by hand", "deleted"])
@pytest.mark.contract
async def test_a_run_that_somebody_else_ends_leaves_nothing_running(
    still: Emulator, quick: PollPolicy, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(run_watch, "INTERVAL", 0.1)
    monkeypatch.setattr(run_watch, "_DOUBT_SECONDS", 0.1)

    @flow
    async def generation() -> None:
        prediction = await acreate_prediction("emulator/timer", INPUT)
        waiting = asyncio.ensure_future(await_for_prediction(prediction, policy=quick))
        run_id = UUID(flow_run.id)
        async with get_client() as client:
            if what == "deleted":
                await client.delete_flow_run(run_id)
            else:
                await client.set_flow_run_state(run_id, Completed(), force=True)
        with pytest.raises(PredictionCanceledError, match="The flow run was ended while it waited"):
            await waiting

    with contextlib.suppress(Exception):  # of Prefect, which misses its run
        await generation()

    assert statuses(still) == {"canceled"}


def test_a_task_that_its_flow_leaves_behind_goes_on_to_its_end(
    still: Emulator, quick: PollPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_watch, "INTERVAL", 0.1)
    monkeypatch.setattr(run_watch, "_DOUBT_SECONDS", 0.5)

    @flow
    def generation() -> str:
        prediction = create_prediction("emulator/timer", INPUT)
        threading.Timer(2.0, still.clock.advance, [2000]).start()
        wait_for_prediction.submit(prediction, policy=quick)
        return "done"

    assert generation() == "done"
    assert statuses(still) == {"succeeded"}


@pytest.mark.parametrize("how", ["failed", "canceled"])
@pytest.mark.contract
async def test_a_deployments_run_outlives_the_failure_of_the_run_that_has_started_it(
    still: Emulator,
    quick: PollPolicy,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Any,
    how: str,
) -> None:
    monkeypatch.setattr(run_watch, "INTERVAL", 0.1)
    working: list[asyncio.Task[Any]] = []

    @flow(**HOOKS)
    async def rendering() -> None:
        prediction = await acreate_prediction("emulator/timer", INPUT)
        await await_for_prediction(prediction, policy=quick)

    @flow(**HOOKS)
    async def starting(deployment_id: UUID) -> None:
        child = await arun_deployment(deployment_id, timeout=0)
        # As in the process of a worker, which knows nothing of this one.
        work = run_flow_async(rendering, flow_run=child, return_type="state")
        working.append(Context().run(asyncio.create_task, work))
        await asyncio.to_thread(eventually, still.predictions.live)
        if how == "canceled":
            _cancel_run(flow_run.id)
        raise Oops

    async with get_client() as client:
        flow_id = await client.create_flow(rendering)
        deployment_id = await client.create_deployment(flow_id, f"test-{how}")
    await starting(deployment_id, return_state=True)
    await asyncio.sleep(1)

    if how == "canceled":
        assert statuses(still) == {"canceled"}
    else:
        assert statuses(still) == {"processing"}
        still.clock.advance(2000)
        assert (await working[0]).is_completed()
    await asyncio.wait(working)


async def test_a_crash_around_a_run_counts_although_a_retry_has_begun_when_its_hook_runs(
    still: Emulator, quick: PollPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_watch, "INTERVAL", 0.1)

    def set_parent(to: State[Any]) -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(parents[0], to, force=True)

    def retry(flow: Any, flow_run: Any, state: Any) -> None:
        set_parent(Running())

    @flow(on_failure=[retry, cancel_predictions])
    async def rendering() -> None:
        prediction = await acreate_prediction("emulator/timer", INPUT, on_crash="keep")
        await asyncio.to_thread(set_parent, Crashed())
        await await_for_prediction(prediction, policy=quick)

    @flow
    async def parent() -> None:
        parents.append(UUID(flow_run.id))
        await rendering(return_state=True)

    parents: list[UUID] = []
    await parent(return_state=True)

    assert statuses(still) == {"processing"}
