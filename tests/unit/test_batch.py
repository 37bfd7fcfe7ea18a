from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from prefect_replicate import ItemOutcome, PollPolicy, VideoRequest
from prefect_replicate.batch.plan import (
    Item,
    ItemOptions,
    Part,
    check_positive,
    failures_allowed,
    fingerprint,
    handed_out,
    in_parts,
    items_of,
    log_of,
    merged,
)
from prefect_replicate.blocks.portable import PortableCredentials
from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.values.batch import counts_of
from prefect_replicate.video.options import VideoOptions

DEFAULTS = {"duration": 5.0, "seed": None}


def items(*requests: VideoRequest, **given: Any) -> list[Item]:
    return items_of(requests, partial(VideoOptions.of, model="a/model", **{**DEFAULTS, **given}))


def part_of(some: list[Item]) -> Part:
    options = ItemOptions(
        PortableCredentials(None), "videos", None, 0, PollPolicy(), False, False, False
    )
    return Part("key", tuple(some), options, 3, None)


def outcome(number: int, state: Any = "waiting", **more: Any) -> ItemOutcome:
    return ItemOutcome(number=number, prompt="fox", model="a/model", state=state, **more)


def test_an_item_has_its_number_and_what_it_leaves_out_from_the_batch() -> None:
    one, other = items(
        VideoRequest(prompt="fox", duration=8), VideoRequest(prompt="owl", model="b/model", id="o")
    )

    assert (one.number, one.options.model, one.options.duration) == (1, "a/model", 8)
    assert (other.number, other.options.model, other.options.duration) == (2, "b/model", 5)
    assert other.outcome == ItemOutcome(number=2, id="o", prompt="owl", model="b/model")


def test_equal_items_are_told_apart() -> None:
    fox = VideoRequest(prompt="fox")
    some = items(fox, VideoRequest(prompt="owl"), fox, fox)
    part = part_of(some)

    assert [one.equal for one in some] == [1, 1, 2, 3]
    assert [part.place_of(one) for one in some] == ["key:1", "key:1", "key:2", "key:3"]


def test_what_is_equal_with_the_defaults_of_the_batch_is_equal() -> None:
    same = VideoRequest(prompt="fox"), VideoRequest(prompt="fox", duration=5, id="mine")

    assert [one.equal for one in items(*same)] == [1, 2]


def test_parts_of_a_batch_have_logs_of_one_beginning_which_their_runs_know() -> None:
    whole, root = part_of(items(*map(_request, "abcd"))), uuid4()

    logs = [one.log for one in handed_out(whole, 2, root, 1)]

    assert logs == [log_of(root, "1.1"), log_of(root, "1.2")]
    assert len({one.partition("-")[0] for one in logs}) == 1
    assert log_of(root, "any name").endswith("-b0")
    assert log_of(uuid4(), "1.1") != logs[0]


def test_a_fingerprint_tells_wishes_apart_in_their_order() -> None:
    one, other = (item.options for item in items(*map(_request, ("fox", "owl"))))

    known = [fingerprint(some) for some in ([one], [other], [one, other], [other, one])]
    assert len(set(known)) == 4
    assert fingerprint([one]) == known[0]


def _request(prompt: str) -> VideoRequest:
    return VideoRequest(prompt=prompt)


def test_a_batch_is_cut_into_parts_of_a_size() -> None:
    parts = in_parts(part_of(items(*map(_request, "abcde"))), 2)

    assert [[item.number for item in part.items] for part in parts] == [[1, 2], [3, 4], [5]]
    assert [str(part) for part in parts] == ["items 1 to 2", "items 3 to 4", "item 5"]
    assert in_parts(part_of([]), 2) == []


@pytest.mark.parametrize(
    ("on_item_failure", "max_failures", "allowed"),
    [("continue", None, None), ("continue", 3, 3), ("continue", 0, 0), ("stop", None, 0)],
)
def test_how_many_items_may_fail(
    on_item_failure: str, max_failures: int | None, allowed: int | None
) -> None:
    assert failures_allowed(on_item_failure, max_failures) == allowed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("sometimes", None), "on_item_failure must be 'continue' or 'stop', not 'sometimes'"),
        (("continue", -1), "max_failures must be 0 or more, not -1"),
    ],
)
def test_a_rule_for_failures_that_makes_no_sense_is_refused(given: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        failures_allowed(*given)


def test_the_first_number_that_is_not_positive_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"^chunk_size must be at least 1, not 0"):
        check_positive(concurrency=1, chunk_size=0)


@pytest.mark.parametrize(
    ("read", "told", "state"),
    [
        (None, None, "waiting"),
        ("running", None, "running"),
        ("running", "failed", "failed"),
        ("succeeded", "failed", "succeeded"),
        ("failed", "running", "running"),
        (None, "skipped", "skipped"),
    ],
)
def test_of_several_outcomes_success_counts_and_then_the_last(
    read: str | None, told: str | None, state: str
) -> None:
    sources = [{1: outcome(1, one)} if one else {} for one in (read, told)]

    [known] = merged(items(_request("fox")), *sources)

    assert known.state == state


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (["succeeded"], "1 item: 1 succeeded"),
        (["waiting", "failed", "failed"], "3 items: 2 failed, 1 waiting"),
        (["skipped", "running", "succeeded"], "3 items: 1 succeeded, 1 skipped, 1 running"),
    ],
)
def test_outcomes_are_counted_in_words(states: list[Any], words: str) -> None:
    assert counts_of([outcome(number, state) for number, state in enumerate(states)]) == words


def test_each_part_of_equal_batches_of_a_run_is_known_by_itself() -> None:
    whole, root = part_of(items(*(VideoRequest(prompt="fox") for _ in range(4)))), uuid4()

    parts = [part for equal in (1, 2) for part in handed_out(whole, 2, root, equal)]
    again = handed_out(whole, 2, root, 2)

    assert len({part.key for part in parts}) == len({part.name for part in parts}) == 4
    assert again == parts[2:]
