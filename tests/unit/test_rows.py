from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from typing import Any

import pytest

from prefect_replicate.batch.requests import VIDEO_COLUMNS
from prefect_replicate.batch.rows import Row, reader_for
from prefect_replicate.exceptions import ConfigurationError, InvalidInputError


def read(name: str, content: bytes | str) -> list[Row]:
    file = BytesIO(content.encode() if isinstance(content, str) else content)
    return list(reader_for(name)(file, name, VIDEO_COLUMNS))


def parquet(columns: dict[str, list[Any]]) -> bytes:
    arrow = pytest.importorskip("pyarrow")
    file = BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("header", "line", "content"),
    [
        ("prompt", "a fox", {"prompt": "a fox"}),
        ("prompt,seed", "a fox,7", {"prompt": "a fox", "seed": "7"}),
        ("prompt,seed,model", "a fox,, ", {"prompt": "a fox"}),
        ("prompt,seed", "a fox", {"prompt": "a fox"}),
        (" prompt , seed ", "a fox,7", {"prompt": "a fox", "seed": "7"}),
        ("prompt", '"a ""red"" fox, running"', {"prompt": 'a "red" fox, running'}),
        ("prompt", '"a fox\nand a hen"', {"prompt": "a fox\nand a hen"}),
        ("prompt,input.fps", "a fox,24", {"prompt": "a fox", "input.fps": "24"}),
        ("prompt,input.loop", "a fox,true", {"prompt": "a fox", "input.loop": "true"}),
        ("prompt,input.tags", 'a fox,"[1, ""b""]"', {"prompt": "a fox", "input.tags": '[1, "b"]'}),
        ("prompt,input.style", "a fox,noir", {"prompt": "a fox", "input.style": "noir"}),
        ("prompt,input.style", "a fox,NaN", {"prompt": "a fox", "input.style": "NaN"}),
        ("prompt,input", 'a fox,"{""fps"": 24}"', {"prompt": "a fox", "input": {"fps": 24}}),
    ],
)
def test_a_csv_cell_is_text_and_the_column_input_is_json(
    header: str, line: str, content: dict[str, Any]
) -> None:
    [row] = read("a.csv", f"{header}\n{line}\n")

    assert row == Row("row 1 of a.csv (line 2)", content)


def test_csv_rows_are_numbered_by_record_and_say_the_line_on_which_they_begin() -> None:
    rows = read("a.csv", '\nprompt,seed\n\n"two\nlines",1\r\n,\n\nlast,2\n')

    assert [row.place for row in rows] == ["row 1 of a.csv (line 4)", "row 3 of a.csv (line 8)"]


def test_what_excel_saves_is_read() -> None:
    [row] = read("a.csv", "prompt\r\nein größerer Fuchs\r\n".encode("utf-8-sig"))

    assert row.content == {"prompt": "ein größerer Fuchs"}


def test_a_comma_too_many_is_told_with_its_row() -> None:
    [row, good] = read("a.csv", "prompt,seed\na fox, running,7\na hen,8\n")

    assert row.problem == "it has 3 cells for 2 columns; a cell with a comma in it must be quoted"
    assert good.problem is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "a.csv is empty; its first line must name the columns"),
        ("prompt,steps\n", "a.csv has unknown columns: 'steps'; accepted are prompt, .*, id,"),
        ("prompt,steps\n", "and 'input.NAME' for the model's own inputs. Nothing was paid.$"),
        ("prompt,input.\n", "unknown columns: 'input.'"),
        (",prompt\n", "unknown columns: ''"),
        ("prompt;seed\n", "of a.csv must be separated by commas, not by semicolons. Nothing was"),
        ("prompt\tseed\n", "of a.csv must be separated by commas, not by tabs. Nothing was paid"),
        ("prompt,seed,seed\n", "duplicate columns: 'seed'"),
        ('prompt\na fox\n"a hen\n', "can't be read as CSV from line 3 on: unexpected end of data"),
        ("prompt\n" + "x" * 200_000, "from line 2 on: field larger than field limit"),
        ("prompt\nFüchse\n".encode("latin-1"), "Line 2 of a.csv is not UTF-8 text; save the file"),
        ("prompt\n".encode("utf-16"), "Line 1 of a.csv is not UTF-8 text"),
    ],
)  # fmt: skip
def test_a_csv_that_can_not_be_understood_is_refused(content: bytes | str, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        read("a.csv", content)


def test_jsonl_has_an_object_a_line_and_may_have_blank_ones() -> None:
    rows = read("a.jsonl", '\ufeff{"prompt": "a fox"}\n\n{"prompt": "ü", "input": {"fps": null}}\n')

    assert rows == [
        Row("row 1 of a.jsonl (line 1)", {"prompt": "a fox"}),
        Row("row 2 of a.jsonl (line 3)", {"prompt": "ü", "input": {"fps": None}}),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{prompt}", "it is not JSON (Expecting property name enclosed in double quotes: line 1"),
        ('"a fox"', "it is not an object in braces"),
        ('["a fox"]', "it is not an object in braces"),
    ],
)
def test_a_bad_jsonl_line_does_not_hide_the_others(line: str, problem: str) -> None:
    bad, good = read("a.ndjson", f'{line}\n{{"prompt": "a hen"}}\n')

    assert bad.problem is not None
    assert bad.problem.startswith(problem)
    assert good == Row("row 2 of a.ndjson (line 2)", {"prompt": "a hen"})


def test_parquet_rows_come_with_their_types_and_without_nulls() -> None:
    content = parquet(
        {
            "prompt": ["a fox", "b"],
            "duration": [5.0, None],
            "input": [{"fps": 24, "style": None}, {"fps": None, "style": "noir"}],
            "input.loop": [None, True],
            "__index_level_0__": [3, 9],
        }
    )

    assert read("a.parquet", content) == [
        Row("row 1 of a.parquet", {"prompt": "a fox", "duration": 5.0, "input": {"fps": 24}}),
        Row("row 2 of a.parquet", {"prompt": "b", "input": {"style": "noir"}, "input.loop": True}),
    ]


def test_parquet_is_refused_as_csv_is() -> None:
    with pytest.raises(InvalidInputError, match=r"a.parquet has unknown columns: 'steps'"):
        read("a.parquet", parquet({"prompt": ["a fox"], "steps": [3]}))
    with pytest.raises(InvalidInputError, match=r"a.parquet can't be read as Parquet: .*paid"):
        read("a.parquet", b"prompt\na fox\n")


def test_parquet_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigurationError, match=r"pip install pyarrow"):
        read("a.parquet", b"")


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.csv.gz", "csv"])
def test_another_kind_of_file_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} can't be read; .* .csv, .jsonl, .ndjson"):
        reader_for(name)


def test_the_kind_is_told_by_the_suffix_in_any_case() -> None:
    assert reader_for("A.CSV") is reader_for("b.csv")


class Endless(BytesIO):
    """A file that never ends."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield json.dumps({"prompt": "a fox"}).encode()


def test_no_more_is_read_than_is_asked_for() -> None:
    assert len(list(islice(reader_for("a.jsonl")(Endless(), "a.jsonl", ()), 3))) == 3
