"""What a batch is to make, from any of the forms in which it is given."""

from __future__ import annotations

import difflib
import json
import math
import reprlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from prefect_replicate.batch.rows import COLUMNS, OWN_INPUT, Row, read_rows, refuse
from prefect_replicate.values import VideoRequest

MAX_ITEMS = 10_000
_MOST_TOLD = 3

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 40


async def requests_from(
    requests: Sequence[VideoRequest | Mapping[str, Any] | str] | None = None,
    prompt: str | None = None,
    variations: Sequence[Mapping[str, Any]] | None = None,
    path: str | Path | None = None,
) -> list[VideoRequest]:
    """Read a batch, and check all of it before anything is paid.

    Args:
        requests: One for each video; a text is its prompt.
        prompt: With `variations`: what all of them show, where one doesn't say otherwise.
        variations: With `prompt`: the fields of `VideoRequest` in which each video differs.
        path: A CSV, JSONL or Parquet file of them, local or in a saved storage block.

    Raises:
        InvalidInputError: There is nothing to make, or too much, or some of it can't be read.
        ConfigurationError: The block can't be loaded, or Parquet needs pyarrow.
    """
    _check_form(requests, prompt, variations, path)
    if path is not None:
        rows = await read_rows(path, MAX_ITEMS + 1)
        _check_count(len(rows), f"{path} has no rows", f"more than {MAX_ITEMS:,}")
    elif requests is not None:
        _check_count(len(requests), "`requests` is empty", f"{len(requests):,}")
        rows = [Row(f"item {number}", one) for number, one in enumerate(requests, 1)]
    else:
        rows = _varied(prompt, variations or ())
    return _all_or_none(rows)


def duplicates(requests: Sequence[VideoRequest]) -> list[list[int]]:
    """Group the numbers, from 1, of the requests that are equal in everything but their `id`."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for number, request in enumerate(requests, 1):
        content = request.model_dump(exclude={"id"})
        groups[json.dumps(content, sort_keys=True, default=repr)].append(number)
    return [group for group in groups.values() if len(group) > 1]


def _check_form(requests: Any, prompt: Any, variations: Any, path: Any) -> None:
    varied = prompt is not None or variations is not None
    if (requests is not None) + varied + (path is not None) != 1:
        refuse("Give exactly one of `requests`, `prompt` with `variations`, and `path`.")
    if varied and (prompt is None or variations is None):
        given, missing = (
            ("prompt", "variations") if variations is None else ("variations", "prompt")
        )
        refuse(f"`{given}` needs `{missing}` beside it.")


def _check_count(count: int, if_none: str, in_words: str) -> None:
    if count == 0:
        refuse(f"The batch is empty: {if_none}.")
    if count > MAX_ITEMS:
        refuse(
            f"The batch has {in_words} items, and a run takes at most {MAX_ITEMS:,}: it shows them"
            " in one table, and reads its ledger in pages. Split it into several runs."
        )


def _varied(prompt: str | None, variations: Sequence[Any]) -> list[Row]:
    _check_count(len(variations), "`variations` is empty", f"{len(variations):,}")
    return [
        Row(f"item {number}", {"prompt": prompt, **_given(cast("Mapping[str, Any]", one))})
        if isinstance(one, Mapping)
        else Row(
            f"item {number}", one, f"a variation is a dict of what differs, not {_brief.repr(one)}"
        )
        for number, one in enumerate(variations, 1)
    ]


def _all_or_none(rows: Sequence[Row]) -> list[VideoRequest]:
    read = [_read(row) for row in rows]
    bad = [(row.place, one) for row, one in zip(rows, read, strict=True) if isinstance(one, str)]
    if bad:
        told = "; ".join(f"{place}: {problem}" for place, problem in bad[:_MOST_TOLD])
        more = f"; and {len(bad) - _MOST_TOLD} more" if len(bad) > _MOST_TOLD else ""
        refuse(f"{len(bad)} of {len(rows)} items can't be used: {told}{more}. Correct them first.")
    return [one for one in read if isinstance(one, VideoRequest)]


def _read(row: Row) -> VideoRequest | str:
    """The request, or what is wrong with it."""
    if row.problem is not None:
        return row.problem
    if isinstance(row.content, VideoRequest):
        return row.content
    content: Any = {"prompt": row.content} if isinstance(row.content, str) else row.content
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__} is no request; give a prompt, a dict or a VideoRequest"
    try:
        return VideoRequest.model_validate(_with_inputs(_given(cast("Mapping[str, Any]", content))))
    except ValidationError as exc:
        return ", ".join(_phrase(one) for one in exc.errors(include_url=False))


def _given(content: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is not given: None, or the NaN that pandas has for it."""
    return {k: v for k, v in content.items() if v is not None and not _is_nan(v)}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _with_inputs(content: Mapping[str, Any]) -> dict[str, Any]:
    """Move each `input.NAME` into `input`."""
    own = {k.removeprefix(OWN_INPUT): v for k, v in content.items() if k.startswith(OWN_INPUT)}
    rest = {k: v for k, v in content.items() if not k.startswith(OWN_INPUT)}
    whole = rest.get("input", {})
    return {**rest, "input": {**whole, **own}} if own and isinstance(whole, Mapping) else rest


def _phrase(error: ErrorDetails) -> str:
    field = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{field} is missing"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(field, COLUMNS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"accepted are {', '.join(COLUMNS)}"
        return f"{field!r} is unknown ({hint}; the model's own inputs go into `input`)"
    if error["type"] == "value_error":
        return f"{field}: {error['msg'].removeprefix('Value error, ').rstrip('.')}"
    return f"{field} {_brief.repr(error['input'])} {error['msg'].removeprefix('Input ')}"
