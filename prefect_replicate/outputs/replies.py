"""What to ask a file host for, and what its reply means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from prefect_replicate.outputs.failure import Gone, Refused, TryAgain

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_TRY_AGAIN = frozenset({408, 425, 429})


class Body(NamedTuple):
    """The bytes that a reply brings."""

    start: int
    """Where in the file they begin."""
    total: int | None
    """The size of the whole file, where the host states it."""
    etag: str | None
    content_type: str | None


def range_headers(size: int, etag: str | None) -> dict[str, str]:
    """Ask for what is missing, on the condition that the file is still the same one."""
    if not size or etag is None:
        return {}
    return {"Range": f"bytes={size}-", "If-Range": etag}


def read_reply(status: int, headers: Mapping[str, str], size: int) -> Body | None:
    """Say which bytes follow; `None` where the bytes that we have are of no use.

    Args:
        status: The HTTP status of the reply.
        headers: Its headers, to be found in any case.
        size: How many bytes were there when it was asked for.

    Raises:
        Gone: The file was deleted.
        TryAgain: The host can't answer at the moment.
        Refused: The host won't answer.
    """
    if status in (200, 206) and headers.get("content-encoding", "identity") != "identity":
        raise Refused("its host compresses it although we asked it not to")
    if status == 200:
        return _body(headers, 0, _number(headers.get("content-length")))
    if status == 206:
        return _partial(headers, size)
    if status == 416:
        return None
    if status in (404, 410):
        raise Gone
    if status in _TRY_AGAIN or status >= 500:
        # A date is as good as no answer: the growing pause does.
        raise TryAgain(f"HTTP {status}", _number(headers.get("retry-after")) or 0)
    raise Refused(f"its host answered HTTP {status}")


def _partial(headers: Mapping[str, str], size: int) -> Body | None:
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if match is None or int(match[1]) != size:
        return None
    return _body(headers, size, _number(match[2]))


def _body(headers: Mapping[str, str], start: int, total: int | None) -> Body:
    etag = headers.get("etag")
    if etag is not None and etag.startswith("W/"):
        etag = None  # RFC 9110, 13.1.5: a weak one can't vouch for bytes
    return Body(start, total, etag, headers.get("content-type"))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
