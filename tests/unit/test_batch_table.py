from __future__ import annotations

from typing import Any

import pytest

from prefect_replicate import ItemOutcome, OutputFile
from prefect_replicate.batch.view import percent_over, rows


def outcome(**given: Any) -> ItemOutcome:
    return ItemOutcome(**{"number": 1, "prompt": "a fox", "model": "a/model", **given})


def row(**given: Any) -> dict[str, Any]:
    return rows([outcome(**given)])[0]


def test_an_item_that_waits_has_a_row_already() -> None:
    assert row() == {
        "item": 1,
        "state": "waiting",
        "seconds": None,
        "file": "",
        "prediction": "",
        "prompt": "a fox",
    }


def test_a_row_shows_what_became_of_an_item() -> None:
    file = OutputFile(
        location="videos/a.mp4", source="https://x.org/a.mp4", output_path="",
        size=9, sha256="0" * 64, media_type="video/mp4",
    )  # fmt: skip
    shown = row(
        id="mine", state="succeeded", seconds=12.345, files=[file],
        prediction_id="abc", web_url="https://replicate.com/p/abc",
    )  # fmt: skip

    assert (shown["item"], shown["state"], shown["seconds"]) == ("1 (mine)", "succeeded", 12.3)
    assert shown["file"] == "videos/a.mp4"
    assert shown["prediction"] == "[abc](https://replicate.com/p/abc)"


@pytest.mark.parametrize(
    ("given", "column", "shown"),
    [
        ({"prompt": "a\n  fox"}, "prompt", "a fox"),
        ({"prompt": "<img src=x>"}, "prompt", "&lt;img src=x&gt;"),
        ({"prompt": "x" * 100}, "prompt", "x" * 59 + "…"),
        ({"error": "y" * 400}, "file", "y" * 119 + "…"),
    ],
)
def test_what_others_have_written_is_shown_as_short_text(
    given: dict[str, Any], column: str, shown: str
) -> None:
    assert row(**given)[column] == shown


@pytest.mark.parametrize(
    ("states", "percent"),
    [
        (["waiting"], 0.0),
        (["running", "succeeded", "waiting"], 33.3),
        (["failed", "skipped", "succeeded"], 100.0),
    ],
)
def test_the_bar_shows_how_many_items_are_over(states: list[Any], percent: float) -> None:
    assert percent_over([outcome(state=state) for state in states]) == percent
