"""The durations that a client asks for: the `Cancel-After` and `Prefer: wait` headers."""

from __future__ import annotations

import re

MINIMUM_LIFETIME = 5.0
DEFAULT_WAIT = 60.0

_LIFETIME = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_WAIT = re.compile(r"wait(?:=([1-9][0-9]?))?")


def parse_lifetime(text: str) -> float:
    """Return the seconds that `Cancel-After` asks for, as in `90`, `30s`, `5m` or `1h30m45s`.

    Raises:
        ValueError: `text` is not a duration, or shorter than five seconds.
    """
    match = _LIFETIME.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 1h30m45s")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    lifetime = hours * 3600 + minutes * 60 + seconds
    if lifetime < MINIMUM_LIFETIME:
        raise ValueError(f"the minimum duration is {MINIMUM_LIFETIME:g}s, not {text!r}")
    return float(lifetime)


def parse_wait(text: str) -> float | None:
    """Return the seconds that `Prefer` asks the server to wait, or `None` if it does not.

    Unknown preferences are ignored, as RFC 7240 requires. The documented pattern also admits 61 to
    99; they count as 60, the documented maximum.
    """
    match = _WAIT.fullmatch(text.strip())
    if match is None:
        return None
    return min(float(match[1] or DEFAULT_WAIT), DEFAULT_WAIT)
