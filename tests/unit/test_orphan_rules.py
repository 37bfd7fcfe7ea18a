from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import StateType

from prefect_replicate.ledger.flow_runs import FlowRunSeen
from prefect_replicate.ledger.record import Record
from prefect_replicate.ledger.store import Entry
from prefect_replicate.lifecycle.orphans import Patience, orphaned, why_orphaned

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
PATIENCE = Patience(NOW, grace=300, silence=540)
OWN, PARENT, ROOT = uuid4(), uuid4(), uuid4()


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def run(state: str, seconds: float = 1000, heartbeat: float | None = None) -> FlowRunSeen:
    last = None if heartbeat is None else ago(heartbeat)
    return FlowRunSeen("a run", StateType[state], ago(seconds), last)


def record(*flow_runs: UUID, **fields: Any) -> Record:
    return Record(
        key="k",
        call="c",
        model="owner/name",
        input_digest={},
        intent_at=ago(2000),
        cancel_after=3600,
        base_url="https://x.org",
        flow_runs=flow_runs,
        **{"prediction_id": "p", "status": "processing", **fields},
    )


def entry(record: Record, updated: float = 1000) -> Entry:
    return Entry(uuid4(), record, ago(2000), ago(updated))


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (run("CRASHED"), "its flow run crashed 17 min ago"),
        (run("FAILED", 301), "its flow run failed 5 min ago"),
        (run("CANCELLED", 90_000), "its flow run was canceled 25 h ago"),
        (run("CANCELLING"), "its flow run was told to cancel 17 min ago"),
        (run("COMPLETED"), "its flow run completed 17 min ago"),
        (run("CRASHED", 299), None),
        (run("CANCELLING", 299), None),
        (run("COMPLETED", 299), None),
        (run("SCHEDULED", 9000), None),
        (run("PENDING", 9000), None),
        (run("PAUSED", 9000), None),
        (run("RUNNING"), None),
        (run("RUNNING", heartbeat=500), None),
        (run("RUNNING", heartbeat=600), "its flow run gave its last heartbeat 10 min ago"),
        (run("RUNNING", 100, heartbeat=600), None),
        (run("CRASHED", heartbeat=9000), "its flow run crashed 17 min ago"),
        (None, "its flow run was deleted"),
    ],
)
def test_what_has_become_of_the_flow_run_decides(own: FlowRunSeen | None, why: str | None) -> None:
    runs = {OWN: own} if own else {}

    assert why_orphaned(record(OWN), runs, PATIENCE) == why


@pytest.mark.parametrize(
    ("own", "parent", "root", "why"),
    [
        ("RUNNING", "RUNNING", "RUNNING", None),
        ("RUNNING", "RUNNING", "CRASHED", "a flow run around it crashed 17 min ago"),
        ("RUNNING", "CANCELLED", "RUNNING", "a flow run around it was canceled 17 min ago"),
        ("CRASHED", "RUNNING", "RUNNING", "its flow run crashed 17 min ago"),
        ("PENDING", "RUNNING", "CANCELLED", "a flow run around it was canceled 17 min ago"),
        ("FAILED", "FAILED", "SCHEDULED", None),
        ("FAILED", "SCHEDULED", "RUNNING", None),
        ("COMPLETED", "RUNNING", "RUNNING", None),
        ("RUNNING", "RUNNING", "COMPLETED", None),
        ("COMPLETED", "RUNNING", "COMPLETED", None),
        ("COMPLETED", "COMPLETED", "COMPLETED", "a flow run around it completed 17 min ago"),
    ],
)
def test_flow_runs_around_it_count_from_the_top(
    own: str, parent: str, root: str, why: str | None
) -> None:
    runs = {OWN: run(own), PARENT: run(parent), ROOT: run(root)}

    assert why_orphaned(record(OWN, PARENT, ROOT), runs, PATIENCE) == why


@pytest.mark.parametrize(
    ("own", "parent", "why"),
    [
        ("RUNNING", "FAILED", None),
        ("RUNNING", "CRASHED", None),
        ("RUNNING", "COMPLETED", None),
        ("RUNNING", None, None),
        ("SCHEDULED", "FAILED", None),
        ("RUNNING", "CANCELLED", "a flow run around it was canceled 17 min ago"),
        ("RUNNING", "CANCELLING", "a flow run around it was told to cancel 17 min ago"),
        ("FAILED", "RUNNING", "its flow run failed 17 min ago"),
        ("FAILED", "SCHEDULED", None),
        ("CRASHED", "FAILED", "a flow run around it failed 17 min ago"),
        ("COMPLETED", "FAILED", "a flow run around it failed 17 min ago"),
    ],
)
def test_a_deployments_run_that_is_alive_goes_on_without_the_run_that_started_it(
    own: str, parent: str | None, why: str | None
) -> None:
    runs = {OWN: run(own)._replace(lives_by_itself=True)}
    runs |= {PARENT: run(parent)} if parent else {}

    assert why_orphaned(record(OWN, PARENT), runs, PATIENCE) == why


@pytest.mark.parametrize(
    ("own", "is_orphan"),
    [
        (run("CRASHED"), False),
        (run("RUNNING", heartbeat=600), False),
        (run("FAILED"), True),
        (run("CANCELLED"), True),
        (None, True),
    ],
)
def test_what_is_kept_on_a_crash_is_no_orphan_of_one(
    own: FlowRunSeen | None, is_orphan: bool
) -> None:
    runs = {OWN: own} if own else {}

    why = why_orphaned(record(OWN, keep_on_crash=True), runs, PATIENCE)

    assert (why is not None) is is_orphan


def test_what_was_started_outside_of_flow_runs_is_not_judged() -> None:
    assert why_orphaned(record(), {}, PATIENCE) is None


def test_one_flow_run_that_waits_protects_the_prediction_of_another() -> None:
    runs = {OWN: run("CRASHED"), PARENT: run("RUNNING")}
    entries = [entry(record(PARENT)), entry(record(OWN))]

    assert orphaned(entries, runs, PATIENCE) == []


def test_all_records_of_an_orphan_are_handled_together() -> None:
    runs = {OWN: run("CRASHED"), PARENT: run("FAILED")}
    waited, made = entry(record(PARENT)), entry(record(OWN))

    [found] = orphaned([waited, made], runs, PATIENCE)

    assert found.entries == (waited, made)
    assert (found.record, found.why) == (made.record, "its flow run crashed 17 min ago")


def test_a_record_that_is_read_twice_counts_once() -> None:
    one = entry(record(OWN))

    [found] = orphaned([one, one], {}, PATIENCE)

    assert found.entries == (one,)


@pytest.mark.parametrize(
    ("fields", "updated", "is_orphan"),
    [
        ({"status": "starting"}, 1, True),
        ({"status": "brand-new"}, 1, True),
        ({"status": "succeeded"}, 1000, False),
        ({"status": "canceled"}, 1000, False),
        ({"status": "void", "prediction_id": None}, 1000, False),
        ({"status": "intent", "prediction_id": None}, 76, True),
        ({"status": "intent", "prediction_id": None}, 74, False),
    ],
)
def test_only_what_may_be_running_is_an_orphan(
    fields: dict[str, Any], updated: float, is_orphan: bool
) -> None:
    found = orphaned([entry(record(OWN, **fields), updated)], {OWN: run("CRASHED")}, PATIENCE)

    assert bool(found) is is_orphan
