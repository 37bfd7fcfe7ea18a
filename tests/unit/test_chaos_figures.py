from uuid import uuid4

import pytest
from benchmarks.chaos.accounting import Account, Asked
from benchmarks.chaos.benchmark import Outcome
from benchmarks.chaos.figures import measured
from benchmarks.chaos.lives import Life
from benchmarks.chaos.plan import plan

CLEAN = Account(calls=1, creates=1)


def outcome(account: Account = CLEAN, problem: str = "", left_to_the_sweep: int = 0) -> Outcome:
    [planned] = plan(1, seed=1)
    life = Life(planned, uuid4(), state="Completed", problem=problem)
    return Outcome(life, Asked("x", planned.fate, 1, is_due=True), account, left_to_the_sweep, ())


@pytest.mark.parametrize(
    ("bad", "is_met"),
    [
        (outcome(), True),
        (outcome(Account(calls=1, creates=2, renewed=1)), True),
        (outcome(left_to_the_sweep=1), True),
        (outcome(Account(calls=1, creates=2, paid_again=1)), False),
        (outcome(Account(calls=1, creates=1, live=1)), False),
        (outcome(Account(calls=1, creates=1, lost=1)), False),
        (outcome(problem="the run never ended"), False),
    ],
)
def test_one_bad_outcome_among_many_misses_the_target(bad: Outcome, is_met: bool) -> None:
    assert measured([*[outcome()] * 200, bad], seconds=1.0).is_met is is_met


def test_the_last_row_adds_all_up() -> None:
    twice = outcome(Account(calls=1, creates=2, paid_again=1))

    measurement = measured([outcome(), twice], seconds=61.0)

    assert measurement.rows[-1][3:8] == ("2", "3", "0", "1.500", "1")
    assert "**1.500** (target: 1.000, missed)" in measurement.findings[0]
    assert measurement.findings[-1] == "It took 1 min 1 s."
