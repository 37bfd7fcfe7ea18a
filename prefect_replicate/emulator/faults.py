"""Scripted and random faults: what goes wrong, for which requests, and how often."""

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
    """A fault injected into the requests that it matches.

    The kinds are:

    - `delay`: the request is held for `seconds`, then processed as usual;
    - `late_reply`: the request is processed at once, and the reply held for `seconds`;
    - `reset`: the connection is reset, and nothing is processed;
    - `lost_reply`: the request is processed, and the connection closed without a reply;
    - `error_page`: the HTML page of a 502, or of another `status`;
    - `error_text`: `error code: 520`, or another `status`, as text;
    - `html`, `malformed`: a 200 with HTML, or with truncated JSON;
    - `throttled`: a 429, with `retry_after` seconds or without a hint;
    - `unauthenticated`, `insufficient_credit`, `not_found`: a 401, 402, 404;
    - `truncated`: the connection is closed after `bytes` bytes of the reply's body.

    Args:
        method: HTTP method, or `*` for any.
        path: A regular expression to search for in the path.
        nth: The first matching request that the fault affects, counted from 1.
        times: How many requests it affects; `None` means all.
        rate: The share of those requests that it affects, at random.
        seconds: Real seconds; kinds other than `delay` and `late_reply` first hold the request for
            that long.
        status: The status of `error_page` and `error_text`.
        retry_after: Seconds that `throttled`, `error_page` and `error_text` ask to wait.
        bytes: How many bytes of the body `truncated` sends.
        processed: For the kinds with a reply of their own: whether the request is processed before
            that reply. The client can't tell.
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
        """Return whether the fault matches a request with this method and path."""
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
    """The faults in force. At most one affects a request: the first that is due."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._chance = random.Random(0)

    def add(self, kind: FaultKind, **options: Any) -> Fault:
        """Add a fault; the options are those of `Fault`.

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
        """Add faults that happen at random, the same ones for the same `seed`.

        Args:
            rates: The share of requests that each kind affects.
            seed: The seed of the random numbers.
            options: The other options of `Fault`, for all kinds.
        """
        with self._lock:
            self._chance = random.Random(seed)
        for kind, rate in rates.items():
            self.add(kind, rate=rate, times=None, **options)

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._entries.clear()

    @property
    def pending(self) -> list[Fault]:
        """The faults that can still affect requests."""
        with self._lock:
            return [entry.fault for entry in self._entries if not entry.is_spent]

    def pick(self, method: str, path: str) -> Fault | None:
        """Return the fault that affects a request, and count it."""
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
