from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from prefect_replicate import VideoOutcome
from prefect_replicate.batch.progress import PartProgress, latest

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def report(minute: float, *states: Any) -> PartProgress:
    changed = NOON + timedelta(minutes=minute)
    outcomes = [
        VideoOutcome(number=number, prompt="fox", model="a/model", state=state)
        for number, state in enumerate(states, 1)
    ]
    return PartProgress("key", NOON, changed, outcomes)


def states(reports: list[PartProgress], since: datetime | None) -> dict[int, str]:
    return {number: one.state for number, one in latest(reports, since).items()}


@pytest.mark.parametrize(
    ("reports", "shown"),
    [
        ([], {}),
        ([report(1, "running", "waiting")], {1: "running", 2: "waiting"}),
        ([report(2, "failed"), report(1, "running")], {1: "failed"}),
        ([report(2, "running"), report(1, "failed")], {1: "running"}),
        ([report(2, "running"), report(1, "succeeded")], {1: "succeeded"}),
        ([report(-1, "running", "succeeded"), report(1, "waiting", "waiting")],
         {1: "waiting", 2: "succeeded"}),
        ([report(-1, "failed", "skipped")], {}),
    ],
)  # fmt: skip
def test_success_counts_whenever_it_was_and_the_rest_since_the_attempt_began(
    reports: list[PartProgress], shown: dict[int, str]
) -> None:
    assert states(reports, NOON) == shown


def test_before_an_attempt_has_begun_only_success_counts() -> None:
    assert states([report(1, "succeeded", "running", "failed")], None) == {1: "succeeded"}
