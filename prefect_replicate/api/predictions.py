"""The prediction routes: create, get, cancel, list."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Container, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlencode

from pydantic import BaseModel

from prefect_replicate.api.connection import Connection, LostReplyError
from prefect_replicate.api.models import ResolvedModel
from prefect_replicate.api.replies import created_at, parsed
from prefect_replicate.api.throttle import URGENT_SECONDS, Turn
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import APIError, InvalidInputError
from prefect_replicate.values import Prediction
from prefect_replicate.values.prediction import KNOWN_STATUSES

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_MOST_PAGES = 1000
_logger = logging.getLogger(__name__)


class _Page(BaseModel):
    results: list[Any]
    next: Any = None


class ListPage(NamedTuple):
    """One page of the account's predictions."""

    rows: int
    """How many are on it, including those of others."""
    oldest: datetime | None
    """The earliest creation time on it, if stated."""
    is_last: bool
    characters: int
    """The length of the inputs on it, roughly the page's size."""
    predictions: Sequence[Prediction]


class _UnknownStatuses(set[str]):
    """Those that were already logged."""


async def post_prediction(
    connection: Connection,
    model: ResolvedModel,
    input: dict[str, Any],
    cancel_after: float,
    turn: Turn,
) -> Prediction:
    """Send one create.

    Args:
        connection: To the account.
        model: Decides the route.
        input: JSON, with no local files left in it.
        cancel_after: Seconds from creation after which Replicate ends it; at least 5.
        turn: Its place in the queue, already at the front.

    Raises:
        Refused: It was not processed; another attempt may succeed.
        LostReplyError: It was sent, and whether a prediction exists is unknown.
        InvalidInputError: Replicate rejected the input or the version, and started nothing.
    """
    body: dict[str, Any] = {"input": input}
    if model.version is not None:
        body["version"] = model.version
    headers = {"Cancel-After": f"{max(5, round(cancel_after))}s"}
    try:
        reply = await connection.write_once(model.create_path, turn, json=body, headers=headers)
    except APIError as exc:
        if exc.status == 404:
            raise InvalidInputError(
                f"{model.reference} was not started: Replicate has no such model for this account,"
                f" or it can't be run. Check the spelling. Nothing was paid. ({exc})"
            ) from exc
        if exc.status != 422:
            raise
        raise InvalidInputError(f"{model.reference} was not started: {exc}") from exc
    try:
        return _read(reply)
    except APIError as exc:
        raise LostReplyError(str(exc)) from exc


async def get_prediction(connection: Connection, prediction_id: str) -> Prediction:
    return _read(await connection.read("GET", _path(prediction_id)))


async def look_at_prediction(connection: Connection, prediction_id: str) -> Prediction:
    """`get_prediction` without retries, for a caller with its own back-off."""
    return _read(await connection.read_once(_path(prediction_id)))


async def look_at_page(
    connection: Connection, created_after: float, created_before: float, wanted: Container[str]
) -> ListPage:
    """Return the newest 100 created in a time span, for a caller with its own back-off.

    Only `wanted` predictions are parsed. An unreadable one is skipped, so that it doesn't break the
    others.
    """
    params = {
        "created_after": _moment(created_after),
        "created_before": _moment(created_before),
    }
    page = parsed(_Page, await connection.read_once("/v1/predictions", params=params))
    ours = [item for item in page.results if _id_of(item) in wanted]
    return ListPage(
        rows=len(page.results),
        oldest=created_at(page.results[-1]) if page.results else None,
        is_last=not page.next,
        characters=sum(map(_characters_of, page.results)),
        predictions=[one for one in map(_read_or_none, ours) if one is not None],
    )


async def post_cancel(connection: Connection, prediction_id: str) -> Prediction:
    """Request a cancel; the reply may still say `processing`."""
    path = f"{_path(prediction_id)}/cancel"
    return _read(await connection.read("POST", path, longest_pause=URGENT_SECONDS))


async def list_predictions(
    connection: Connection, created_after: datetime
) -> AsyncIterator[Prediction]:
    """Yield the account's predictions since a time, newest first, 100 per request.

    An unreadable one is skipped: nothing could show which create made it.

    Raises:
        APIError: The list could not be read, or has no end.
    """
    query = urlencode({"created_after": created_after.isoformat()})
    read: set[str] = set()
    while query:
        if query in read or len(read) >= _MOST_PAGES:
            raise APIError(
                "GET /v1/predictions: the list's next page was already read, or the list has more"
                f" than {_MOST_PAGES} pages."
            )
        read.add(query)
        page = parsed(_Page, await connection.read("GET", f"/v1/predictions?{query}"))
        for prediction in map(_read_or_none, page.results):
            if prediction is not None:
                yield prediction
        query = _query_of(page.next)


def _query_of(next_page: Any) -> str:
    """Return the query of a full URL, quoted where needed; the rest of the URL is ours."""
    text = next_page if isinstance(next_page, str) else ""
    query = text.partition("#")[0].partition("?")[2]
    return quote(query, safe="=&%+-_.~:/?@!$'()*,;", errors="replace")


def _path(prediction_id: str) -> str:
    if not _ID.fullmatch(prediction_id):
        raise InvalidInputError(
            f"{prediction_id!r} is not a prediction id. An id is letters and digits, such as"
            " 'vrsafsk7mnrgj0cf0p2ax766s4'."
        )
    return f"/v1/predictions/{prediction_id}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def _id_of(item: Any) -> str:
    fields = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
    return str(fields.get("id"))


def _characters_of(item: Any) -> int:
    """Return the total length of its input's texts, which may be whole images."""
    fields = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
    given = fields.get("input")
    values = cast("dict[str, Any]", given).values() if isinstance(given, dict) else ()
    return sum(len(value) for value in values if isinstance(value, str))


def _read_or_none(item: Any) -> Prediction | None:
    try:
        return _read(item)
    except APIError:
        return None


def _read(reply: Any) -> Prediction:
    prediction = parsed(Prediction, reply)
    if not _ID.fullmatch(prediction.id):
        raise APIError(f"Replicate's reply is not a prediction: its id is {prediction.id!r}")
    if prediction.status not in KNOWN_STATUSES:
        _warn_once(prediction.status)
    return prediction


def _warn_once(status: str) -> None:
    warned = process_state("unknown statuses", _UnknownStatuses)
    if status not in warned:
        warned.add(status)
        _logger.warning("Replicate reports the unknown status %r; treated as unfinished.", status)
