import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.faults import FaultPlan

CREATE = {"version": "emulator/timer", "input": {}}


def post(api: httpx.Client) -> httpx.Response:
    return api.post("/predictions", json=CREATE)


def download(url: str, into: bytearray) -> None:
    with httpx.stream("GET", url) as reply:
        for chunk in reply.iter_raw():
            into += chunk


def test_a_reset_processes_nothing(api: httpx.Client, replicate_emulator: Emulator) -> None:
    replicate_emulator.faults.add("reset", method="POST")

    with pytest.raises(httpx.ReadError, match="reset"):
        post(api)
    assert len(replicate_emulator.predictions) == 0
    assert post(api).status_code == 201


def test_a_lost_reply_belongs_to_a_request_that_was_processed(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    replicate_emulator.faults.add("lost_reply", method="POST", path="/predictions$")

    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        post(api)
    assert len(replicate_emulator.predictions) == 1
    assert replicate_emulator.requests[0].fault == "lost_reply"


def test_a_late_reply_belongs_to_a_request_that_was_processed(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    replicate_emulator.faults.add("late_reply", seconds=2)

    with pytest.raises(httpx.ReadTimeout, match="timed out"):
        api.post("/predictions", json=CREATE, timeout=0.1)
    assert len(replicate_emulator.predictions) == 1


def test_a_delay_comes_before_the_request_is_processed(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    replicate_emulator.faults.add("delay", seconds=0.1)
    start = time.monotonic()

    assert post(api).status_code == 201
    assert time.monotonic() - start >= 0.1


def test_a_delayed_request_is_processed_although_its_client_has_gone(
    api: httpx.Client, replicate_emulator: Emulator, eventually: Callable[[Callable[[], Any]], None]
) -> None:
    replicate_emulator.faults.add("delay", seconds=0.3)

    with pytest.raises(httpx.ReadTimeout, match="timed out"):
        api.post("/predictions", json=CREATE, timeout=0.1)
    eventually(lambda: len(replicate_emulator.predictions) == 1)


@pytest.mark.parametrize(
    ("kind", "options", "status", "text"),
    [
        ("error_page", {}, 502, "<h1>502 Bad Gateway</h1>"),
        ("error_page", {"status": 503}, 503, "cloudflare"),
        ("error_text", {}, 520, "error code: 520"),
        ("html", {}, 200, "Just a moment"),
        ("malformed", {}, 200, '{"id":'),
        ("unauthenticated", {}, 401, "valid authentication token"),
        ("insufficient_credit", {}, 402, "Insufficient credit"),
        ("not_found", {}, 404, "could not be found"),
        ("throttled", {}, 429, "Request was throttled."),
        ("throttled", {"retry_after": 7}, 429, "resets in ~7s"),
    ],
)
def test_a_reply_is_replaced(
    api: httpx.Client,
    replicate_emulator: Emulator,
    kind: Any,
    options: dict[str, Any],
    status: int,
    text: str,
) -> None:
    replicate_emulator.faults.add(kind, **options)
    spoiled = post(api)

    assert spoiled.status_code == status
    assert text in spoiled.text
    assert spoiled.headers.get("retry-after") == ("7" if options.get("retry_after") else None)
    assert len(replicate_emulator.predictions) == 0


def test_a_replaced_reply_can_belong_to_a_request_that_was_processed(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    replicate_emulator.faults.add("error_page", processed=True)

    assert post(api).status_code == 502
    assert len(replicate_emulator.predictions) == 1


def test_a_download_breaks_off_and_resumes(api: httpx.Client, replicate_emulator: Emulator) -> None:
    created = api.post("/predictions", json={**CREATE, "input": {"output_bytes": 5000}}).json()
    url = api.get(f"/predictions/{created['id']}").json()["output"]
    replicate_emulator.faults.add("truncated", path=r"\.bin$", bytes=2000)
    got = bytearray()

    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        download(url, got)
    rest = httpx.get(url, headers={"range": f"bytes={len(got)}-"}).content

    assert len(got) == 2000
    assert bytes(got) + rest == httpx.get(url).content


def test_faults_meet_the_nth_request_and_those_after() -> None:
    faults = FaultPlan()
    faults.add("reset", method="POST", nth=2, times=2)

    met = [faults.pick("POST", "/v1/predictions") is not None for _ in range(5)]

    assert met == [False, True, True, False, False]
    assert faults.pending == []


def test_faults_tell_methods_and_paths_apart() -> None:
    faults = FaultPlan()
    faults.add("reset", method="GET", path=r"/predictions/\w+$", times=None)

    assert faults.pick("POST", "/v1/predictions/x") is None
    assert faults.pick("GET", "/v1/predictions") is None
    assert faults.pick("GET", "/v1/predictions/x") is not None


def test_random_faults_are_the_same_for_the_same_seed() -> None:
    def draw(seed: int) -> list[str | None]:
        faults = FaultPlan()
        faults.add_random({"reset": 0.2, "error_page": 0.2}, seed)
        picked = (faults.pick("GET", "/") for _ in range(200))
        return [fault and fault.kind for fault in picked]

    assert draw(1) == draw(1) != draw(2)
    assert 50 < sum(kind is not None for kind in draw(1)) < 100


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda faults: faults.add("explode"), "there is no fault 'explode'; the kinds are delay"),
        (lambda faults: faults.add("reset", verb="GET"), "no such option"),
        (lambda faults: faults.add("reset", nth=0), "count from 1"),
        (lambda faults: faults.add("reset", rate=2), "between 0 and 1"),
        (lambda faults: faults.add("reset", path="("), "not a regular expression"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(
    add: Callable[[FaultPlan], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        add(FaultPlan())
