from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from prefect_replicate.api.replies import error_in, parsed, retry_after
from prefect_replicate.exceptions import APIError


class Thing(BaseModel):
    id: str
    size: int = 0


def reply(status: int, body: Any = "", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = {"text": body} if isinstance(body, str) else {"json": body}
    return httpx.Response(status, headers=named, **content)


@pytest.mark.parametrize(
    ("response", "seconds"),
    [
        (reply(429, retry_after="7"), 7.0),
        (reply(429, retry_after="1.5"), 1.5),
        (reply(429, {"retry_after": 3}), 3.0),
        (reply(429, {"retry_after": 3}, retry_after="7"), 7.0),
        (reply(429, {"detail": "Your rate limit resets in ~4s."}), 4.0),
        (reply(429, {"detail": "resets in ~2.5 s"}), 2.5),
        (reply(429, {"detail": "Request was throttled."}), None),
        (reply(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), None),
        (reply(429, retry_after="-5"), None),
        (reply(429, {"retry_after": None}), None),
        (reply(429, ["resets in ~4s"]), None),
        (reply(503, "<html>"), None),
        (reply(503), None),
    ],
)
def test_the_time_to_wait_is_read_wherever_it_stands(
    response: httpx.Response, seconds: float | None
) -> None:
    assert retry_after(response) == seconds


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (
            reply(422, {"detail": "- seconds: wrong\n- x: y\n", "title": "T"}),
            "- seconds: wrong - x: y",
        ),
        (reply(402, {"title": "Insufficient credit"}), "Insufficient credit"),
        (reply(520, "error code: 520"), "error code: 520"),
        (reply(502, "<html>" * 99, content_type="text/html"), "an HTML page instead of JSON"),
        (reply(404), "Not Found"),
        (reply(500, "x" * 999), "x" * 199 + "…"),
        (reply(400, '"text"'), '"text"'),
        (reply(599), "an empty reply"),
    ],
)
def test_an_error_in_any_form_is_one_line(response: httpx.Response, said: str) -> None:
    error = error_in(response, "GET /v1/x")

    assert str(error) == f"GET /v1/x: HTTP {response.status_code}: {said}"
    assert error.status == response.status_code


def test_an_object_is_read_and_its_new_fields_are_left_out() -> None:
    assert parsed(Thing, {"id": "a", "brand_new": 1}) == Thing(id="a")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "Replicate's reply is not a thing: id: Field required"),
        ({"id": "a", "size": "big"}, "Replicate's reply is not a thing: size: Input should be"),
        (None, "Replicate's reply is not a thing: the whole: Input should be a valid dict"),
    ],
)
def test_what_is_not_the_object_says_where(body: Any, said: str) -> None:
    with pytest.raises(APIError, match=f"^{said}"):
        parsed(Thing, body)
