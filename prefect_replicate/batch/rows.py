"""The rows of a CSV, JSONL or Parquet file, local or in a block, each with where it was found."""

from __future__ import annotations

import csv
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NoReturn, TypeAlias

from prefect.blocks.abstract import ObjectStorageBlock
from prefect.filesystems import ReadableFileSystem, WritableFileSystem

from prefect_replicate.engine import in_thread
from prefect_replicate.exceptions import ConfigurationError, InvalidInputError, ReplicateError
from prefect_replicate.outputs.destination import call_block, load_block
from prefect_replicate.outputs.failure import one_line

OWN_INPUT = "input."
"""The prefix of a column that is one of the model's own inputs."""

# pandas writes the index of a filtered frame as such a column.
_PANDAS_INDEX = "__index_level_"
_PARQUET_ROWS_AT_ONCE = 1000

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}
"""No column has these in its name."""


@dataclass(frozen=True)
class Row:
    """The source of one item, as it was found."""

    place: str
    """Such as `row 17 of campaign.csv (line 19)`, or `item 3`."""
    content: Any
    problem: str | None = None
    """Why it can't be read at all."""


Reader = Callable[[BinaryIO, str, tuple[str, ...]], Iterator[Row]]
"""Gets a file, its name in messages, and the columns that are allowed; none: any."""


def reader_for(name: str) -> Reader:
    """Choose a reader by the suffix of `name`, the file's name in messages.

    Raises:
        InvalidInputError: The suffix is not supported.
    """
    reader = _READERS.get(PurePath(name).suffix.casefold())
    if reader is None:
        refuse(f"{name} can't be read; accepted are {', '.join(_READERS)}.")
    return reader


def refuse(message: str) -> NoReturn:
    """Refuse a batch, and say that nothing was paid.

    Raises:
        InvalidInputError: Always.
    """
    raise InvalidInputError(f"{message} Nothing was paid.")


def _csv_rows(file: BinaryIO, name: str, known: tuple[str, ...]) -> Iterator[Row]:
    reader = csv.reader(_lines(file, name), strict=True)
    columns: list[str] = []
    number = 0
    for line, cells in _records(reader, name):
        if not columns:
            columns = [cell.strip() for cell in cells]
            while columns and not columns[-1]:  # as Excel ends rows
                del columns[-1]
            _check_separators(columns, name)
            _check_columns(columns, name, known)
            continue
        number += 1
        row = _csv_row(f"row {number} of {name} (line {line})", columns, cells)
        if row.content or row.problem:
            yield row
    if not columns:
        refuse(f"{name} is empty; its first line must name the columns.")


def _records(reader: Any, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line on which it begins; skip blank lines."""
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as exc:
        refuse(f"{name} can't be read as CSV from line {line} on: {exc}.")


def _csv_row(place: str, columns: list[str], cells: list[str]) -> Row:
    while len(cells) > len(columns) and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) > len(columns):
        problem = f"it has {len(cells)} cells for {len(columns)} columns"
        return Row(place, {}, f"{problem}; a cell with a comma in it must be quoted")
    return Row(
        place,
        {
            column: _from_json(cell) if column == "input" else cell
            for column, cell in zip(columns, cells, strict=False)
            if column and cell.strip()
        },
    )


def _from_json(cell: str) -> Any:
    """Parse a cell as JSON if it is JSON; else it stays text."""
    try:
        return json.loads(cell, parse_constant=_no_constant)
    except ValueError:
        return cell


def _no_constant(word: str) -> NoReturn:
    """Refuse `NaN` and `Infinity`, which Python accepts but JSON doesn't have."""
    raise ValueError(word)


def _jsonl_rows(file: BinaryIO, name: str, _: tuple[str, ...]) -> Iterator[Row]:
    lines = enumerate(_lines(file, name), 1)
    objects = ((line, text) for line, text in lines if text.strip())
    for number, (line, text) in enumerate(objects, 1):
        place = f"row {number} of {name} (line {line})"
        try:
            content = json.loads(text)
        except ValueError as exc:
            yield Row(place, {}, f"it is not JSON ({exc})")
            continue
        problem = None if isinstance(content, dict) else "it is not an object in braces"
        yield Row(place, content, problem)


def _parquet_rows(file: BinaryIO, name: str, known: tuple[str, ...]) -> Iterator[Row]:
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as exc:
        raise ConfigurationError(
            f"Reading {name} needs pyarrow: pip install pyarrow. Nothing was paid."
        ) from exc
    try:
        table = parquet.ParquetFile(file)
        _check_columns([c for c in table.schema_arrow.names if not _is_index(c)], name, known)
        batches = table.iter_batches(batch_size=_PARQUET_ROWS_AT_ONCE)
        cells = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(cells, 1):
            yield Row(f"row {number} of {name}", _without_nulls(row))
    except ReplicateError:
        raise
    except (arrow.ArrowException, OSError, ValueError) as exc:
        refuse(f"{name} can't be read as Parquet: {' '.join(str(exc).split())[:200]}.")


def _is_index(column: str) -> bool:
    return column.startswith(_PANDAS_INDEX)


def _without_nulls(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out empty cells: every row of a struct column has all of the struct's fields."""
    left = {k: v for k, v in cells.items() if v is not None and not _is_index(k)}
    if isinstance(left.get("input"), dict):
        left["input"] = {k: v for k, v in left["input"].items() if v is not None}
    return left


def _check_separators(columns: Sequence[str], name: str) -> None:
    found = [words for mark, words in _OTHER_SEPARATORS.items() if mark in "".join(columns)]
    if found:
        refuse(f"The columns of {name} must be separated by commas, not by {found[0]}.")


def _check_columns(columns: Sequence[str], name: str, known: tuple[str, ...]) -> None:
    own = [c for c in columns if c.removeprefix(OWN_INPUT) not in ("", c)]
    unknown = [repr(c) for c in columns if known and c not in known and c not in own]
    accepted = f"accepted are {', '.join(known)}, and 'input.NAME' for the model's own inputs"
    if unknown:
        refuse(f"{name} has unknown columns: {', '.join(unknown[:5])}; {accepted}.")
    twice = sorted({repr(c) for c in columns if columns.count(c) > 1})
    if twice:
        refuse(f"{name} has duplicate columns: {', '.join(twice)}.")


def _lines(file: BinaryIO, name: str) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            # Excel begins its UTF-8 with a byte order mark.
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            refuse(f"Line {number} of {name} is not UTF-8 text; save the file as UTF-8.")


_READERS: dict[str, Reader] = {
    ".csv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".parquet": _parquet_rows,
}


_ReadableBlock: TypeAlias = ReadableFileSystem | WritableFileSystem | ObjectStorageBlock

_BLOCK_PATH = re.compile(r"block:([^/]+/[^/]+)/(.+)")
_FORMS = "a local file, or 'block:<type-slug>/<name>/<path>' for a file in a saved storage block"


async def read_rows(path: str | Path, most: int, known: tuple[str, ...] = ()) -> list[Row]:
    """Read a file's rows, and no more of the file than necessary.

    Args:
        path: A local file, or `block:<type-slug>/<name>/<path>`; the suffix determines its kind.
        most: How many rows to read.
        known: The columns that are allowed, besides `input.NAME`; none: any.

    Raises:
        InvalidInputError: The file doesn't exist, or can't be read as its suffix says.
        ConfigurationError: The block can't be loaded or read from, or pyarrow is missing.
    """
    name = str(path)
    reader = _reader_of(name)
    if not name.startswith("block:"):
        return await in_thread(_read_local, name, reader, most, known)
    content = BytesIO(await _from_block(name))
    return await in_thread(lambda: list(islice(reader(content, name, known), most)))


def _reader_of(name: str) -> Reader:
    is_block = name.startswith("block:")
    if not name or "://" in name or (is_block and not _BLOCK_PATH.fullmatch(name)):
        refuse(f"{name!r} is not a file with rows; give {_FORMS}.")
    return reader_for(name)


def _read_local(name: str, reader: Reader, most: int, known: tuple[str, ...]) -> list[Row]:
    try:
        with Path(name).expanduser().open("rb") as file:
            return list(islice(reader(file, name, known), most))
    except ReplicateError:
        raise
    except (OSError, RuntimeError, ValueError) as exc:  # an unknown ~user, a null byte
        reason = (isinstance(exc, OSError) and exc.strerror) or exc
        place = "" if Path(name).is_absolute() else f" in {Path.cwd()}"
        refuse(f"No rows can be read from {name!r}{place}: {reason}.")


async def _from_block(reference: str) -> bytes:
    match = _BLOCK_PATH.fullmatch(reference)
    assert match is not None
    block = await load_block(match[1], repr(reference))
    if not isinstance(block, _ReadableBlock):
        raise ConfigurationError(
            f"No rows can be read from {reference!r}: a {type(block).__name__} is not a storage"
            " block (a ReadableFileSystem or an ObjectStorageBlock). Nothing was paid."
        )
    try:
        return await _content(block, match[2])
    except Exception as exc:  # noqa: BLE001 - a block may raise anything at all
        refuse(f"No rows can be read from {reference!r}: {one_line(exc)}.")


async def _content(block: _ReadableBlock, path: str) -> bytes:
    if not isinstance(block, ObjectStorageBlock):
        return await call_block(block, "read_path", path)
    content = BytesIO()
    await call_block(block, "download_object_to_file_object", path, content)
    return content.getvalue()
