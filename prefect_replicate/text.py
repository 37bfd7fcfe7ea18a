"""Foreign text, made safe to show in a log, a state, an artifact or a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

MOST = 500
"""How many characters of a server's text are shown."""

_ESCAPE_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colors and cursors
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # commands
    r"|\x1b[ -/]*[0-~]?"
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
)
"""Control characters, invisible ones, and those that change the direction of text."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character, which UTF-8 can't encode."""

_SHORTEST_SECRET = 8
_secrets = set[str]()


def keep_secret(secret: str) -> None:
    """Redact a secret in everything that this process shows.

    A short one is not redacted: gateways and local servers accept tokens such as `x` or `test`,
    which are not secret and occur inside words.
    """
    if len(secret) >= _SHORTEST_SECRET:
        _secrets.add(secret)


def printable(text: object) -> str:
    """Return the text without secrets and terminal control sequences; its lines remain."""
    shown = str(text)
    if not (shown.isascii() and shown.isprintable()):
        shown = _ESCAPE_SEQUENCES.sub("", shown).replace("\r\n", "\n").replace("\r", "\n")
        shown = _SURROGATE.sub("\ufffd", _UNSEEN.sub("", shown))
    for secret in _secrets:  # last: what was removed may have split a secret
        shown = shown.replace(secret, "[REDACTED]")
    return shown


def in_line(text: object, most: int = MOST) -> str:
    """Return the text as one line of at most `most` characters."""
    line = " ".join(printable(str(text)[: most * 20]).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def all_printable(value: Any) -> Any:
    """Return JSON with `printable` applied to all its texts."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {printable(name): all_printable(one) for name, one in items}
    if isinstance(value, list):
        return [all_printable(one) for one in cast("list[Any]", value)]
    return value
