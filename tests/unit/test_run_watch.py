from __future__ import annotations

import pytest
from prefect.client.schemas.objects import StateType

from prefect_replicate.lifecycle.run_watch import is_revived

SCHEDULED, PENDING, RUNNING = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING
CANCELLING, CANCELLED = StateType.CANCELLING, StateType.CANCELLED


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
