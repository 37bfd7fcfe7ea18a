from __future__ import annotations

import pytest
from prefect.client.schemas.objects import StateType

from prefect_replicate.lifecycle.run_watch import Standing, is_over, is_revived

SCHEDULED, PENDING, RUNNING = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING
CANCELLING, CANCELLED = StateType.CANCELLING, StateType.CANCELLED
FAILED, CRASHED, COMPLETED = StateType.FAILED, StateType.CRASHED, StateType.COMPLETED


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], False),
        ([SCHEDULED, PENDING, RUNNING], False),
        ([SCHEDULED, RUNNING, SCHEDULED, RUNNING], False),
        ([SCHEDULED, RUNNING, SCHEDULED, CANCELLED, RUNNING], True),
        ([SCHEDULED, RUNNING, CANCELLING, CANCELLED, SCHEDULED, RUNNING], False),
        ([PENDING, RUNNING, CANCELLED, RUNNING], True),
    ],
)
def test_a_run_is_revived_that_goes_on_after_a_cancel_without_a_schedule(
    history: list[StateType], expected: bool
) -> None:
    assert is_revived(history) is expected


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [
        (RUNNING, RUNNING, (False, False)),
        (RUNNING, FAILED, (True, False)),
        (RUNNING, CRASHED, (True, False)),
        (RUNNING, None, (True, False)),
        (RUNNING, CANCELLING, (True, True)),
        (RUNNING, CANCELLED, (True, True)),
        (RUNNING, COMPLETED, (False, False)),
        (FAILED, RUNNING, (True, True)),
        (CANCELLING, RUNNING, (True, True)),
        (None, RUNNING, (True, True)),
    ],
)
def test_a_run_is_over_with_the_run_around_it_unless_it_lives_by_itself(
    own: StateType | None, parent: StateType | None, expected: tuple[bool, bool]
) -> None:
    found = [is_over([Standing(own, alone), Standing(parent)]) for alone in (False, True)]

    assert tuple(found) == expected
