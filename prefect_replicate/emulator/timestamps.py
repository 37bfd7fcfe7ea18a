"""Times as the API writes and reads them."""

from __future__ import annotations

from datetime import datetime, timezone


def format_time(moment: float, digits: int = 6) -> str:
    """Return `moment` (seconds since the epoch) in UTC with `digits` digits of a second.

    Recorded replies have 3, 6, 8 or 9 digits; beyond six, the rest is made up of zeros and a 4.
    """
    text = datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
    if digits > 6:
        return f"{text}{'4'.zfill(digits - 6)}Z"
    return f"{text[: len(text) - 6 + digits]}Z".replace(".Z", "Z")


def parse_time(text: str) -> float:
    """Return the seconds since the epoch of an ISO 8601 time; one without a zone is UTC.

    Raises:
        ValueError: `text` is not an ISO 8601 date-time.
    """
    # A query string turns the + of an offset into a space.
    iso = text.strip().replace(" ", "+").replace("Z", "+00:00").replace("z", "+00:00")
    moment = datetime.fromisoformat(_six_digits(iso))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()


def _six_digits(iso: str) -> str:
    # Python 3.10 reads only three or six digits of a second.
    head, dot, tail = iso.partition(".")
    if not dot:
        return iso
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    return f"{head}.{digits[:6]:0<6}{tail[len(digits) :]}"
