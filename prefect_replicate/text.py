"""What others have written, made fit to be shown in a log, a state, an artifact or a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

MOST = 500
"""Characters of what a server says that are shown."""

_ESCAPE_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colors and cursors
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # commands
    r"|\x1b[ -/]*[0-~]?"
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
)
"""Controls, and what turns the direction of text around."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character, which nothing that is sent as UTF-8 can hold."""

_SHORTEST_SECRET = 8
_secrets = set[str]()


def keep_secret(secret: str) -> None:
    """Have a token that this process uses be shown nowhere.

    Gateways and local servers take such as `x` or `test`, which are no secrets and stand in words.
    """
    if len(secret) >= _SHORTEST_SECRET:
        _secrets.add(secret)


def printable(text: object) -> str:
    """The text without tokens, and without what a terminal would obey; its lines remain."""
    shown = str(text)
    if not (shown.isascii() and shown.isprintable()):
        shown = _ESCAPE_SEQUENCES.sub("", shown).replace("\r\n", "\n").replace("\r", "\n")
        shown = _SURROGATE.sub("\ufffd", _UNSEEN.sub("", shown))
    for secret in _secrets:  # last, or one with something unseen in it would come together after it
        shown = shown.replace(secret, "[REDACTED]")
    return shown


def in_line(text: object, most: int = MOST) -> str:
    """The text in one line, no longer than that."""
    line = " ".join(printable(str(text)[: most * 20]).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def all_printable(value: Any) -> Any:
    """JSON with all of its texts made `printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {printable(name): all_printable(one) for name, one in items}
    if isinstance(value, list):
        return [all_printable(one) for one in cast("list[Any]", value)]
    return value
