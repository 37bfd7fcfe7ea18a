"""Which strings of an output are files, whatever shape the output has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

# A URL is a file only where it is the whole string: models that write text write links too.
_REMOTE = re.compile(r"https?://\S+", re.IGNORECASE)
_INLINE = re.compile(r"data:(?:[\w.+-]+/[\w.+-]+)?[;,]", re.IGNORECASE)
_PLAIN_KEY = re.compile(r"[\w-]+")


class FoundFile(NamedTuple):
    """A file of the output, and where in it the file stands."""

    path: str
    """`""` for the whole output, `"[1]"`, `"video.url"`, `"frames[0].image"`."""
    url: str


def collect_files(output: Any) -> list[FoundFile]:
    """Walk an output of any shape; every other string is text and is left out."""
    return [
        FoundFile(path, leaf)
        for path, leaf in _leaves(output, "")
        if isinstance(leaf, str) and (_REMOTE.fullmatch(leaf) or _INLINE.match(leaf))
    ]


def is_inline(url: str) -> bool:
    return url[:5].lower() == "data:"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            yield from _leaves(item, _member(path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _member(path: str, key: str) -> str:
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key
