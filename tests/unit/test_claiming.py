"""Which record a call goes on with, when there are records of calls like it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest

from prefect_replicate.ledger.record import INTENT, VOID, Claim, Record
from prefect_replicate.ledger.store import Entry
from prefect_replicate.lifecycle.claiming import ABANDONED_SECONDS, earlier_of, is_fresh

START = datetime(2025, 1, 2, tzinfo=timezone.utc)
SECOND_ATTEMPT = Claim("2", "root/1")


def entry(second: float, status: str = "processing", **claims: str) -> Entry:
    """A record that was written at a second, with who has it in which attempt (`_1="root/1"`)."""
    moment = START + timedelta(seconds=second)
    record = Record(
        key="replicate-x",
        call="c",
        model="owner/name",
        input_digest={},
        intent_at=moment,
        cancel_after=60,
        base_url="https://api.replicate.com",
        status=status,
        prediction_id=None if status in (INTENT, VOID) else f"id{second:g}",
        claims={attempt.strip("_"): call for attempt, call in claims.items()},
    )
    return Entry(UUID(int=int(second * 1000) + 1), record, moment, moment)


def own(second: float = 1000, call: str = "root/1") -> Entry:
    return entry(second, INTENT, _2=call)


def test_the_first_call_finds_nothing() -> None:
    assert earlier_of(own(), [own()], SECOND_ATTEMPT, ()) is None


def test_a_retry_finds_what_no_call_of_its_attempt_has_yet() -> None:
    before = entry(0, _1="root/1")

    assert earlier_of(own(), [own(), before], SECOND_ATTEMPT, ()) == before


def test_what_an_equal_call_of_the_same_attempt_has_is_not_found() -> None:
    siblings = entry(0, _1="root/1", _2="root/2")

    assert earlier_of(own(), [own(), siblings], SECOND_ATTEMPT, ()) is None


def test_what_the_call_has_already_comes_first_and_the_newest_of_it() -> None:
    free, failed, replacing = entry(0), entry(1, _2="root/1"), entry(2, _2="root/1")

    found = earlier_of(own(), [free, failed, replacing, own()], SECOND_ATTEMPT, ())

    assert found == replacing


@pytest.mark.parametrize("status", [VOID, "canceled", "aborted"])
def test_what_is_of_no_use_is_not_found(status: str) -> None:
    assert earlier_of(own(), [entry(0, status), own()], SECOND_ATTEMPT, ()) is None


@pytest.mark.parametrize("status", [INTENT, "starting", "succeeded", "failed", "hibernating"])
def test_what_may_be_of_use_is_found(status: str) -> None:
    before = entry(0, status)

    assert earlier_of(own(), [before, own()], SECOND_ATTEMPT, ()) == before


def test_what_turned_out_to_be_of_no_use_is_passed_over() -> None:
    useless, useful = entry(0), entry(1)

    found = earlier_of(own(), [useless, useful], SECOND_ATTEMPT, {useless.artifact_id})

    assert found == useful


def test_equal_calls_that_look_at_once_find_one_each() -> None:
    before = [entry(0), entry(1)]
    looking = [own(1000, "root/1"), own(1001, "root/2"), own(1002, "root/3")]

    found = [
        earlier_of(one, [*before, *looking], Claim("2", one.record.claims["2"]), ())
        for one in looking
    ]

    assert found == [*before, None]


def test_one_that_has_found_its_record_is_not_ahead_any_more() -> None:
    taken, free = entry(0, _1="root/1", _2="root/1"), entry(1, _1="root/2")
    ahead, mine = own(1000, "root/1"), own(1001, "root/2")

    assert earlier_of(mine, [taken, free, ahead, mine], Claim("2", "root/2"), ()) == free


def test_one_that_died_while_it_looked_is_not_ahead_any_more() -> None:
    dead, free, mine = own(1000 - ABANDONED_SECONDS - 1, "root/2"), entry(0), own()

    assert earlier_of(mine, [dead, free, mine], SECOND_ATTEMPT, ()) == free


def test_a_write_that_was_repeated_is_not_taken_for_another_process() -> None:
    mine = own()
    repeated = mine._replace(artifact_id=UUID(int=7))

    assert earlier_of(mine, [repeated, mine], SECOND_ATTEMPT, ()) is None


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (entry(999, INTENT), True),
        (entry(1000 - ABANDONED_SECONDS - 1, INTENT), False),
        (entry(999, "starting"), False),
        (entry(999, VOID), False),
    ],
)
def test_an_intent_is_fresh_as_long_as_its_create_may_be_on_its_way(
    other: Entry, expected: bool
) -> None:
    assert is_fresh(other, own()) is expected
