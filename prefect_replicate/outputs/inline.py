"""Files that come inside the output, as `data:` URIs (RFC 2397)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from prefect_replicate.outputs.failure import Refused

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
