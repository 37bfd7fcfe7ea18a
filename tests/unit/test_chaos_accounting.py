from typing import NamedTuple

import pytest
from benchmarks.chaos.accounting import Account, Asked, Paid, account


class Life(NamedTuple):
    """A prediction: from when to when, and how it ended."""

    born: float
    died: float | None
    status: str = "succeeded"


def accounted(
    *lives: Life, calls: int = 1, is_due: bool = True, stored: str | None = None
) -> Account:
    """The account of predictions `a`, `b`, …; all that succeeded are stored, if not said."""
    paid = [
        Paid(name, "x", life.status, life.born, life.died)
        for name, life in zip("abcdef", lives, strict=False)
    ]
    at_home = "".join(one.id for one in paid if one.is_succeeded) if stored is None else stored
    return account(Asked("x", "left alone", calls, is_due, list(at_home)), paid)


def test_one_create_whose_result_is_stored_is_clean() -> None:
    result = accounted(Life(0, 5))

    assert result == Account(calls=1, creates=1)
    assert result.is_clean
    assert result.creates_per_call == 1.0


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(Life(0, 5), id="while the first was running"),
        pytest.param(Life(0, 2), id="after the first had succeeded"),
        pytest.param(Life(0, 5, "canceled"), id="before the first was canceled"),
        pytest.param(Life(0, None, "processing"), id="while the first has not ended to this day"),
    ],
)
def test_a_second_create_is_paid_again(first: Life) -> None:
    result = accounted(first, Life(3, 8))

    assert result.paid_again == 1
    assert result.creates_per_call == 2.0
    assert not result.is_clean


@pytest.mark.parametrize("status", ["canceled", "failed", "aborted"])
def test_a_create_after_one_that_ended_without_a_result_takes_its_place(status: str) -> None:
    result = accounted(Life(0, 2, status), Life(3, 8))

    assert result == Account(calls=1, creates=2, renewed=1)
    assert result.creates_per_call == 1.0


def test_the_order_in_which_predictions_are_told_does_not_matter() -> None:
    assert accounted(Life(3, 8), Life(0, 2, "canceled")).renewed == 1


@pytest.mark.parametrize(
    ("lives", "expected"),
    [
        ([Life(0, 5)] * 3, Account(calls=3, creates=3)),
        ([Life(0, 5)] * 4, Account(calls=3, creates=4, paid_again=1)),
        (
            [Life(0, 2, "canceled"), *[Life(0, 9)] * 2, Life(3, 9)],
            Account(calls=3, creates=4, renewed=1),
        ),
        (
            [*[Life(0, 2, "canceled")] * 2, *[Life(3, 9)] * 3],
            Account(calls=3, creates=5, renewed=2),
        ),
        (
            [Life(0, 2, "canceled"), *[Life(0, 9)] * 2, Life(3, 9), Life(4, 9)],
            Account(calls=3, creates=5, renewed=1, paid_again=1),
        ),
    ],
)
def test_three_equal_calls_may_have_three_predictions(lives: list[Life], expected: Account) -> None:
    assert accounted(*lives, calls=3) == expected


def test_a_prediction_that_has_not_ended_is_live() -> None:
    result = accounted(Life(0, None, "processing"), is_due=False)

    assert result.live == 1
    assert not result.is_clean


@pytest.mark.parametrize(
    ("lives", "calls", "stored", "lost"),
    [
        pytest.param([Life(0, 5)], 1, "", 1, id="the file is missing"),
        pytest.param([], 1, "", 1, id="nothing was started"),
        pytest.param([Life(0, 5, "canceled")], 1, "", 1, id="it was canceled"),
        pytest.param([Life(0, 5)] * 2, 3, "ab", 1, id="two calls share one prediction"),
        pytest.param([Life(0, 5)] * 3, 3, "ac", 1, id="one file of three is missing"),
        pytest.param([Life(0, 2), Life(3, 9)], 1, "b", 1, id="paid again, the first thrown away"),
    ],
)
def test_a_result_that_is_due_and_not_on_storage_is_lost(
    lives: list[Life], calls: int, stored: str, lost: int
) -> None:
    assert accounted(*lives, calls=calls, stored=stored).lost == lost


def test_a_result_that_nobody_waits_for_is_not_lost() -> None:
    assert accounted(Life(0, 5), is_due=False, stored="").lost == 0


def test_a_result_that_was_paid_again_is_lost_although_the_run_was_ended() -> None:
    assert accounted(Life(0, 2), Life(3, 5), is_due=False, stored="").lost == 2


def test_accounts_add_up() -> None:
    total = accounted(Life(0, 5)) + accounted(Life(0, 5), Life(1, 5))

    assert total == Account(calls=2, creates=3, paid_again=1, lost=0)
    assert total.creates_per_call == 1.5


def test_no_call_at_all_is_no_call_too_many() -> None:
    assert accounted(is_due=False).creates_per_call == 1.0
