"""JSON in and out of the routes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_replicate.emulator import problems
from prefect_replicate.emulator.paging import page_of
from prefect_replicate.emulator.platform import platform_of

T = TypeVar("T")


async def read_json(request: Request) -> Any:
    """Return the body of `request`, or raise a 400 if it is not JSON."""
    return parsed(await request.body(), "The request body")


def parsed(text: str | bytes, what: str) -> Any:
    """Parse JSON, or raise a 400 if it is invalid or nested too deeply."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as exc:
        raise problems.bad_request(f"{what} is not valid JSON: {exc}") from exc


def paged(
    request: Request,
    items: Sequence[T],
    key: Callable[[T], str],
    write: Callable[[T], Any],
    size: int = 100,
) -> Response:
    """Return the page of `items` that the request's `cursor` asks for."""
    try:
        page = page_of(items, key, request.query_params.get("cursor"), size)
    except ValueError as exc:
        raise problems.bad_request(str(exc)) from exc
    return JSONResponse(
        {
            "next": _page_url(request, page.next),
            "previous": _page_url(request, page.previous),
            "results": [write(item) for item in page.items],
        }
    )


async def answer_problem(request: Request, exc: Exception) -> Response:
    """Turn a `Problem` that a route raised into its reply."""
    assert isinstance(exc, problems.Problem)
    return exc.reply()


def _page_url(request: Request, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    url = request.url.include_query_params(cursor=cursor)
    return f"{platform_of(request).base_url}{url.path}?{url.query}"


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is out of range")
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
