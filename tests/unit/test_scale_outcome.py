"""What the benchmark of many predictions at a time makes of what it has seen."""

import pytest
from benchmarks.scale_outcome import Outcome, joined
from benchmarks.scale_run import ideal_of, items_of
from benchmarks.scale_sides import Item


def _outcome(delays: list[float], asked: int = 2, made: int = 2) -> Outcome:
    return Outcome(
        asked=asked,
        made=made,
        delays=delays,
        durations=[10.0] * len(delays),
        wall=12.0,
        ideal=10.0,
        requests={"create": 2, "get": 3, "list": 1, "create 429": 1, "429": 1},
        losses={"no output": asked - len(delays)},
    )


def test_requests_are_shared_among_results_and_refusals_are_not_counted_twice():
    assert _outcome([1.0, 2.0]).requests_per_result == 3.0
    assert _outcome([1.0]).requests_per_result == 6.0


def test_what_is_paid_without_a_result_is_made_for_nothing():
    assert (_outcome([1.0]).lost, _outcome([1.0]).for_nothing) == (1, 1)
    assert (_outcome([1.0, 2.0], made=3).lost, _outcome([1.0, 2.0], made=3).for_nothing) == (0, 1)


def test_rounds_add_up():
    both = joined([_outcome([1.0, 2.0]), _outcome([3.0])])

    assert (both.asked, both.results, both.lost, both.refused) == (4, 3, 1, 2)
    assert both.delay == 2.0
    assert both.delay_over_duration == pytest.approx(0.2)
    assert both.excess == pytest.approx(1.2)


@pytest.mark.parametrize(("count", "seconds"), [(1, 10.0), (600, 10.0), (601, 10.1), (3000, 250.0)])
def test_the_ideal_has_a_burst_of_600_and_then_ten_creates_a_second(count: int, seconds: float):
    assert ideal_of([Item("", 1.0, 9.0)] * count) == pytest.approx(seconds)


def test_durations_are_log_normal_with_the_stated_median_and_tail():
    lasting = sorted(item.duration for item in items_of(20_000, seed=1))

    assert lasting[10_000] == pytest.approx(60, rel=0.03)
    assert lasting[19_000] == pytest.approx(300, rel=0.05)
