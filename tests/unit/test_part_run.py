"""What becomes of a part of a batch, by how the flow run stands that it was handed to."""

from __future__ import annotations

import pytest
from prefect.client.schemas.objects import StateType

from prefect_replicate.batch.fan_out import DEAD_SECONDS, Step, are_without_worker, next_step


@pytest.mark.parametrize(
    ("state", "silent_seconds", "is_inherited", "step"),
    [
        (StateType.SCHEDULED, 1e6, False, Step.WAIT),
        (StateType.PENDING, 599.0, False, Step.WAIT),
        (StateType.PENDING, 601.0, False, Step.DECLARE_DEAD),
        (StateType.RUNNING, DEAD_SECONDS - 1, False, Step.WAIT),
        (StateType.RUNNING, DEAD_SECONDS + 1, False, Step.DECLARE_DEAD),
        (StateType.RUNNING, DEAD_SECONDS + 1, True, Step.DECLARE_DEAD),
        (StateType.CANCELLING, 1e6, False, Step.WAIT),
        (StateType.CRASHED, 0.0, False, Step.REPLACE),
        (StateType.CRASHED, 0.0, True, Step.REPLACE),
        (StateType.COMPLETED, 0.0, False, Step.COLLECT),
        (StateType.COMPLETED, 0.0, True, Step.RESTART),
        (StateType.FAILED, 0.0, False, Step.GIVE_UP),
        (StateType.FAILED, 0.0, True, Step.RESTART),
        (StateType.CANCELLED, 0.0, False, Step.GIVE_UP),
        (StateType.CANCELLED, 0.0, True, Step.RESTART),
    ],
)
def test_the_next_step_follows_from_the_state_and_how_long_it_has_stood(
    state: StateType, silent_seconds: float, is_inherited: bool, step: Step
) -> None:
    found = next_step(state, silent_seconds, is_inherited=is_inherited, worker_timeout=600.0)

    assert found is step


def test_without_a_limit_for_workers_a_run_may_be_pending_for_ever() -> None:
    found = next_step(StateType.PENDING, 1e6, is_inherited=False, worker_timeout=None)

    assert found is Step.WAIT


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([StateType.SCHEDULED, StateType.PENDING], True),
        ([StateType.SCHEDULED, StateType.RUNNING], False),
        ([StateType.SCHEDULED, StateType.CANCELLING], False),
        ([], False),
    ],
)
def test_nobody_is_there_where_every_run_that_is_not_over_waits(
    states: list[StateType], expected: bool
) -> None:
    assert are_without_worker(states) is expected
