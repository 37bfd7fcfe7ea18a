"""Many predictions at a time in virtual time, as the benchmark has them."""

from benchmarks.create_run import THREE, tally_of
from benchmarks.scale_run import outcome_of


def test_of_many_at_a_time_none_is_lost_or_paid_twice_when_things_go_wrong() -> None:
    outcome = outcome_of("ours", 20, seed=1, with_faults=True)

    assert (outcome.results, outcome.made) == (20, 20)


def test_a_run_says_the_same_each_time() -> None:
    first, second = (outcome_of("ours", 3, seed=1, with_faults=False) for _ in range(2))

    assert first == second


def test_creates_of_three_processes_at_the_limit_are_neither_lost_nor_refused() -> None:
    tally = tally_of(THREE, "standard", 620)

    assert (tally.made, tally.lost, tally.refused) == (620, 0, 0)
