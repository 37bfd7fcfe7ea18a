"""Files inlined in an input as base64 `data:` URIs (RFC 2397)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

_HEAD = re.compile(
    r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=(?:\"[^\"]*\"|[\w.+-]*))*;base64,",
    re.IGNORECASE | re.ASCII,
)


class DataURI(NamedTuple):
    """The file in a `data:` URI."""

    media_type: str
    content: bytes


def read_data_uri(text: str) -> DataURI | None:
    """Decode a base64 `data:` URI; return `None` for any other text or broken base64."""
    head = _HEAD.match(text)
    if head is None:
        return None
    try:
        content = base64.b64decode("".join(text[head.end() :].split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return DataURI(head[1].lower(), content)


def elided(text: str) -> str:
    """Write a `data:` URI as Replicate's replies do, without its content; keep other text."""
    head = _HEAD.match(text)
    return f"data:{head[1].lower()};base64,..." if head else text
