"""The requests of a batch, from any of the forms in which they are given."""

from __future__ import annotations

import asyncio
import difflib
import json
import math
import reprlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from prefect_replicate.api.connection import connection_to
from prefect_replicate.api.models import resolve_model
from prefect_replicate.batch.rows import OWN_INPUT, Row, read_rows, refuse
from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.exceptions import ReplicateError
from prefect_replicate.values import ModelRequest, VideoRequest
from prefect_replicate.values.model_schema import ModelSchema, did_you_mean

MAX_ITEMS = 10_000
_MOST_TOLD = 3

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 40


T = TypeVar("T")
R = TypeVar("R", VideoRequest, ModelRequest)

VIDEO_COLUMNS = tuple(VideoRequest.model_fields)


def requests_or_lines(
    requests: Sequence[T] | None, prompts: Sequence[str] | None
) -> list[T | str] | None:
    """Return the requests, or each line of the prompts as one: they may be pasted into a form.

    Raises:
        InvalidInputError: Both are given.
    """
    if prompts is None:
        return None if requests is None else [*requests]
    if requests is not None:
        refuse("Give `requests` or `prompts`, not both.")
    return [*_lines_of(prompts)]


def prompt_in(prompts: Sequence[str]) -> str:
    """Return the only line of the prompts, for `variations`: forms don't show `prompt`.

    Raises:
        InvalidInputError: There is none, or more than one.
    """
    lines = _lines_of(prompts)
    if len(lines) != 1:
        refuse(f"`variations` vary one prompt, but `prompts` has {len(lines)}; give a single line.")
    return lines[0]


def _lines_of(prompts: Sequence[str]) -> list[str]:
    return [line.strip() for prompt in prompts for line in prompt.splitlines() if line.strip()]


async def video_requests(
    requests: Sequence[VideoRequest | Mapping[str, Any] | str] | None = None,
    prompt: str | None = None,
    variations: Sequence[Mapping[str, Any]] | None = None,
    path: str | Path | None = None,
) -> list[VideoRequest]:
    """`requests_from` for `generate_videos`, where `prompt` is what all variations show."""
    varied = prompt is not None or variations is not None
    if (requests is not None) + varied + (path is not None) != 1:
        refuse(
            "Give exactly one of `requests`, `prompts`, `path`, and one prompt with `variations`."
        )
    if variations is None and prompt is not None:
        refuse("`prompt` also needs `variations`.")
    if varied and prompt is None:
        refuse("`variations` also need one prompt: a single line in `prompts`, or `prompt`.")
    base = {"prompt": prompt}
    return await requests_from(VideoRequest, requests, variations, path, base, VIDEO_COLUMNS)


async def model_requests(
    requests: Sequence[ModelRequest | Mapping[str, Any] | str] | None = None,
    variations: Sequence[Mapping[str, Any]] | None = None,
    path: str | Path | None = None,
) -> list[ModelRequest]:
    """`requests_from` for `run_models`, where what isn't a field of a request is an input."""
    if sum(one is not None for one in (requests, variations, path)) != 1:
        refuse("Give exactly one of `requests`, `prompts`, `variations` and `path`.")
    return await requests_from(ModelRequest, requests, variations, path)


async def requests_from(
    kind: type[R],
    requests: Sequence[R | Mapping[str, Any] | str] | None,
    variations: Sequence[Mapping[str, Any]] | None,
    path: str | Path | None,
    base: Mapping[str, Any] | None = None,
    columns: tuple[str, ...] = (),
) -> list[R]:
    """Read a batch, and check all of it before anything is paid.

    Args:
        kind: Type of the requests.
        requests: One for each item; a text is its prompt.
        variations: The fields in which each item differs from `base`.
        path: A CSV, JSONL or Parquet file of them, local or in a saved storage block.
        base: Fields of all variations.
        columns: Columns that the file may have; none: any.

    Raises:
        InvalidInputError: The batch is empty or too large, or some of it can't be read.
        ConfigurationError: The block can't be loaded, or Parquet needs pyarrow.
    """
    if path is not None:
        rows = await read_rows(path, MAX_ITEMS + 1, columns)
        _check_count(len(rows), f"{path} has no rows", f"more than {MAX_ITEMS:,}")
    elif requests is not None:
        _check_count(len(requests), "`requests` is empty", f"{len(requests):,}")
        rows = [Row(f"item {number}", one) for number, one in enumerate(requests, 1)]
    else:
        rows = _varied(base or {}, variations or ())
    return _all_or_none(kind, rows)


async def check_columns(
    path: str | Path,
    inputs: Iterable[tuple[str, Mapping[str, Any]]],
    credentials: ReplicateCredentials | None,
    own: Sequence[str] = (),
) -> None:
    """Refuse a file in which a row has a column that its model has no input for.

    A model that can't be looked up here is left to the check of each item, where the work is done.

    Args:
        path: The file, for the message.
        inputs: The model of each row, and the inputs that are columns of it.
        credentials: The account.
        own: Columns that are not inputs; if none, inputs have the prefix `input.`.

    Raises:
        InvalidInputError: There is such a column; the message names the first model's.
    """
    columns: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for model, input in inputs:
        columns[model] |= dict.fromkeys(input)
    schemas = await asyncio.gather(*(_schema_of(model, credentials) for model in columns))
    for schema, (model, names) in zip(schemas, columns.items(), strict=True):
        unknown = [] if schema.is_open else [one for one in names if one not in schema.inputs]
        if schema.is_known and unknown:
            prefix = "" if own else OWN_INPUT
            accepted = [*(prefix + one for one in schema.names), *own]
            wrong = [prefix + one for one in unknown[:5]]
            told = ", ".join(f"{one!r}{did_you_mean(one, accepted)}" for one in wrong)
            refuse(
                f"{path} has unknown columns: {told}; accepted for {model} are"
                f" {', '.join(accepted)}."
            )


async def _schema_of(model: str, credentials: ReplicateCredentials | None) -> ModelSchema:
    with suppress(ReplicateError):
        address = (credentials or ReplicateCredentials()).address()
        return (await resolve_model(connection_to(address), model)).schema
    return ModelSchema()


def duplicates(requests: Sequence[VideoRequest | ModelRequest]) -> list[list[int]]:
    """Group the numbers, from 1, of the requests that are equal in everything but their `id`."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for number, request in enumerate(requests, 1):
        content = request.model_dump(exclude={"id"})
        groups[json.dumps(content, sort_keys=True, default=repr)].append(number)
    return [group for group in groups.values() if len(group) > 1]


def _check_count(count: int, if_none: str, in_words: str) -> None:
    if count == 0:
        refuse(f"The batch is empty: {if_none}.")
    if count > MAX_ITEMS:
        refuse(
            f"The batch has {in_words} items, but a run takes at most {MAX_ITEMS:,}: it shows them"
            " in one table, and reads its ledger in pages. Split it into several runs."
        )


def _varied(base: Mapping[str, Any], variations: Sequence[Any]) -> list[Row]:
    _check_count(len(variations), "`variations` is empty", f"{len(variations):,}")
    return [
        Row(f"item {number}", {**base, **_given(cast("Mapping[str, Any]", one))})
        if isinstance(one, Mapping)
        else Row(
            f"item {number}",
            one,
            f"a variation must be a dict of what differs, not {_brief.repr(one)}",
        )
        for number, one in enumerate(variations, 1)
    ]


def _all_or_none(kind: type[R], rows: Sequence[Row]) -> list[R]:
    read = [_read(kind, row) for row in rows]
    bad = [(row.place, one) for row, one in zip(rows, read, strict=True) if isinstance(one, str)]
    if bad:
        told = "; ".join(f"{place}: {problem}" for place, problem in bad[:_MOST_TOLD])
        more = f"; and {len(bad) - _MOST_TOLD} more" if len(bad) > _MOST_TOLD else ""
        refuse(f"{len(bad)} of {len(rows)} items can't be used: {told}{more}. Correct them first.")
    return [one for one in read if not isinstance(one, str)]


def _read(kind: type[R], row: Row) -> R | str:
    """Return the request, or what is wrong with it."""
    if row.problem is not None:
        return row.problem
    if isinstance(row.content, kind):
        return row.content
    content: Any = {"prompt": row.content} if isinstance(row.content, str) else row.content
    if not isinstance(content, Mapping):
        what = type(content).__name__
        return f"a {what} is not a request; give a prompt, a dict or a {kind.__name__}"
    fields = _with_inputs(_given(cast("Mapping[str, Any]", content)), kind)
    try:
        return kind.model_validate(fields)
    except ValidationError as exc:
        return ", ".join(_phrase(one) for one in exc.errors(include_url=False))


def _given(content: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out missing values: None, or the NaN that pandas has for it."""
    return {k: v for k, v in content.items() if v is not None and not _is_nan(v)}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _with_inputs(content: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """Move each `input.NAME` into `input`, and for a `ModelRequest` all that isn't a field."""

    def is_own(name: str) -> bool:
        is_none = kind is ModelRequest and name not in kind.model_fields
        return name.startswith(OWN_INPUT) or is_none

    own = {k.removeprefix(OWN_INPUT): v for k, v in content.items() if is_own(k)}
    rest = {k: v for k, v in content.items() if not is_own(k)}
    whole = rest.get("input", {})
    return {**rest, "input": {**whole, **own}} if own and isinstance(whole, Mapping) else rest


def _phrase(error: ErrorDetails) -> str:
    field = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{field} is missing"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(field, VIDEO_COLUMNS, n=1)
        accepted = f"accepted are {', '.join(VIDEO_COLUMNS)}"
        hint = f"did you mean {close[0]!r}?" if close else accepted
        return f"{field!r} is unknown ({hint}; the model's own inputs go into `input`)"
    if error["type"] == "value_error":
        return f"{field}: {error['msg'].removeprefix('Value error, ').rstrip('.')}"
    return f"{field} {_brief.repr(error['input'])} {error['msg'].removeprefix('Input ')}"
