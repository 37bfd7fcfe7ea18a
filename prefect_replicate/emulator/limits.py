"""Replicate's rate limits as token buckets, one for each class of request."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Bucket = Literal["create", "get", "other"]


@dataclass(frozen=True)
class Limit:
    """A number of requests per minute, at most `burst` of them at once."""

    per_minute: float
    burst: int


STANDARD: dict[Bucket, Limit] = {
    "create": Limit(600, 600),
    "get": Limit(60_000, 60_000),
    "other": Limit(3_000, 3_000),
}
LOW_CREDIT: dict[Bucket, Limit] = {**STANDARD, "create": Limit(6, 1)}


@dataclass(frozen=True)
class Verdict:
    """Whether a request may pass, with the values of its `ratelimit-` headers."""

    allowed: bool
    remaining: int
    reset: int
    retry_after: int


@dataclass(frozen=True)
class Level:
    """How full a bucket was at a moment."""

    tokens: float
    moment: float


def take(limit: Limit, level: Level, now: float) -> tuple[Verdict, Level]:
    """Take one token at `now`, if there is one, and return the verdict and the new level."""
    rate = limit.per_minute / 60
    tokens = min(limit.burst, level.tokens + max(0.0, now - level.moment) * rate)
    allowed = tokens >= 1
    left = tokens - 1 if allowed else tokens
    verdict = Verdict(
        allowed=allowed,
        remaining=int(left),
        reset=max(1, math.ceil((limit.burst - left) / rate)),
        retry_after=0 if allowed else max(1, math.ceil((1 - tokens) / rate)),
    )
    return verdict, Level(left, now)


@dataclass
class Meter:
    """The levels of one account's buckets."""

    _levels: dict[Bucket, Level] = field(default_factory=dict[Bucket, Level])

    def take(self, limits: dict[Bucket, Limit], bucket: Bucket, now: float) -> Verdict:
        """Take one token of `bucket` at `now`."""
        limit = limits[bucket]
        level = self._levels.get(bucket, Level(limit.burst, now))
        verdict, self._levels[bucket] = take(limit, level, now)
        return verdict

    def clear(self) -> None:
        """Fill every bucket."""
        self._levels.clear()


def bucket_of(method: str, path: str) -> Bucket | None:
    """Return the bucket that a request draws from; `None` for files and the rest of the server."""
    parts = path.strip("/").split("/")
    if parts[0] != "v1" or parts[1:2] == ["files"]:
        return None
    if method == "POST" and parts[-1] == "predictions":
        return "create"
    if method == "GET" and len(parts) == 3 and parts[1] == "predictions":
        return "get"
    return "other"
