"""Pages with opaque cursors, which keep their place while new items are added in front."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some of the items, and the cursors of the pages next to them."""

    items: Sequence[T]
    next: str | None
    previous: str | None


def page_of(items: Sequence[T], key: Callable[[T], str], cursor: str | None, size: int) -> Page[T]:
    """Return the page of `items` that `cursor` points to; without one, the first.

    Args:
        items: All of them, in order.
        key: Tells items apart; a cursor holds the key of the item next to the page.
        cursor: Where the page begins.
        size: The most items on a page.

    Raises:
        ValueError: `cursor` is not one of ours.
    """
    keys = [key(item) for item in items]
    start = _start(keys, cursor, size)
    stop = min(start + size, len(items))
    return Page(
        items[start:stop],
        next=_encode("p", keys[stop - 1]) if stop < len(items) else None,
        previous=_encode("r", keys[start]) if 0 < start < len(items) else None,
    )


def _start(keys: Sequence[str], cursor: str | None, size: int) -> int:
    if cursor is None:
        return 0
    direction, mark = _decode(cursor)
    if mark not in keys:
        return len(keys)
    index = keys.index(mark)
    return index + 1 if direction == "p" else max(0, index - size)


def _encode(direction: str, mark: str) -> str:
    return base64.urlsafe_b64encode(f"{direction}={mark}".encode()).decode()


def _decode(cursor: str) -> tuple[str, str]:
    try:
        direction, _, mark = base64.urlsafe_b64decode(cursor).decode().partition("=")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise ValueError("invalid cursor") from exc
    if direction not in ("p", "r"):
        raise ValueError("invalid cursor")
    return direction, mark
