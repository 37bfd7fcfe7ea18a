from __future__ import annotations

import json
from typing import Any

import pytest

from prefect_replicate import ItemOutcome, OutputFile
from prefect_replicate.batch.view import gallery, percent_over, rows
from prefect_replicate.previews import Preview


def outcome(**given: Any) -> ItemOutcome:
    return ItemOutcome(**{"number": 1, "prompt": "a fox", "model": "a/model", **given})


def row(**given: Any) -> dict[str, Any]:
    return rows([outcome(**given)])[0]


def test_an_item_that_waits_has_a_row_already() -> None:
    assert row() == {
        "item": 1,
        "state": "waiting",
        "prompt": "a fox",
        "result": "",
        "seconds": None,
        "prediction": "",
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
    assert shown["result"] == "videos/a.mp4"
    assert shown["prediction"] == "abc"


@pytest.mark.parametrize(
    ("given", "column", "shown"),
    [
        ({"prompt": "a\n  fox"}, "prompt", "a fox"),
        ({"prompt": "<img src=x>"}, "prompt", "‹img src=x›"),
        ({"prompt": "`a` [b](http://c)"}, "prompt", "'a' [b] (http://c)"),
        ({"prompt": "x" * 100}, "prompt", "x" * 59 + "…"),
        ({"error": "y" * 400}, "result", "y" * 299 + "…"),
        ({"output": "a text\nof two lines"}, "result", "a text of two lines"),
        ({"output": [1, 2]}, "result", "[1, 2]"),
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


def test_a_table_that_is_too_large_leaves_out_what_has_succeeded() -> None:
    states = ["succeeded"] * 1500 + ["failed", "running"]
    long = "an error of some length " * 10
    outcomes = [
        outcome(number=number, state=state, error=long) for number, state in enumerate(states, 1)
    ]

    shown = rows(outcomes)

    assert len(json.dumps(shown)) < 300_000
    assert [one["item"] for one in shown[-3:]] == [1501, 1502, "…"]
    assert shown[-1]["result"] == f"{1503 - len(shown)} more"


def test_a_gallery_has_a_picture_of_each_item_that_can_be_drawn() -> None:
    outcomes = [outcome(number=number, state="succeeded") for number in range(1, 8)]
    outcomes[0] = outcome(prompt="a | <b>fox</b>", state="succeeded")
    previews = {number: Preview(f"data:image/webp;base64,{number}") for number in range(1, 6)}

    page = gallery(outcomes, previews | {6: Preview(problem="it is none")})

    assert page.count("<img ") == 5
    assert "1: a \\| &lt;b&gt;fox&lt;/b&gt;" in page
    assert page.endswith("and 2 more, without a picture")


def test_a_batch_of_which_nothing_can_be_drawn_has_no_gallery() -> None:
    assert gallery([outcome(state="succeeded")], {}) == ""
