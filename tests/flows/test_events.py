"""The events that come out of runs, as Prefect's server has them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client, task
from prefect.events import Event, emit_event
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventOccurredFilter
from prefect.states import State

from prefect_replicate import (
    PollPolicy,
    cancel_orphaned_predictions,
    cancel_predictions,
    create_prediction,
    generate_video,
    predict,
)
from prefect_replicate.emulator import Emulator

TIMER = "emulator/timer"
STORED = "prefect.asset.materialization.succeeded"
FLAGGED = "The input or output was flagged as sensitive. (E005)"


def events_of(resource: str) -> list[Event]:
    """All of ours that the server has of a resource or its relations, oldest first."""
    chosen = EventFilter(
        any_resource=EventAnyResourceFilter(id=[resource]),
        occurred=EventOccurredFilter.model_validate(
            {"until": datetime.now(timezone.utc) + timedelta(days=1)}
        ),
    )
    with get_client(sync_client=True) as client:
        found = client.read_events(chosen, limit=50).events
    ours = [one for one in found if one.event.startswith(("replicate.", STORED))]
    return sorted(ours, key=lambda one: one.occurred)


def names(events: list[Event]) -> list[str]:
    return ["stored" if one.event == STORED else one.event.rpartition(".")[2] for one in events]


def of_run(state: State[Any]) -> str:
    return f"prefect.flow-run.{state.state_details.flow_run_id}"


def until_there(resource: str, name: str) -> list[Event]:
    """The events, once there is one of that name."""
    give_up = time.monotonic() + 30
    while name not in names(found := events_of(resource)):
        assert time.monotonic() < give_up, f"only {names(found)}"
        time.sleep(0.05)
    return found


@pytest.fixture
def options(replicate_emulator: Emulator, quick: PollPolicy, tmp_path: Path) -> dict[str, Any]:
    return {"policy": quick, "destination": tmp_path}


@pytest.mark.smoke
@pytest.mark.contract
def test_a_video_is_announced_from_its_creation_to_its_file(options: dict[str, Any]) -> None:
    input = {"seconds": 2, "queue_seconds": 0.1, "key": "sk-secret"}

    state = generate_video("a fox", TIMER, input, **options, return_state=True)
    events = until_there(of_run(state), "stored")

    [file] = state.result().files
    created, _, succeeded, stored = events
    assert names(events) == ["created", "processing", "succeeded", "stored"]
    assert created.resource["replicate.model"] == TIMER
    assert created.payload["prompt"] == "a fox"
    assert succeeded.payload["seconds"] == pytest.approx(2.1, abs=0.5)
    assert stored.resource.id == file.uri == f"file://{file.location}"
    assert stored.payload["location"] == file.location
    assert (stored.payload["sha256"], stored.payload["size"]) == (file.sha256, file.size)
    assert "sk-secret" not in json.dumps([one.model_dump(mode="json") for one in events])


def test_a_task_of_a_subflow_is_related_to_all_that_is_around_it(options: dict[str, Any]) -> None:
    tasks: list[UUID] = []

    @flow
    def inner() -> State[Any]:
        state = predict(TIMER, {}, **options, return_state=True)
        tasks.append(state.state_details.task_run_id)
        return state

    @flow
    def outer() -> None:
        inner(return_state=True)

    state = outer(return_state=True)
    stored = until_there(of_run(state), "stored")[-1]

    related = {one.role: one.id for one in stored.related}
    assert related["root-flow-run"] == of_run(state)
    assert related["task-run"] == f"prefect.task-run.{tasks[0]}"
    assert related["flow-run"] not in (of_run(state), "")


def test_a_flagged_input_is_told_from_another_failure(options: dict[str, Any]) -> None:
    input = {"outcome": "failed", "error": FLAGGED}

    state = generate_video("a fox", TIMER, input, **options, return_state=True)
    failed = until_there(of_run(state), "failed")[-1]

    assert failed.resource["replicate.reason"] == "flagged"
    assert failed.payload["error"] == FLAGGED


def test_what_a_hook_cancels_is_announced(still: Emulator) -> None:
    @flow(on_failure=[cancel_predictions])
    def leaving() -> None:
        create_prediction(TIMER, {"seconds": 1000})
        raise RuntimeError("it fails")

    state = leaving(return_state=True)
    events = until_there(of_run(state), "canceled")

    assert names(events) == ["created", "canceled"]


def test_what_a_sweep_cancels_is_announced_as_of_the_run_that_left_it(
    still: Emulator, own_ledger: None
) -> None:
    @flow
    def leaving() -> None:
        create_prediction(TIMER, {"seconds": 1000})
        raise RuntimeError("it fails")

    state = leaving(return_state=True)
    cancel_orphaned_predictions(grace=0)
    events = until_there(of_run(state), "canceled")

    assert names(events) == ["created", "canceled"]


def test_a_retry_announces_nothing_again(
    options: dict[str, Any], forget: Callable[..., None]
) -> None:
    attempts: list[str] = []

    @task
    def end() -> None:
        attempts.append("")
        if len(attempts) == 1:
            forget("ledgers", "emitted events")  # as if another process went on
            raise RuntimeError("it fails at first")

    @flow(retries=1)
    def twice() -> None:
        predict(TIMER, {"seconds": 2}, **options)
        end()

    state = twice(return_state=True)
    emit_event("replicate.last", {"prefect.resource.id": of_run(state)})
    events = until_there(of_run(state), "last")

    assert state.is_completed()
    assert names(events) == ["created", "processing", "succeeded", "stored", "last"]


def test_what_takes_longer_than_nine_of_ten_is_announced(
    options: dict[str, Any], own_ledger: None, forget: Callable[..., None]
) -> None:
    forget("history", "history readings")

    @flow
    def several(*seconds: float) -> None:
        for one in seconds:
            predict("emulator/community-timer", {"seconds": one}, **options)

    state = several(0.2, 0.2, 0.2, 3.0, return_state=True)
    events = until_there(of_run(state), "overdue")

    overdue = events[names(events).index("overdue")]
    assert overdue.payload["seconds"] > overdue.payload["p90"] >= 0.2
