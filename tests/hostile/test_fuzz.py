"""Whatever parses what others have written, fed with what nobody would write.

What has once been found stands as an `example`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prefect.client.schemas.objects import StateType
from pydantic import ValidationError
from scripted_api import ScriptedAPI, served

from prefect_replicate import Prediction
from prefect_replicate.api.clock import Clock
from prefect_replicate.api.connection import Address, Connection
from prefect_replicate.api.predictions import _query_of, list_predictions
from prefect_replicate.batch.requests import video_requests
from prefect_replicate.cleanup.orphans import Thresholds, why_orphaned
from prefect_replicate.exceptions import APIError, ReplicateError
from prefect_replicate.ledger.facts import Claim, Fact, Log, choose
from prefect_replicate.ledger.flow_runs import FlowRunSeen
from prefect_replicate.lifecycle.adoption import Sought, match
from prefect_replicate.outputs.download import read_reply
from prefect_replicate.outputs.failure import Gone, Refused, TryAgain
from prefect_replicate.outputs.fetch import AccessRules, parse_url
from prefect_replicate.outputs.found import collect_files, decode_data_uri, without_query
from prefect_replicate.values.media_types import extension_for, media_type_of
from prefect_replicate.values.model_schema import ModelSchema

ANY = st.characters()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(ANY),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(ANY), inner, max_size=4),
    max_leaves=12,
)
NOW = datetime(2026, 11, 29, tzinfo=timezone.utc)
RUN = UUID("12345678-1234-5678-1234-567812345678")
MADE = {"id": "abc", "status": "succeeded", "model": "owner/name", "input": {"prompt": "a fox"}}
FACT: dict[str, Any] = {
    "version": 1,
    "id": "f",
    "process": "p",
    "claim": ["1", "call"],
    "origin": {"flow_runs": [[str(RUN), True]], "base_url": "https://api.replicate.com"},
    "intent": {
        "call": "0123456789abcdef",
        "model": "owner/name",
        "input_digest": {"prompt": "0123456789abcdef"},
        "at": NOW.isoformat(),
        "cancel_after": 3600.0,
    },
    "made": {"id": "abc", "url": "https://replicate.com/p/abc"},
    "ended": {"status": "succeeded", "predict_time": 1.0},
    "stored": [],
    "is_awaited": False,
}
PLACES = [
    *([name] for name in FACT),
    *(["intent", name] for name in FACT["intent"]),
    *(["origin", name] for name in FACT["origin"]),
    *([*place] for place in (("made", "id"), ("made", "url"), ("ended", "status"))),
    ["ended", "predict_time"],
    ["intent", "input_digest", "prompt"],
]
ODD = (
    JSON
    | st.sampled_from(["[REDACTED]", "0001-01-01", "9999-12-31T23:59:59+14:00", "1e400", "-1"])
    | st.sampled_from([1e308, -1e308, 10**400, 2**63, True, "a/b", "deployment:a/b", "../x"])
    | st.datetimes(timezones=st.just(timezone.utc) | st.none()).map(datetime.isoformat)
)


def changed(place: list[str], value: Any) -> dict[str, Any]:
    fact = copy.deepcopy(FACT)
    inner = fact
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return fact


@given(st.lists(st.tuples(st.sampled_from(PLACES), ODD), min_size=1, max_size=3))
@example([(["intent", "at"], "0001-01-01T00:00:00Z")])
@example([(["intent", "cancel_after"], 1e308)])
@example([(["origin", "flow_runs"], [])])
@example([(["ended", "predict_time"], float("inf"))])
def test_a_fact_that_can_be_read_can_be_judged(changes: list[tuple[list[str], Any]]) -> None:
    fact = FACT
    for place, value in changes:
        with suppress(TypeError, KeyError):  # what is around it is something else already
            fact = changed(place, value)
    try:
        read = Fact.model_validate_json(json.dumps(fact))
    except (ValidationError, ValueError):
        return
    log = Log("0123456789abcdef-1")
    log.apply(read, NOW)
    choose({1: log}, Claim("1", "call"))
    if (known := log.generation) is None:
        return
    made = Prediction.model_validate(MADE | {"created_at": NOW})
    json.dumps(asdict(known), default=str)
    known.has_made(made)
    known.is_below(RUN, of_deployments=True)
    known.outlives_crash_of(RUN)
    sought = Sought.by(known)
    sought.is_in_time(made)
    match([made], sought, set())
    seen = {RUN: FlowRunSeen("run", StateType.CRASHED, NOW - timedelta(hours=1))}
    why_orphaned(known, seen, Thresholds(NOW, 300, 90))


@given(st.text(ANY) | st.from_regex(r"(x:|http:|//)?\w{0,9}(/[^?]{0,9})?\?[^#]{0,20}#?.{0,9}"))
@example("x:http://thief?cursor=1")
@example("?a\r\nHost: thief")
@example("?\ud800")
def test_the_next_page_is_asked_of_the_same_host(next_page: str) -> None:
    query = _query_of(next_page)
    url = httpx.URL(f"https://api.replicate.com/v1/predictions?{query}")

    assert (url.host, url.path, url.userinfo) == ("api.replicate.com", "/v1/predictions", b"")


@pytest.fixture(scope="module")
def api() -> Any:
    with served() as api:
        yield api


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(st.lists(JSON | st.just(MADE), max_size=5), JSON, JSON)
@example([{"id": "\ud800", "status": "x"}], None, None)
@example([{**MADE, "id": "../account"}], "?a=1", 5)
def test_any_listing_is_read_or_refused(
    api: ScriptedAPI, rows: list[Any], next_page: Any, other: Any
) -> None:
    api.says({"results": rows, "next": next_page, "previous": other}, {"results": [MADE]})
    address = Address(api.base_url, api.credentials.api_token or api.credentials.get_token())

    async def read() -> list[Prediction]:
        connection = Connection(address)
        try:
            return [one async for one in list_predictions(connection, NOW)]
        finally:
            await connection._http.aclose()

    with suppress(APIError):
        assert all(re.fullmatch(r"[\w-]{1,100}", one.id) for one in asyncio.run(read()))


HEADERS = st.dictionaries(
    st.sampled_from(
        ["content-range", "content-length", "content-encoding", "etag", "retry-after", "location"]
    ),
    st.text(st.characters(max_codepoint=255))
    | st.from_regex(r"bytes \d{0,20}-\d{0,20}/(\d{0,20}|\*)", fullmatch=True)
    | st.integers().map(str),
)


@given(st.integers(100, 999), HEADERS, st.integers(0, 2**64))
@example(206, {"content-range": "bytes 5-9/" + "9" * 5000}, 5)
@example(200, {"content-length": "9" * 5000}, 0)
@example(503, {"retry-after": "9" * 5000}, 0)
def test_any_reply_of_a_file_host_is_read_or_refused(
    status: int, headers: dict[str, str], size: int
) -> None:
    with suppress(Gone, Refused, TryAgain):
        body = read_reply(status, headers, size)
        assert body is None or body.start in (0, size)


URLS = st.from_regex(r"(https?|data|file|HTTPS):[^\s]{0,30}")


@given(JSON | URLS | st.lists(URLS), JSON | st.just({"type": "string", "format": "uri"}))
@example("http://[", {})
@example("https://[::1%eth0]/a.png", {})
@example("https://a.png:99999999/x", {})
@example("data:;base64,%%%", {})
@example(["http://a"], {"anyOf": [{"$ref": "#/components/schemas/Output"}], "items": True})
def test_any_output_is_searched_for_files(output: Any, rules_of_output: Any) -> None:
    rules = AccessRules.make("https://api.replicate.com", ["files.example"])
    document = {"components": {"schemas": {"Output": rules_of_output}}}
    schema = ModelSchema.from_openapi(document).output
    prediction = Prediction(id="abc", status="succeeded", output=output)
    schema.joined(output)
    assert schema.makes_files in (True, False, None)
    for _, url in collect_files(prediction, schema, rules.has_files_alone):
        extension_for(media_type_of(None, url), url)
        without_query(url)
        with suppress(Refused):
            if url[:5].lower() == "data:":
                decode_data_uri(url)
            else:
                rules.refusal(parse_url(url))


ROWS = st.binary() | st.text(ANY).map(lambda text: text.encode("utf-8", "surrogatepass"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS | st.lists(JSON).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()))
@example(b'prompt\n"\x00')
@example(b'{"prompt": ' + b"[" * 5000)
@example(b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}")
@example(b"prompt,input.a\na," + b"[" * 5000)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_any_file_is_a_batch_or_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(content)

    with suppress(ReplicateError):  # whose text is one line whatever is put into it
        asyncio.run(video_requests(path=path))


@given(st.text(st.characters(max_codepoint=255)) | st.datetimes().map(str))
@example("Mon, 01 Jan 0001 00:00:00 GMT")
@example("Mon, 01 Jan 99999999999 00:00:00 GMT")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
def test_any_date_of_a_reply_leaves_the_clock_usable(date: str) -> None:
    clock = Clock()
    clock.heard(date, 1.0, 2.0)

    assert clock.now() + timedelta(days=400)
