"""How cells and stories are called in docs/failure-semantics.md."""

from __future__ import annotations

from pathlib import Path

from .cells import FORMS, Cell
from .stories import BY_HAND, Story

DOCUMENT = Path(__file__).parents[3] / "docs" / "failure-semantics.md"
_PLACES = {"script": "script", "serve": "`serve`", "worker": "worker", BY_HAND: "worker's process"}


def of_cell(cell: Cell) -> tuple[str, ...]:
    """The columns that name a cell."""
    return cell.way, _PLACES[cell.place], FORMS[cell.form]


def of_story(story: Story) -> tuple[str, ...]:
    """The columns that name a story."""
    return story.what, _PLACES[story.place], story.goes_on
