from __future__ import annotations

import pytest

from prefect_replicate.ledger.limits import GlobalLimit


@pytest.mark.parametrize(
    ("limit", "used", "block"),
    [(600, 600, 30), (600, 0, 150), (600, 480, 30), (6, 0, 1), (6, 6, 1), (1, 1, 1), (60, 0, 15)],
)
def test_a_block_leaves_enough_to_others(limit: int, used: int, block: int) -> None:
    assert GlobalLimit(limit, limit / 60, used).block == block


@pytest.mark.parametrize(
    ("used", "slots", "seconds"), [(0, 30, 0.0), (570, 30, 0.0), (600, 30, 3.0), (590, 30, 2.0)]
)
def test_slots_come_back_with_time(used: int, slots: int, seconds: float) -> None:
    assert GlobalLimit(600, 10.0, used).seconds_until(slots) == seconds
