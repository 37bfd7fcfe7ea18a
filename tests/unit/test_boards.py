from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from prefect_replicate import VideoOutcome
from prefect_replicate.ledger.boards import Board, latest

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def board(minute: float, *states: Any) -> Board:
    changed = NOON + timedelta(minutes=minute)
    outcomes = [
        VideoOutcome(number=number, prompt="fox", model="a/model", state=state)
        for number, state in enumerate(states, 1)
    ]
    return Board("key", NOON, changed, outcomes)


def states(boards: list[Board], since: datetime | None) -> dict[int, str]:
    return {number: one.state for number, one in latest(boards, since).items()}


@pytest.mark.parametrize(
    ("boards", "shown"),
    [
        ([], {}),
        ([board(1, "running", "waiting")], {1: "running", 2: "waiting"}),
        ([board(2, "failed"), board(1, "running")], {1: "failed"}),
        ([board(2, "running"), board(1, "failed")], {1: "running"}),
        ([board(2, "running"), board(1, "succeeded")], {1: "succeeded"}),
        ([board(-1, "running", "succeeded"), board(1, "waiting", "waiting")],
         {1: "waiting", 2: "succeeded"}),
        ([board(-1, "failed", "skipped")], {}),
    ],
)  # fmt: skip
def test_success_counts_whenever_it_was_and_the_rest_since_the_attempt_began(
    boards: list[Board], shown: dict[int, str]
) -> None:
    assert states(boards, NOON) == shown


def test_before_an_attempt_has_begun_only_success_counts() -> None:
    assert states([board(1, "succeeded", "running", "failed")], None) == {1: "succeeded"}
