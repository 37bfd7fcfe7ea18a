"""Reading replies: the expected object, or the error; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, TypeVar, cast

import httpx
from pydantic import BaseModel, ValidationError

from prefect_replicate.api.throttle import Limit
from prefect_replicate.exceptions import APIError
from prefect_replicate.text import in_line
from prefect_replicate.values import Prediction

_SECONDS = re.compile(r"\d+(\.\d+)?")
_LONGEST_RESET = 120.0
_IN_TEXT = re.compile(r"resets in ~(\d+(?:\.\d+)?)\s*s")
_REDUCED = re.compile(r"\b(\d{1,9}) requests per minute(?: with a burst of (\d{1,9})\b)?")

_DEEPEST = 100
"""Levels of nested lists and objects; the deepest schemas on record have a tenth of that."""

_MOST_VALUES = 10_000_000
"""More would take gigabytes, and block the engine's loop for many seconds."""

M = TypeVar("M", bound=BaseModel)


def read_json(content: bytes) -> Any:
    """Read a reply's JSON; values nested more than a hundred levels deep become `None`.

    Code that walks through them would fail, and the rest of the reply may have been paid for.

    Raises:
        ValueError: It is not JSON, or has overlong numbers, too many values or too much nesting.
    """
    brackets = content.count(b"[") + content.count(b"{")
    if brackets + content.count(b",") > _MOST_VALUES:
        raise ValueError(f"it has over {_MOST_VALUES:,} values")
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if brackets > _DEEPEST:
        _cut_off(value)
    return value


def _cut_off(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST - 1):
        level = [one for outer in level for _, one in _inner(outer)]
        if not level:
            return
    for outer in level:
        for key, _ in list(_inner(outer)):
            outer[key] = None


def _inner(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return the lists and objects within a value, each with its key or index."""
    items = list[tuple[Any, Any]]()
    if isinstance(value, dict):
        items = list(cast("dict[str, Any]", value).items())
    elif isinstance(value, list):
        items = list(enumerate(cast("list[Any]", value)))
    return (one for one in items if isinstance(one[1], dict | list))


def parsed(kind: type[M], reply: Any) -> M:
    """Read a reply's JSON as a model.

    Raises:
        APIError: It lacks a value that every such reply has.
    """
    try:
        return kind.model_validate(reply)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        what = kind.__name__.strip("_").lower()
        raise APIError(f"Replicate's reply is not a {what}: {where}: {first['msg']}") from exc


def created_at(reply: Any) -> datetime | None:
    """Return when a prediction was created, if the reply is a prediction and says so."""
    try:
        return Prediction.model_validate(reply).created_at
    except ValidationError:
        return None


def error_in(reply: httpx.Response, what: str) -> APIError:
    """Read an error reply in any of the forms on record: problem+json, HTML, plain text, empty."""
    body = _object_in(reply)
    detail = body.get("detail") or body.get("title") or _text_of(reply)
    return APIError(f"{what}: HTTP {reply.status_code}: {in_line(detail)}", reply.status_code)


def retry_after(reply: httpx.Response) -> float | None:
    """Return the seconds that a 429 or 503 asks us to wait: header, then body, then its text."""
    body = _object_in(reply)
    for stated in (reply.headers.get("retry-after"), body.get("retry_after")):
        # Anything else is absent, or an HTTP date, which Replicate does not send.
        if number := _SECONDS.fullmatch(str(stated)):
            return float(number[0])
    in_text = _IN_TEXT.search(str(body.get("detail", "")))
    return float(in_text[1]) if in_text else None


def allowance(reply: httpx.Response) -> tuple[float, float] | None:
    """Return the requests left, and seconds until all are; replies about files don't say."""
    stated = [reply.headers.get(f"ratelimit-{name}", "") for name in ("remaining", "reset")]
    remaining, reset = map(_SECONDS.fullmatch, stated)
    if not remaining or not reset:
        return None
    # The largest bucket is full again in a minute: no reply may make us wait much longer.
    return float(remaining[0]), min(float(reset[0]), _LONGEST_RESET)


def reduced_limit(reply: httpx.Response) -> Limit | None:
    """Return the limit that a 429 names, as it does for accounts with little credit."""
    named = _REDUCED.search(str(_object_in(reply).get("detail", "")))
    if named is None or not int(named[1]):
        return None
    return Limit(int(named[1]) / 60, max(1, int(named[2] or 1)))


def _object_in(reply: httpx.Response) -> dict[str, Any]:
    try:
        body = read_json(reply.content)
    except ValueError:
        return {}
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}


def text_of(reply: httpx.Response) -> str:
    """Return the beginning of a reply on one line, whatever encoding it declares."""
    return in_line(reply.content[:10_000].decode(errors="replace"), 200)


def _text_of(reply: httpx.Response) -> str:
    if "html" in reply.headers.get("content-type", ""):
        return "an HTML page instead of JSON"
    return text_of(reply) or reply.reason_phrase or "an empty reply"
