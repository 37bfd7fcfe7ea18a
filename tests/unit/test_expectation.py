from __future__ import annotations

import pytest

from prefect_replicate.values.expectation import Expectation

STEADY = Expectation(p50=60, p90=60)
USUAL = Expectation(p50=48, p90=96)
WIDE = Expectation(p50=60, p90=300)


@pytest.mark.parametrize(
    ("seconds", "p50", "p90"),
    [
        ([60, 60, 60], 60, 60),
        ([30, 10, 20], 20, 28),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 6, 10),
        ([0, 0, 0], 0.01, 0.01),
    ],
)
def test_median_and_ninetieth_percentile_come_from_earlier_runs(
    seconds: list[float], p50: float, p90: float
) -> None:
    found = Expectation.from_runs(seconds)

    assert (found.p50, found.p90) == pytest.approx((p50, p90))


@pytest.mark.parametrize(
    ("expected", "seconds"),
    [(STEADY, 57), (USUAL, 11.4), (WIDE, 2.3), (Expectation(p50=0.2, p90=0.2), 0.19)],
)
def test_the_earliest_end_is_before_hardly_any_is_done(
    expected: Expectation, seconds: float
) -> None:
    assert expected.earliest_end == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize(
    ("expected", "seconds", "percent"),
    [
        (USUAL, -1, 0),
        (USUAL, 0, 0),
        (USUAL, 24, 47),
        (USUAL, 48, 69),
        (USUAL, 96, 82),
        (USUAL, 1e9, 95),
        (STEADY, 30, 50),
        (STEADY, 60, 95),
        (WIDE, 60, 43),
    ],
)
def test_the_share_done_is_of_what_half_of_the_rest_take(
    expected: Expectation, seconds: float, percent: float
) -> None:
    assert expected.share_done(seconds) == pytest.approx(percent, abs=1)


@pytest.mark.parametrize("expected", [STEADY, USUAL, WIDE])
def test_the_share_done_never_falls(expected: Expectation) -> None:
    shares = [expected.share_done(seconds) for seconds in range(2000)]

    assert shares == sorted(shares)
    assert shares[-1] <= 95


@pytest.mark.parametrize(("seconds", "is_overdue"), [(48, False), (96, False), (97, True)])
def test_what_nine_of_ten_do_not_take_is_overdue(seconds: float, is_overdue: bool) -> None:
    assert USUAL.is_overdue(seconds) is is_overdue


def test_people_are_told_in_words() -> None:
    assert USUAL.estimate == "about 48 s (nine in ten within 96 s)"
    assert Expectation(p50=1.25, p90=12).excuse == (
        "taking longer than usual (usually 1.2 s, nine in ten within 12 s)"
    )
