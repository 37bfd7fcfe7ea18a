from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import StateType

from prefect_replicate.cleanup.orphans import Thresholds, orphaned, why_orphaned
from prefect_replicate.ledger.facts import Ancestor, Generation, Intent, Origin
from prefect_replicate.ledger.flow_runs import FlowRunSeen
from prefect_replicate.ledger.ledger import Ledger
from prefect_replicate.ledger.log import OwnLog

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
THRESHOLDS = Thresholds(NOW, grace=300, silence=540)
OWN, PARENT, ROOT = uuid4(), uuid4(), uuid4()


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def run(state: str, seconds: float = 1000, heartbeat: float | None = None) -> FlowRunSeen:
    last = None if heartbeat is None else ago(heartbeat)
    return FlowRunSeen("a run", StateType[state], ago(seconds), last)


def known(*flow_runs: UUID, cancel_after: float = 3600, **fields: Any) -> Generation:
    around = tuple([Ancestor(one, False) for one in flow_runs])
    keep = {"keep_on_crash": fields.pop("keep_on_crash", False)}
    intent = Intent(call="c", model="a/b", input_digest={}, at=ago(2000), cancel_after=cancel_after)
    usual = {
        "written_at": ago(1000),
        "prediction_id": "p",
        "status": "processing",
        "awaited_by": (around,) if around else (),
    }
    return Generation(
        "announced",
        intent,
        Origin(flow_runs=around, base_url="https://x.org", **keep),
        process="p",
        **{**usual, **fields},
    )


def log(generation: Generation) -> OwnLog:
    made = OwnLog(Ledger(None), "c-1")
    made.generation = generation
    return made


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (run("CRASHED"), "its flow run crashed 17 min ago"),
        (run("FAILED", 301), "its flow run failed 5 min ago"),
        (run("CANCELLED", 90_000), "its flow run was canceled 25 h ago"),
        (run("CANCELLING"), "its flow run was asked to cancel 17 min ago"),
        (run("COMPLETED"), "its flow run completed 17 min ago"),
        (run("CRASHED", 299), None),
        (run("CANCELLING", 299), None),
        (run("COMPLETED", 299), None),
        (run("SCHEDULED", 9000), None),
        (run("PENDING", 9000), None),
        (run("PAUSED", 9000), None),
        (run("RUNNING"), None),
        (run("RUNNING", heartbeat=500), None),
        (run("RUNNING", heartbeat=600), "its flow run sent its last heartbeat 10 min ago"),
        (run("RUNNING", 100, heartbeat=600), None),
        (run("CRASHED", heartbeat=9000), "its flow run crashed 17 min ago"),
        (None, "its flow run was deleted"),
    ],
)
def test_what_has_become_of_the_flow_run_decides(own: FlowRunSeen | None, why: str | None) -> None:
    runs = {OWN: own} if own else {}

    assert why_orphaned(known(OWN), runs, THRESHOLDS) == why


@pytest.mark.parametrize(
    ("own", "parent", "root", "why"),
    [
        ("RUNNING", "RUNNING", "RUNNING", None),
        ("RUNNING", "RUNNING", "CRASHED", "a parent flow run crashed 17 min ago"),
        ("RUNNING", "CANCELLED", "RUNNING", "a parent flow run was canceled 17 min ago"),
        ("CRASHED", "RUNNING", "RUNNING", "its flow run crashed 17 min ago"),
        ("PENDING", "RUNNING", "CANCELLED", "a parent flow run was canceled 17 min ago"),
        ("FAILED", "FAILED", "SCHEDULED", None),
        ("FAILED", "SCHEDULED", "RUNNING", None),
        ("COMPLETED", "RUNNING", "RUNNING", None),
        ("RUNNING", "RUNNING", "COMPLETED", None),
        ("COMPLETED", "RUNNING", "COMPLETED", None),
        ("COMPLETED", "COMPLETED", "COMPLETED", "a parent flow run completed 17 min ago"),
    ],
)
def test_flow_runs_around_it_count_from_the_top(
    own: str, parent: str, root: str, why: str | None
) -> None:
    runs = {OWN: run(own), PARENT: run(parent), ROOT: run(root)}

    assert why_orphaned(known(OWN, PARENT, ROOT), runs, THRESHOLDS) == why


@pytest.mark.parametrize(
    ("own", "parent", "why"),
    [
        ("RUNNING", "FAILED", None),
        ("RUNNING", "CRASHED", None),
        ("RUNNING", "COMPLETED", None),
        ("RUNNING", None, None),
        ("SCHEDULED", "FAILED", None),
        ("RUNNING", "CANCELLED", "a parent flow run was canceled 17 min ago"),
        ("RUNNING", "CANCELLING", "a parent flow run was asked to cancel 17 min ago"),
        ("FAILED", "RUNNING", "its flow run failed 17 min ago"),
        ("FAILED", "SCHEDULED", None),
        ("CRASHED", "FAILED", "a parent flow run failed 17 min ago"),
        ("COMPLETED", "FAILED", "a parent flow run failed 17 min ago"),
    ],
)
def test_a_deployments_run_that_is_alive_goes_on_without_the_run_that_started_it(
    own: str, parent: str | None, why: str | None
) -> None:
    runs = {OWN: run(own)._replace(lives_by_itself=True)}
    runs |= {PARENT: run(parent)} if parent else {}

    assert why_orphaned(known(OWN, PARENT), runs, THRESHOLDS) == why


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

    why = why_orphaned(known(OWN, keep_on_crash=True), runs, THRESHOLDS)

    assert (why is not None) is is_orphan


def test_what_was_started_outside_of_flow_runs_is_not_judged() -> None:
    assert why_orphaned(known(), {}, THRESHOLDS) is None


def test_one_flow_run_that_waits_protects_the_prediction_of_another() -> None:
    runs = {OWN: run("CRASHED"), PARENT: run("RUNNING")}

    assert orphaned([log(known(PARENT)), log(known(OWN))], runs, THRESHOLDS) == []


def test_one_flow_run_that_waits_in_the_same_log_protects_it_too() -> None:
    runs = {OWN: run("CRASHED"), PARENT: run("RUNNING")}
    both = ((Ancestor(OWN, False),), (Ancestor(PARENT, False),))

    assert why_orphaned(known(OWN, awaited_by=both), runs, THRESHOLDS) is None


def test_all_logs_of_an_orphan_are_handled_together() -> None:
    runs = {OWN: run("CRASHED"), PARENT: run("FAILED")}
    waited, made = log(known(PARENT, cancel_after=0)), log(known(OWN))

    [found] = orphaned([waited, made], runs, THRESHOLDS)

    assert found.logs == (waited, made)
    assert (found.generation, found.why) == (made.generation, "its flow run crashed 17 min ago")


@pytest.mark.parametrize(
    ("fields", "seconds", "is_orphan"),
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
    fields: dict[str, Any], seconds: float, is_orphan: bool
) -> None:
    one = log(known(OWN, written_at=ago(seconds), **fields))

    assert bool(orphaned([one], {OWN: run("CRASHED")}, THRESHOLDS)) is is_orphan
