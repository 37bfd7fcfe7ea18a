"""Scripted and random faults: what goes wrong, with which requests, how often."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

FaultKind = Literal[
    "delay",
    "late_reply",
    "reset",
    "lost_reply",
    "error_page",
    "error_text",
    "html",
    "malformed",
    "throttled",
    "unauthenticated",
    "insufficient_credit",
    "not_found",
    "truncated",
]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with the requests that it matches.

    The kinds are

    - `delay`: the request is kept for `seconds`, then processed as usual;
    - `late_reply`: it is processed at once, and the reply kept for `seconds`;
    - `reset`: the connection is reset, and nothing was processed;
    - `lost_reply`: it is processed, and the connection closed without a reply;
    - `error_page`: the HTML page of a 502, or of another `status`;
    - `error_text`: `error code: 520`, or another `status`, as text;
    - `html`, `malformed`: a 200 with HTML, or with JSON that breaks off;
    - `throttled`: a 429, with `retry_after` seconds or without a hint;
    - `unauthenticated`, `insufficient_credit`, `not_found`: a 401, 402, 404;
    - `truncated`: the connection is closed after `bytes` bytes of the reply's body.

    Args:
        method: HTTP method, or `*` for any.
        path: A regular expression, searched for in the path.
        nth: The first of the matching requests that meets the fault, counted from 1.
        times: How many meet it; `None` is all of them.
        rate: The share of those that meet it, by chance.
        seconds: Real seconds; for kinds other than those two, the request is kept so long first.
        status: Of `error_page` and `error_text`.
        retry_after: Seconds that `throttled` asks to wait.
        bytes: Where `truncated` breaks off.
        processed: For the kinds that reply: whether the request is processed before it is answered
            so. The client cannot tell.
    """

    kind: FaultKind
    method: str = "*"
    path: str = ""
    nth: int = 1
    times: int | None = 1
    rate: float = 1.0
    seconds: float = 0.0
    status: int | None = None
    retry_after: int | None = None
    bytes: int = 0
    processed: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            kinds = ", ".join(get_args(FaultKind))
            raise ValueError(f"there is no fault {self.kind!r}; the kinds are {kinds}")
        if self.nth < 1 or (self.times is not None and self.times < 1):
            raise ValueError(f"nth and times count from 1, not nth={self.nth} times={self.times}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate is a share between 0 and 1, not {self.rate}")
        try:
            re.compile(self.path)
        except re.error as exc:
            raise ValueError(f"path {self.path!r} is not a regular expression: {exc}") from exc

    def matches(self, method: str, path: str) -> bool:
        """Return whether a request with this method and path is meant."""
        return self.method in ("*", method) and re.search(self.path, path) is not None


@dataclass
class _Entry:
    fault: Fault
    seen: int = 0
    met: int = 0

    @property
    def is_spent(self) -> bool:
        return self.fault.times is not None and self.met >= self.fault.times


class FaultPlan:
    """The faults in force. A request meets at most one: the first that is due."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._chance = random.Random(0)

    def add(self, kind: FaultKind, **options: Any) -> Fault:
        """Put a fault in force; the options are those of `Fault`.

        Example:
            ```python
            emulator.faults.add("lost_reply", method="POST", path="/predictions$")
            emulator.faults.add("throttled", method="GET", times=3, retry_after=2)
            ```
        """
        try:
            fault = Fault(kind, **options)
        except TypeError as exc:
            raise ValueError(f"a fault has no such option: {exc}") from exc
        with self._lock:
            self._entries.append(_Entry(fault))
        return fault

    def add_random(self, rates: Mapping[FaultKind, float], seed: int, **options: Any) -> None:
        """Put faults in force that come by chance, the same ones for the same `seed`.

        Args:
            rates: The share of requests that meets each kind.
            seed: Of the chance.
            options: The other options of `Fault`, for all kinds.
        """
        with self._lock:
            self._chance = random.Random(seed)
        for kind, rate in rates.items():
            self.add(kind, rate=rate, times=None, **options)

    def clear(self) -> None:
        """End all faults."""
        with self._lock:
            self._entries.clear()

    @property
    def pending(self) -> list[Fault]:
        """The faults that requests can still meet."""
        with self._lock:
            return [entry.fault for entry in self._entries if not entry.is_spent]

    def pick(self, method: str, path: str) -> Fault | None:
        """Return the fault that a request meets, and count it."""
        with self._lock:
            due = [entry for entry in self._entries if self._is_due(entry, method, path)]
            if not due:
                return None
            due[0].met += 1
            return due[0].fault

    def _is_due(self, entry: _Entry, method: str, path: str) -> bool:
        fault = entry.fault
        if entry.is_spent or not fault.matches(method, path):
            return False
        entry.seen += 1
        return entry.seen >= fault.nth and (fault.rate == 1 or self._chance.random() < fault.rate)
