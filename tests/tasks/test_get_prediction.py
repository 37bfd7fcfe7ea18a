"""Reading replies: what the official client can't, and what is asked again."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.local_account import LocalAccount

from prefect_replicate import (
    Prediction,
    acreate_prediction,
    aget_prediction,
    create_prediction,
    get_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import APIError, APIUnreachableError, InvalidInputError

GET = {"method": "GET", "path": r"/predictions/\w+$"}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("reset", {}),
        ("truncated", {"bytes": 40}),
        ("throttled", {}),
        ("error_page", {}),
        ("error_page", {"status": 503}),
        ("error_text", {}),
        ("html", {}),
        ("malformed", {}),
    ],
)
async def test_a_read_that_fails_is_repeated(
    account: LocalAccount, kind: Any, options: dict[str, Any]
) -> None:
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})
    account.faults.add(kind, **GET, **options)

    assert (await aget_prediction.fn(running)).id == running.id
    assert account.requests["get"] == 2


@pytest.mark.parametrize("kind", ["not_found", "insufficient_credit"])
def test_a_read_that_is_refused_is_not_repeated(
    replicate_emulator: Emulator, running: Prediction, kind: Any
) -> None:
    replicate_emulator.faults.add(kind, **GET)

    with pytest.raises(APIError, match=rf"^GET /v1/predictions/{running.id}: HTTP 40[24]: \w.*$"):
        get_prediction.fn(running)
    assert len(replicate_emulator.requests.matching("GET", running.id)) == 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("html", "HTTP 200: an HTML page instead of JSON"),
        ("malformed", 'HTTP 200: {"id":'),
        ("error_text", "HTTP 520: error code: 520"),
        ("error_page", "HTTP 502: an HTML page instead of JSON"),
        ("throttled", "HTTP 429: Request was throttled."),
    ],
)
async def test_what_cannot_be_read_is_said_in_one_line(
    account: LocalAccount, kind: Any, message: str
) -> None:
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})
    account.faults.add(kind, **GET, times=None)

    with pytest.raises(APIError, match=rf"^GET /v1/predictions/{running.id}: {message}.*$"):
        await aget_prediction.fn(running)


async def test_a_connection_that_stays_broken_is_unreachable(account: LocalAccount) -> None:
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})
    account.faults.add("reset", **GET, times=None)

    with pytest.raises(APIUnreachableError, match=r"can't be reached: ReadError") as unreachable:
        await aget_prediction.fn(running)
    assert unreachable.value.status is None


@pytest.mark.parametrize("id", ["", "../account", "a/b", "a?b=c", "a b", "ü"])
def test_what_is_not_an_id_is_refused_before_any_request(
    replicate_emulator: Emulator, id: str
) -> None:
    with pytest.raises(InvalidInputError, match="is not a prediction id"):
        get_prediction.fn(id)
    assert len(replicate_emulator.requests) == 0


def test_an_aborted_prediction_is_read(still: Emulator) -> None:
    prediction = create_prediction.fn("emulator/timer", {"queue_seconds": 99}, cancel_after=5)
    still.clock.advance(6)

    aborted = get_prediction.fn(prediction.id)

    assert (aborted.status, aborted.is_terminal, aborted.predict_time) == ("aborted", True, None)


BARE = {"id": "abc", "status": "processing"}


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"version": None, "model": None, "input": None, "urls": None, "metrics": None},
        {"error": {"code": 7}, "logs": None, "output": None},
        {"webhook": "https://x.org", "brand_new": {"field": 1}},
        {"created_at": "2025-01-01T10:00:00.123456789Z", "version": "hidden"},
    ],
    ids=["bare", "nulls", "error-object", "new-fields", "nanoseconds"],
)
def test_replies_that_the_official_client_rejects_are_read(
    scripted: Any, odd: dict[str, Any]
) -> None:
    scripted.says({**BARE, **odd})

    assert get_prediction.fn("abc", scripted.credentials).status == "processing"


def test_an_unknown_status_is_unfinished_and_warned_of_once(
    scripted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.says({"id": "abc", "status": "hibernating"})

    seen = [get_prediction.fn("abc", scripted.credentials) for _ in range(3)]

    assert not any(one.is_terminal for one in seen)
    assert caplog.text.count("unknown status 'hibernating'") == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"status": "processing"}, "not a prediction: id: Field required"),
        ({"id": 7, "status": "processing"}, "not a prediction: id: "),
        (["abc"], "not a prediction: the whole: "),
        ("null", "not a prediction: the whole: "),
    ],
)
def test_json_of_another_kind_is_an_error_of_ours(scripted: Any, body: Any, message: str) -> None:
    scripted.says(body)

    with pytest.raises(APIError, match=f"^Replicate's reply is {message}[^\n]*$"):
        get_prediction.fn("abc", scripted.credentials)


def test_an_error_in_a_form_nobody_knows_is_an_error_of_ours(scripted: Any) -> None:
    scripted.says((418, ["short", "and", "stout"]))

    with pytest.raises(APIError, match=r'HTTP 418: \["short", "and", "stout"\]$'):
        get_prediction.fn("abc", scripted.credentials)


def test_a_redirect_is_not_followed_with_the_token(scripted: Any) -> None:
    scripted.says((302, "", {"location": f"{scripted.base_url}/elsewhere"}), BARE)

    with pytest.raises(APIError, match="HTTP 302: Found"):
        get_prediction.fn("abc", scripted.credentials)
    assert scripted.paths == ["/v1/predictions/abc"]


async def test_an_absurd_retry_after_is_capped(account: LocalAccount) -> None:
    running = await acreate_prediction.fn("emulator/timer", {"seconds": 1000})
    account.faults.add("throttled", **GET, retry_after=86400)
    asked_at = account.clock.now()

    assert (await aget_prediction.fn(running)).id == running.id
    assert 60 <= account.clock.now() - asked_at < 62


async def test_the_async_twin_reads_too(running: Prediction) -> None:
    assert (await aget_prediction.fn(running.id)).id == running.id
