"""The files of an output: which of its strings are files, and what they are named."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from prefect_replicate.outputs.failure import Refused
from prefect_replicate.values import Prediction
from prefect_replicate.values.output import OutputSchema, Place

# A URL is a file only if it is the whole string: models that write text also write links.
_REMOTE = re.compile(r"https?://\S+", re.IGNORECASE)
_INLINE = re.compile(r"data:(?:[\w.+-]+/[\w.+-]+)?[;,]", re.IGNORECASE)
_SOLID_INLINE = re.compile(r"data:(?:[\w.+-]+/[\w.+-]+)?[;,]\S*", re.IGNORECASE)
_PLAIN_KEY = re.compile(r"[\w-]+")


class FoundFile(NamedTuple):
    """A file of the output, and its place in the output."""

    path: str
    """`""` for the whole output, `"[1]"`, `"video.url"`, `"frames[0].image"`."""
    url: str


def collect_files(
    prediction: Prediction,
    schema: OutputSchema | None = None,
    is_trusted: Callable[[str], bool] = lambda _: False,
) -> list[FoundFile]:
    """Find the files in a prediction's output.

    Args:
        prediction: A URL that is also in its input doesn't count as one of its files.
        schema: The model's output schema, which says what is a file, and what is text or a link.
        is_trusted: Whether a URL is at a place that serves only files.
    """
    given = {text for _, text, _ in OutputSchema().texts(prediction.input)}
    return [
        FoundFile(_path(place), text)
        for place, text, is_file in (schema or OutputSchema()).texts(prediction.output)
        if _is_url(text)
        and text not in given
        and (is_file or is_trusted(text) or (is_file is None and _SOLID_INLINE.fullmatch(text)))
    ]


def _is_url(text: str) -> bool:
    return _REMOTE.fullmatch(text) is not None or _INLINE.match(text) is not None


def _path(place: Place) -> str:
    path = ""
    for step in place:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not _PLAIN_KEY.fullmatch(step):
            path += f"[{json.dumps(step)}]"
        else:
            path += f".{step}" if path else step
    return path


def is_inline(url: str) -> bool:
    return url[:5].lower() == "data:"


_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class InlineFile(NamedTuple):
    """A decoded `data:` URI."""

    media_type: str
    content: bytes


def decode_data_uri(uri: str) -> InlineFile:
    """Read a `data:` URI, base64 or percent-encoded.

    Raises:
        Refused: It is malformed.
    """
    header, comma, body = uri[len("data:") :].partition(",")
    if not comma:
        raise Refused("its data URI has no comma before the data")
    if _BROKEN_ESCAPE.search(body):
        raise Refused("its data URI has a broken percent-escape")
    media_type, *parameters = (part.strip().lower() for part in header.split(";"))
    content = unquote_to_bytes(body)
    if "base64" in parameters:
        content = _decode_base64(content)
    return InlineFile(media_type or "text/plain", content)


def _decode_base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as exc:
        raise Refused(f"its data URI is not valid base64 ({exc})") from exc


_USER = re.compile(r"//[^/]*@")
_PREDICTION_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


def is_usable_id(prediction_id: str) -> bool:
    """Return whether the id can be part of a file name; Replicate's own always can."""
    return _PREDICTION_ID.fullmatch(prediction_id) is not None


def stems(prediction_id: str, count: int) -> list[str]:
    """Return names without extensions: the id, numbered from 1 if there are several files."""
    if count == 1:
        return [prediction_id]
    return [f"{prediction_id}-{number}" for number in range(1, count + 1)]


def without_query(url: str) -> str:
    """Return a URL for messages and results: no query, which may be a signature; no data."""
    if is_inline(url):
        return "data:"
    return _USER.sub("//", re.split(r"[?#]", url, maxsplit=1)[0])
