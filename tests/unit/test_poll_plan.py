from __future__ import annotations

from collections.abc import Sequence

import pytest

from prefect_replicate.lifecycle.poll_plan import (
    Page,
    Single,
    Wanted,
    is_behind,
    plan_looks,
    recovered,
    share_on,
)


def at(second: float, overdue: float = 0.0, unseen: float = 0.0, **more: bool) -> Wanted:
    return Wanted(f"p{second:g}", second, overdue, unseen, **{"is_listed": True, **more})


def planned(
    wanted: Sequence[Wanted], ended: Sequence[float] = (), share: float = 1.0
) -> list[tuple[str, ...]]:
    """What each request is sent for; those of a page in angle brackets."""
    rows = sorted([*ended, *(one.created_at for one in wanted if one.created_at is not None)])
    looks = plan_looks(wanted, rows, share)
    return [("page", *look.ids) if isinstance(look, Page) else look.ids for look in looks]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], []),
        ([at(1, overdue=-0.1)], []),
        ([at(1)], [("p1",)]),
        ([at(1), at(2)], [("page", "p2", "p1")]),
        ([at(1), at(2, overdue=-0.1)], [("p1",)]),
        ([at(1), at(2, overdue=-0.1), at(3)], [("page", "p3", "p1")]),
        ([at(1), at(2, alone=True)], [("p2",), ("p1",)]),
        ([Wanted("new", None, 0.0), Wanted("newer", None, 0.5)], [("newer",), ("new",)]),
    ],
)
def test_a_page_is_taken_where_it_serves_more_than_one(
    wanted: list[Wanted], expected: list[tuple[str, ...]]
) -> None:
    assert planned(wanted) == expected


def test_a_crowd_that_was_not_seen_lately_is_worth_a_page_before_it_is_due() -> None:
    stale = [at(second, overdue=-0.5, unseen=1.5) for second in range(1, 4)]

    assert planned(stale) == [("page",)]
    assert planned(stale[:2]) == []
    assert planned([*stale[:2], at(3, overdue=-0.5)]) == []


def test_as_many_pages_are_taken_as_the_due_ones_fill() -> None:
    pages = plan_looks([at(second) for second in range(1, 251)], range(1, 251), 1.0)

    assert [len(page.ids) for page in pages] == [100, 100, 50]
    assert len({one for page in pages for one in page.ids}) == 250


def test_pages_jump_over_what_has_ended() -> None:
    ended = [second + 0.5 for second in range(10, 1000)]

    pages = planned([at(1), at(2), at(2000), at(2001)], ended)

    assert pages == [("page", "p2001", "p2000"), ("page", "p2", "p1")]


def test_what_has_ended_takes_up_room_on_a_page() -> None:
    between = [second / 100 for second in range(101, 200)]

    assert planned([at(1), at(2)], between) == [("p2",), ("p1",)]
    assert planned([at(1), at(2)], between[1:]) == [("page", "p2", "p1")]


def test_others_on_the_account_take_up_room_on_a_page() -> None:
    wanted = [at(second) for second in range(1, 101)]

    assert [len(ids) - 1 for ids in planned(wanted, share=0.25)] == [25] * 4


def test_the_most_overdue_are_asked_for_first() -> None:
    gap = [second / 100 for second in range(101, 300)]
    wanted = [at(1, 3.0), at(3, 1.0), at(4, 2.0), at(0, 0.5, alone=True)]

    assert planned(wanted, gap) == [("p0",), ("p1",), ("page", "p4", "p3")]


def test_pages_of_what_was_created_at_once_do_not_show_the_same() -> None:
    wanted = [at(5 + number / 1e4, is_listed=False) for number in range(300)]

    pages = plan_looks(wanted, sorted(one.created_at or 0 for one in wanted), 1.0)

    ends = [page.created_before for page in pages if isinstance(page, Page)]
    assert len(ends) == len(pages) == 3
    assert ends[0] > ends[1] > ends[2]


def test_a_page_reaches_from_a_little_after_its_first_to_a_little_before_its_last() -> None:
    (page,) = plan_looks([at(10), at(20, is_listed=False)], [10, 20], 1.0)

    assert isinstance(page, Page)
    assert page.created_after < 10
    assert 20.03 < page.created_before < 20.5
    assert not isinstance(page, Single)


@pytest.mark.parametrize(
    ("since", "before", "listed", "expected"),
    [(1, 5, 4, 1.0), (1, 5, 16, 0.25), (2, 3, 4, 0.25), (1, 5, 2, 1.0), (1, 5, 0, 1.0)],
)
def test_the_share_of_a_page_is_what_we_know_of_it(
    since: float, before: float, listed: int, expected: float
) -> None:
    assert share_on([1, 2, 3, 4], since, before, listed) == expected


def test_an_observed_share_is_forgotten() -> None:
    assert recovered(0.5, 0) == 0.5
    assert recovered(0.5, 60) == 0.75
    assert recovered(0.0, 3600) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("shown", "known", "expected"),
    [
        ("starting", None, False),
        ("starting", "starting", False),
        ("starting", "processing", True),
        ("processing", "starting", False),
        ("succeeded", "processing", False),
        ("hibernating", "processing", False),
    ],
)
def test_a_list_that_lags_is_noticed(shown: str, known: str | None, expected: bool) -> None:
    assert is_behind(shown, known) is expected
