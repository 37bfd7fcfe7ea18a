"""Error replies, worded as Replicate words them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

INSUFFICIENT_CREDIT = (
    "You have insufficient credit to run this model. Go to "
    "https://replicate.com/account/billing#billing to purchase credit. Once you purchase credit, "
    "please wait a few minutes before trying again."
)
_REDUCED_RATE = (
    "Your rate limit for creating predictions is reduced to 6 requests per minute with a burst of "
    "1 requests while you have less than $5.0 in credit. "
)


@dataclass(frozen=True)
class InvalidField:
    """One thing that is wrong with a request's body."""

    type: str
    field: str
    description: str


@dataclass
class Problem(Exception):
    """A refusal, raised where it is found and turned into a reply in one place."""

    status: int
    detail: str
    title: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def reply(self) -> Response:
        """Return the problem as a reply of type `application/problem+json`."""
        body: dict[str, Any] = {"detail": self.detail, "status": self.status}
        if self.title is not None:
            body["title"] = self.title
        return Response(
            json.dumps({**body, **self.extra}) + "\n",
            status_code=self.status,
            media_type="application/problem+json",
            headers=dict(self.headers),
        )


def bad_request(detail: str) -> Problem:
    """Return the 400 of a request that does not match the API's specification."""
    return Problem(400, detail, "Bad request")


def no_token() -> Problem:
    """Return the 401 of a request without a token."""
    return Problem(401, "You did not pass an authentication token", "Unauthenticated")


def wrong_token() -> Problem:
    """Return the 401 of a request whose token is unknown."""
    return Problem(401, "You did not pass a valid authentication token", "Unauthenticated")


def insufficient_credit() -> Problem:
    """Return the 402 of an account without credit."""
    return Problem(402, INSUFFICIENT_CREDIT, "Insufficient credit")


def not_found(detail: str = "The requested resource could not be found.") -> Problem:
    """Return the 404, which community models get on the official route as well."""
    return Problem(404, detail)


def left_out(what: str) -> Problem:
    """Return the 405 of something that Replicate has and the emulator does not."""
    return Problem(405, f"The local Replicate has no {what}", "Not in the local Replicate")


def too_large() -> Problem:
    """Return the 413 of an upload over 100 MB."""
    return Problem(413, "Files must be less than 100MB in size", "File too large")


def unknown_version() -> Problem:
    """Return the 422 of a version that does not exist."""
    return Problem(
        422,
        "The specified version does not exist (or perhaps you don't have permission to use it?)",
        "Invalid version or not permitted",
    )


def invalid_fields(fields: Sequence[InvalidField]) -> Problem:
    """Return the 422 that lists what is wrong with a body, as Markdown bullets and as data."""
    detail = "".join(f"- {_bullet(invalid)}\n" for invalid in fields)
    extra = {"invalid_fields": [vars(invalid) for invalid in fields]}
    return Problem(422, detail, "Input validation failed", extra)


def throttled(seconds: int | None, *, low_credit: bool = False) -> Problem:
    """Return a 429; `seconds=None` leaves out every hint of when to retry."""
    if seconds is None:
        return Problem(429, "Request was throttled.")
    reduced = _REDUCED_RATE if low_credit else ""
    return Problem(
        429,
        f"Request was throttled. {reduced}Your rate limit resets in ~{seconds}s.",
        extra={"retry_after": seconds} if low_credit else {},
        headers={"retry-after": str(seconds)},
    )


def _bullet(invalid: InvalidField) -> str:
    return f"{invalid.field}: {invalid.description}" if invalid.field else invalid.description
