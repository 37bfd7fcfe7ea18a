from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from prefect_replicate import VideoRequest
from prefect_replicate.batch.requests import MAX_ITEMS, duplicates, video_requests
from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.video.options import VideoOptions

FOX = VideoRequest(prompt="a fox")
NAN = float("nan")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (FOX, FOX),
        ("a fox", FOX),
        ({"prompt": "a fox"}, FOX),
        ({"image": "https://x.org/a.png"}, VideoRequest(image="https://x.org/a.png")),
        ({"prompt": NAN, "seed": 7}, VideoRequest(seed=7)),
        ({"prompt": "a fox", "model": None, "seed": NAN, "resolution": NAN}, FOX),
        ({"prompt": "a fox", "seed": 7.0}, VideoRequest(prompt="a fox", seed=7)),
        ({"prompt": "a fox", "duration": "5"}, VideoRequest(prompt="a fox", duration=5)),
        ({"prompt": "a fox", "id": 12}, VideoRequest(prompt="a fox", id="12")),
        ({"prompt": "a fox", "id": 12.0}, VideoRequest(prompt="a fox", id="12")),
        ({"prompt": "a fox", "id": NAN}, FOX),
        ({"prompt": "a fox", "image": Path("f.png")}, VideoRequest(prompt="a fox", image="f.png")),
        (
            {"prompt": "a fox", "input": {"fps": 24}, "input.loop": True, "input.style": NAN},
            VideoRequest(prompt="a fox", input={"fps": 24, "loop": True}),
        ),
    ],
)
async def test_a_request_is_a_value_a_dict_or_a_prompt(given: Any, read: VideoRequest) -> None:
    assert await video_requests(requests=[given]) == [read]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "prompt: it is empty"),
        ({"prompt": " \n"}, "prompt: it is empty"),
        ({"prompt": 5}, "prompt 5 should be a valid string"),
        ({"prompt": "x", "duration": "long"}, "duration 'long' should be a valid number"),
        ({"prompt": "x", "duration": 0}, "duration 0 should be greater than 0"),
        ({"prompt": "x", "duration": float("inf")}, "duration inf should be a finite number"),
        ({"prompt": "x", "seed": 1.5}, "seed 1.5 should be a valid integer, got a number with"),
        ({"prompt": "x", "input": "fps=24"}, "input 'fps=24' should be a valid dictionary"),
        ({"prompt": "x", "input": [], "input.fps": 2}, r"input \[\] should be a valid dictionary"),
        ({"prompt": "x", "model": "fox"}, "model: 'fox' is not a model reference; use"),
        ({"prompt": "x", "modle": "a/b"}, r"'modle' is unknown \(did you mean 'model'\?; the mod"),
        ({"prompt": "x", "fps": 24}, r"'fps' is unknown \(accepted are prompt, .*into `input`\)"),
        ({"prompt": "x", "seed": "a", "duration": "b"}, "duration 'b' .*, seed 'a' should be"),
        (["x"], "a list is not a request; give a prompt, a dict or a VideoRequest"),
    ],
)  # fmt: skip
async def test_a_bad_item_is_told_with_its_number_before_anything_is_paid(
    given: Any, problem: str
) -> None:
    with pytest.raises(InvalidInputError) as told:
        await video_requests(requests=["a fox", given])

    assert str(told.value).startswith("1 of 2 items can't be used: item 2: ")
    assert str(told.value).endswith(". Correct them first. Nothing was paid.")
    assert told.match(problem)
    assert "\n" not in str(told.value)


async def test_three_bad_items_are_told_and_the_rest_counted() -> None:
    with pytest.raises(InvalidInputError, match=r"5 of 6 items .* item 4: .*; and 2 more"):
        await video_requests(requests=["a fox", "", "", "", "", ""])


async def test_variations_share_a_prompt_unless_they_have_their_own() -> None:
    variations: list[dict[str, Any]] = [{}, {"seed": 7, "prompt": None}, {"prompt": "a hen"}]

    read = await video_requests(prompt="a fox", variations=variations)

    assert read == [FOX, VideoRequest(prompt="a fox", seed=7), VideoRequest(prompt="a hen")]


async def test_a_variation_that_is_no_dict_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"item 1: a variation must be a dict .* not 'a hen'"
    ):
        await video_requests(prompt="a fox", variations=["a hen"])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "exactly one of `requests`, `prompts`, `path`, and one prompt with `variations`"),
        ({"requests": ["x"], "path": "a.csv"}, "Give exactly one of"),
        ({"requests": ["x"], "prompt": "x"}, "Give exactly one of"),
        ({"prompt": "x"}, "`prompt` also needs `variations`"),
        ({"variations": [{}]}, "`variations` also need one prompt: a single line in `prompts`, or"),
        ({"requests": []}, "The batch is empty: `requests` is empty. Nothing was paid."),
        ({"prompt": "x", "variations": []}, "The batch is empty: `variations` is empty"),
        ({"requests": ["x"] * 100_000}, "The batch has 100,000 items, but a run takes at most 10"),
        ({"prompt": "x", "variations": [{}] * 10_001}, "has 10,001 items.*Split it into several"),
    ],
)
async def test_no_batch_none_of_it_or_too_much_is_refused(given: Any, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        await video_requests(**given)


async def test_the_largest_batch_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt\n" + "a fox\n" * MAX_ITEMS)

    assert await video_requests(path=tmp_path / "a.csv") == [FOX] * MAX_ITEMS


async def test_a_file_of_too_many_rows_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    rows = "prompt\n" + "a fox\n" * (MAX_ITEMS + 1)
    (tmp_path / "a.csv").write_bytes(rows.encode() + b"\xff not read\n")

    with pytest.raises(InvalidInputError, match="has more than 10,000 items"):
        await video_requests(path=str(tmp_path / "a.csv"))


async def test_a_bad_row_is_told_with_its_number_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text('prompt,seed\n"a\nfox",1\na hen,x\na cat,2,3\n')

    with pytest.raises(InvalidInputError) as told:
        await video_requests(path="a.csv")

    assert str(told.value) == (
        "2 of 3 items can't be used: row 2 of a.csv (line 4): seed 'x' should be a valid integer,"
        " unable to parse string as an integer; row 3 of a.csv (line 5): it has 3 cells for 2"
        " columns; a cell with a comma in it must be quoted. Correct them first. Nothing was paid."
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none.csv", "No rows can be read from 'none.csv' in /.*: No such file or directory. Not"),
        ("/none/a.csv", "No rows can be read from '/none/a.csv': No such file or directory"),
        ("folder.csv", "Is a directory"),
        ("~nobody-of-this-name/a.csv", "No rows can be read from '~nobody-of-this-name/a.csv'"),
        ("null\0byte.csv", "null byte"),
        ("header.csv", "The batch is empty: header.csv has no rows"),
        ("", "'' is not a file with rows; give a local file, or 'block:<type-slug>"),
        (
            "s3://bucket/a.csv",
            "'s3://bucket/a.csv' is not a file with rows.* in a saved storage block",
        ),
        ("block:local-file-system/a.csv", "is not a file with rows"),
        ("block:a/b/c.xlsx", "block:a/b/c.xlsx can't be read"),
    ],
)
async def test_a_file_that_is_none_is_refused(
    path: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "header.csv").write_text("prompt\n")

    with pytest.raises(InvalidInputError, match=reason):
        await video_requests(path=path)


async def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.jsonl").write_text('{"prompt": "a fox"}')

    assert await video_requests(path="~/a.jsonl") == [FOX]


async def test_parquet_that_pyarrow_wrote_is_read(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    columns = {"prompt": ["a fox", "a hen"], "seed": [None, 7.0], "input": [None, {"fps": 24}]}
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), tmp_path / "a.parquet")

    read = await video_requests(path=tmp_path / "a.parquet")

    assert read == [FOX, VideoRequest(prompt="a hen", seed=7, input={"fps": 24})]


def test_equal_requests_are_found_whatever_they_are_called() -> None:
    a, b = ({"x": 1, "y": Path("f")}, {"y": Path("f"), "x": 1})
    requests = [
        VideoRequest(prompt="a fox", id="1", input=a),
        VideoRequest(prompt="a fox", input=b),
        FOX,
        VideoRequest(prompt="a fox", seed=1),
        VideoRequest(prompt="a fox", id="5"),
    ]

    assert duplicates(requests) == [[1, 2], [3, 5]]
    assert duplicates([FOX]) == []


def test_a_flow_takes_requests_in_each_form_and_keeps_what_only_we_can_read() -> None:
    @flow
    def campaign(requests: list[VideoRequest | dict[str, Any] | str]) -> None: ...

    records = ["a fox", {"prompt": "a fox"}, FOX, {"prompt": "a fox", "id": NAN, "model": NAN}]
    given = campaign.validate_parameters({"requests": records})["requests"]

    assert given == ["a fox", FOX, FOX, records[3]]


def test_a_request_survives_json_and_a_pickle() -> None:
    request = VideoRequest(prompt="a fox", duration=5, input={"tags": ["a", 1]}, id="x")

    assert VideoRequest.model_validate_json(request.model_dump_json()) == request
    assert pickle.loads(pickle.dumps(request)) == request


WISHES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {}, {"model": "a/b", "input": {}}),
    ({"model": "c/d"}, {}, {"model": "c/d", "input": {}}),
    ({}, {"seed": 1, "duration": 5}, {"seed": 1, "duration": 5}),
    ({"seed": 0}, {"seed": 1, "resolution": "720p"}, {"seed": 0, "resolution": "720p"}),
    ({"input": {"x": 1}}, {"input": {"x": 2, "y": 3}}, {"input": {"x": 1, "y": 3}}),
    ({"input": {"x": None}}, {"input": {"x": 2}}, {"input": {"x": None}}),
    ({"seed": 1}, {"input": {"seed": 2, "prompt": "all"}}, {"seed": 1, "input": {}}),
    ({}, {"seed": 1, "input": {"seed": 2}}, {"seed": 1, "input": {"seed": 2}}),
]


@pytest.mark.parametrize(("request_fields", "defaults", "expected"), WISHES)
def test_what_a_request_says_wins_over_what_the_batch_says(
    request_fields: dict[str, Any], defaults: dict[str, Any], expected: dict[str, Any]
) -> None:
    options = VideoOptions.of(VideoRequest(prompt="a fox", **request_fields), "a/b", **defaults)

    assert {name: getattr(options, name) for name in expected} == expected
    assert options.prompt == "a fox"
