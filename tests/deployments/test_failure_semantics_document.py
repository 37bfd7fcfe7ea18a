"""docs/failure-semantics.md tells of the cells and stories that there are, and of no others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from endings import cells, stories
from endings.cells import CELLS
from endings.labels import DOCUMENT, of_cell, of_story
from endings.stories import STORIES


def rows_of(table: str) -> list[tuple[str, ...]]:
    between = rf"<!-- begin {table}:.*?\n(.*?)<!-- end {table} -->"
    [text] = re.findall(between, DOCUMENT.read_text("utf-8"), re.DOTALL)
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [tuple(field.strip() for field in line.strip("|").split("|")) for line in lines]


@pytest.mark.parametrize(
    ("table", "plays", "label"),
    [("endings", CELLS, of_cell), ("continuations", STORIES, of_story)],
)
def test_each_row_is_a_test_and_each_test_has_a_row(
    table: str, plays: Iterable[Any], label: Callable[[Any], tuple[str, ...]]
) -> None:
    assert [row[:3] for row in rows_of(table)] == [label(play) for play in plays]


def test_no_row_tells_of_a_prediction_that_was_left_running() -> None:
    assert {row[-1] for row in rows_of("endings")} == {"0"}


def test_each_way_and_each_place_is_played_every_time() -> None:
    chosen = [one for one in CELLS if one.id in cells.EVERY_TIME]

    assert {one.way for one in chosen} == {one.way for one in CELLS}
    assert {one.place for one in chosen} == {one.place for one in CELLS}
    assert len(chosen) == len(cells.EVERY_TIME)
    assert {one.id for one in STORIES} >= stories.EVERY_TIME


def test_what_is_played_on_other_prefects_is_played_every_time() -> None:
    assert cells.CONTRACT <= cells.EVERY_TIME
    assert stories.CONTRACT <= stories.EVERY_TIME
