"""Replies of an API, or of something in between, that are none of those on record."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scripted_api import ScriptedAPI

from prefect_replicate import (
    Prediction,
    cancel_prediction,
    create_prediction,
    get_prediction,
    wait_for_prediction,
)
from prefect_replicate.api import connection
from prefect_replicate.api.replies import allowance, error_in, reduced_limit, retry_after
from prefect_replicate.exceptions import APIError, ReplicateError
from prefect_replicate.lifecycle import adoption, creation
from prefect_replicate.values.data_uri import elided, read_data_uri
from prefect_replicate.values.model_reference import ModelReference
from prefect_replicate.values.model_schema import ModelSchema

DEEP = "[" * 100_000 + "]" * 100_000
BODIES = [
    *("", " ", "null", "true", "5", '"abc"', "[]", "{}", "[[]]", "{", "}", "\x00", "NaN"),
    *("<html></html>", DEEP, '{"id":' * 20_000, "9" * 5000, '{"id": ' + "9" * 5000 + "}"),
    *('{"id": ""}', '{"id": null}', '{"id": 5}', '{"id": []}', '{"id": "abc"}', '{"status": "x"}'),
    *('{"id": "abc", "status": null}', '{"id": "abc", "status": 5}', '{"id": {}, "status": "x"}'),
    '{"id": "\\ud83d", "status": ["succeeded"]}',
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    monkeypatch.setattr(connection, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(adoption, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(adoption, "LOOKS", 1)
    monkeypatch.setattr(creation, "LOOKS", 1)


def in_short(body: str) -> str:
    return ascii(body[:24])


@pytest.mark.parametrize("body", BODIES, ids=in_short)
@pytest.mark.parametrize("act", [get_prediction.fn, cancel_prediction.fn], ids=["get", "cancel"])
def test_a_reply_that_is_no_prediction_is_an_error_in_one_line(
    scripted: ScriptedAPI, body: str, act: Any
) -> None:
    scripted.says((200, body))

    with pytest.raises(APIError) as raised:
        act("abc")

    assert len(str(raised.value)) < 1000
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("body", BODIES, ids=in_short)
def test_a_create_that_is_answered_so_was_perhaps_made_and_is_looked_for(
    scripted: ScriptedAPI, body: str
) -> None:
    page, nothing = {"latest_version": None, "is_official": True}, {"results": [], "next": None}
    reply = (200, body)
    scripted.routes["/v1/predictions?"] = nothing
    scripted.says(page, reply)

    with pytest.raises(ReplicateError, match=r"[^\n]+"):
        create_prediction.fn("owner/name", {"prompt": "a fox"})

    creates = [path for path in scripted.paths if path.endswith("/predictions")]
    listed = [path for path in scripted.paths if path.startswith("/v1/predictions?")]
    assert len(creates) == 3
    assert len(listed) >= len(creates)


@pytest.mark.parametrize("body", BODIES, ids=in_short)
def test_a_model_page_that_is_none_is_an_error_before_anything_is_paid(
    scripted: ScriptedAPI, body: str
) -> None:
    scripted.says((200, body))

    with suppress(ReplicateError):  # anything else would be raw
        create_prediction.fn("owner/name", {"prompt": "a fox"})


@pytest.mark.parametrize("logs", [None, 5, [], "\x00" * 100_000, "\r" * 100_000, "%" * 100_000])
@pytest.mark.parametrize("output", [None, 5, [[[]]], {"a": "\ud83d"}, "x" * 1_000_000])
def test_whatever_a_prediction_has_made_it_is_returned(
    scripted: ScriptedAPI, logs: Any, output: Any
) -> None:
    scripted.says({"id": "abc", "status": "succeeded", "logs": logs, "output": output})

    assert wait_for_prediction.fn("abc").is_succeeded


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
FIELDS = st.fixed_dictionaries(
    {"id": st.text(min_size=1), "status": st.text()},
    optional={name: JSON for name in Prediction.model_fields if name not in ("id", "status")},
)


@given(FIELDS)
def test_any_fields_make_a_prediction(fields: dict[str, Any]) -> None:
    one = Prediction.model_validate(fields)

    assert one.id == fields["id"]
    for name in ("is_terminal", "is_transient_failure", "predict_time", "web_url", "reason"):
        getattr(one, name)


@given(JSON, st.integers(100, 599), st.dictionaries(
    st.sampled_from(["retry-after", "ratelimit-reset", "ratelimit-remaining", "content-type"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126))))  # fmt: skip
@example({"detail": "9" * 5000 + " requests per minute with a burst of " + "9" * 5000}, 429, {})
@example({"retry_after": "9" * 5000}, 429, {"retry-after": "9" * 5000})
def test_any_refusal_is_read(body: Any, status: int, headers: dict[str, str]) -> None:
    reply = httpx.Response(status, headers=headers, content=json.dumps(body))

    assert "\n" not in str(error_in(reply, "GET /"))
    assert (retry_after(reply) or 0) >= 0
    stated = allowance(reply)
    assert stated is None or stated[1] <= 120
    reduced_limit(reply)


@given(st.text(st.characters()))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    with suppress(ReplicateError):
        assert str(ModelReference.parse(text)) == text.strip()


@given(st.text(st.characters()) | st.from_regex(r"data:[\w/;=,+-]{0,40}"))
def test_any_text_is_a_data_uri_or_not(text: str) -> None:
    read_data_uri(text)
    assert elided(elided(text)) == elided(text)


@given(JSON, JSON)
def test_any_document_is_a_schema_or_an_unknown_one(document: Any, properties: Any) -> None:
    whole = {"components": {"schemas": {"Input": {"properties": properties}}}}
    for one in (document, whole):
        schema = ModelSchema.from_openapi(one)
        assert all(isinstance(line, str) for line in schema.problems({"a": 1}))
        assert schema.secrets <= set(schema.names)
