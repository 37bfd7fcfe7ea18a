"""The three kinds of retry: creates that may be sent again, and those that must be looked for."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import pytest

from prefect_replicate import ReplicateCredentials, acreate_prediction, create_prediction
from prefect_replicate.api import connection
from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.models.model import version_id
from prefect_replicate.exceptions import APIError, APIUnreachableError, UncertainCreateError

CREATE = {"method": "POST", "path": "/predictions$"}
VERSION = version_id("emulator/community-timer", 2)


def creates(emulator: Emulator) -> int:
    return len(emulator.requests.matching("POST", "/predictions"))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("throttled", {}), ("error_page", {"status": 503})],
)
def test_a_create_that_was_turned_away_is_sent_again(
    replicate_emulator: Emulator, kind: Any, options: dict[str, Any]
) -> None:
    replicate_emulator.faults.add(kind, **CREATE, **options)

    create_prediction.fn("emulator/timer", {})

    assert creates(replicate_emulator) == 2
    assert replicate_emulator.requests.matching("GET", "/v1/predictions") == []
    assert replicate_emulator.predictions.create_requests == 1


def test_a_throttled_create_waits_as_long_as_it_is_asked_to(replicate_emulator: Emulator) -> None:
    replicate_emulator.faults.add("throttled", **CREATE, retry_after=1)
    start = time.monotonic()

    create_prediction.fn("emulator/timer", {})

    assert time.monotonic() - start >= 1


def test_a_queue_is_stood_in_for_longer_than_a_fault_is_borne(
    replicate_emulator: Emulator, impatient: None
) -> None:
    replicate_emulator.faults.add("throttled", **CREATE, times=2)

    create_prediction.fn("emulator/timer", {})

    assert creates(replicate_emulator) == 3


def test_a_create_waits_for_an_api_that_is_not_up_yet(
    eventually: Callable[[Callable[[], Any]], None],
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    late = Emulator(port)
    account = ReplicateCredentials(api_token=late.token, base_url=f"http://127.0.0.1:{port}")
    starter = threading.Timer(0.2, late.start)

    starter.start()
    create_prediction.fn(VERSION, {}, account)

    assert late.predictions.create_requests == creates(late) == 1
    late.stop()


def test_an_unreachable_api_is_an_error_of_ours(impatient: None) -> None:
    nobody = ReplicateCredentials(api_token="r8_x", base_url="http://127.0.0.1:1")

    with pytest.raises(APIUnreachableError, match=r"^Replicate's API at 127.0.0.1:1 can't be re"):
        create_prediction.fn(VERSION, {}, nobody)


PROCESSED = [
    ("lost_reply", {}),
    ("truncated", {"bytes": 40}),
    ("error_page", {"processed": True}),
    ("error_text", {"status": 500, "processed": True}),
    ("html", {"processed": True}),
    ("malformed", {"processed": True}),
]


@pytest.mark.parametrize(("kind", "options"), PROCESSED)
@pytest.mark.parametrize(
    "model", ["emulator/timer", "emulator/community-timer", VERSION, "deployment:acme/timer"]
)
def test_a_lost_create_reply_is_adopted_not_paid_again(
    still: Emulator, impatient: None, kind: Any, options: dict[str, Any], model: str
) -> None:
    still.faults.add(kind, **CREATE, **options)

    adopted = create_prediction.fn(model, {"prompt": "a red fox", "seconds": 9})

    assert [one.id for one in still.predictions] == [adopted.id]
    assert creates(still) == 1


@pytest.mark.parametrize("kind", ["reset", "error_page", "error_text", "html", "malformed"])
def test_a_create_that_was_never_processed_is_looked_for_and_then_sent_again(
    replicate_emulator: Emulator, impatient: None, kind: Any
) -> None:
    replicate_emulator.faults.add(kind, **CREATE)

    create_prediction.fn("emulator/timer", {})

    assert replicate_emulator.predictions.create_requests == 1
    assert creates(replicate_emulator) == 2
    assert replicate_emulator.requests.matching("GET", "/v1/predictions") != []


def test_a_create_whose_reply_takes_too_long_is_adopted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_TIMEOUT", 0.2)  # a new address gets a new connection
    with Emulator() as slow:
        account = ReplicateCredentials(api_token=slow.token, base_url=slow.base_url)
        slow.faults.add("late_reply", **CREATE, seconds=1)

        adopted = create_prediction.fn("emulator/timer", {}, account)

        assert [one.id for one in slow.predictions] == [adopted.id]


def test_a_lost_create_is_looked_for_although_our_clock_is_ahead(
    still: Emulator, impatient: None
) -> None:
    still.faults.add("lost_reply", **CREATE)
    sent_at = time.time()

    create_prediction.fn("emulator/timer", {"seconds": 9})

    [search] = still.requests.matching("GET", "/v1/predictions")
    since = datetime.fromisoformat(parse_qs(search.query)["created_after"][0])
    assert 30 < sent_at - since.timestamp() < 300


def test_a_prediction_listed_without_its_model_is_adopted(still: Emulator, impatient: None) -> None:
    still.behave(omit_model=True)
    still.faults.add("lost_reply", **CREATE)

    adopted = create_prediction.fn("emulator/timer", {"seconds": 9})

    assert [one.id for one in still.predictions] == [adopted.id]


def test_others_predictions_are_not_adopted(still: Emulator, impatient: None) -> None:
    other_model = create_prediction.fn("emulator/community-timer", {"seconds": 9})
    other_input = create_prediction.fn("emulator/timer", {"seconds": 8})
    equal = create_prediction.fn("emulator/timer", {"seconds": 9})
    still.faults.add("reset", **CREATE)

    found = create_prediction.fn("emulator/timer", {"seconds": 9})

    assert found.id not in {other_model.id, other_input.id, equal.id}
    assert still.predictions.create_requests == 4


async def test_equal_calls_that_lose_their_replies_together_adopt_one_each(
    still: Emulator, impatient: None
) -> None:
    still.faults.add("lost_reply", **CREATE, times=3)

    found = await asyncio.gather(
        *(acreate_prediction.fn("emulator/timer", {"seconds": 9}) for _ in range(3))
    )

    assert {one.id for one in found} == {one.id for one in still.predictions}
    assert len(found) == 3


async def test_lost_creates_are_looked_for_at_the_same_time(replicate_emulator: Emulator) -> None:
    replicate_emulator.faults.add("lost_reply", **CREATE, times=3)
    replicate_emulator.faults.add("delay", method="GET", path="/predictions$", times=3, seconds=2)

    await asyncio.gather(
        *(acreate_prediction.fn("emulator/timer", {"prompt": f"{number}"}) for number in range(3))
    )

    lists = [one.time for one in replicate_emulator.requests.matching("GET", "/v1/predictions")]
    assert len(lists) == 3
    assert max(lists) - min(lists) < 2


async def test_a_lost_create_does_not_end_up_with_what_an_equal_one_was_making(
    still: Emulator, impatient: None
) -> None:
    still.faults.add("late_reply", **CREATE, seconds=1)
    still.faults.add("error_page", **CREATE, seconds=0.3)

    found = await asyncio.gather(
        *(acreate_prediction.fn("emulator/timer", {"seconds": 9}) for _ in range(2))
    )

    assert {one.id for one in found} == {one.id for one in still.predictions}
    assert len(still.predictions) == 2


def test_a_list_of_many_pages_with_aborted_predictions_is_searched(
    still: Emulator, eventually: Callable[[Callable[[], Any]], None]
) -> None:
    create_prediction.fn("emulator/timer", {"queue_seconds": 99}, cancel_after=5)
    still.clock.advance(6)
    still.faults.add("lost_reply", **CREATE)
    still.faults.add("error_page", path="/v1/predictions$", method="GET", times=None)
    with ThreadPoolExecutor() as pool:
        finder = pool.submit(create_prediction.fn, "emulator/timer", {"seconds": 9})
        eventually(lambda: still.requests.matching("GET", "/v1/predictions"))
        newer = {create_prediction.fn("emulator/timer", {"seconds": 8}).id for _ in range(101)}

        still.faults.clear()
        adopted = finder.result()

    assert still.predictions[adopted.id].input == {"seconds": 9}
    assert adopted.id not in newer
    assert "aborted" in {one.status for one in still.predictions}
    assert "&cursor=" in still.requests.matching("GET", "/v1/predictions")[-1].query


def test_a_create_whose_every_reply_is_lost_stops_after_three(
    replicate_emulator: Emulator, impatient: None
) -> None:
    replicate_emulator.faults.add("reset", **CREATE, times=None)

    with pytest.raises(UncertainCreateError, match=r"tried 3 times.*no such prediction is listed"):
        create_prediction.fn("emulator/timer", {})
    assert creates(replicate_emulator) == 3


def test_a_create_is_not_sent_again_while_it_cannot_be_looked_for(
    still: Emulator, impatient: None
) -> None:
    still.faults.add("lost_reply", **CREATE)
    still.faults.add("error_page", method="GET", path="/v1/predictions$", times=None)

    with pytest.raises(UncertainCreateError, match=r"was lost .* can't be looked for: .*502"):
        create_prediction.fn("emulator/timer", {"seconds": 9})
    assert creates(still) == 1


@pytest.mark.parametrize("prefix", ["", "/gateway"])
@pytest.mark.parametrize("next_page", ["https://evil.example/v1", "{base_url}/v1"])
def test_the_next_page_is_read_from_the_api_itself(
    scripted: Any, impatient: None, prefix: str, next_page: str
) -> None:
    scripted.base_url += prefix
    next_url = f"{next_page}/predictions?cursor=x".format(base_url=scripted.base_url)
    lost = {"id": uuid4().hex, "status": "processing", "input": {"prompt": "a red fox"}}
    scripted.says((502, "oops"), {"results": [], "next": next_url}, {"results": [lost]})

    adopted = create_prediction.fn(VERSION, {"prompt": "a red fox"}, scripted.credentials)

    assert adopted.id == lost["id"]
    assert scripted.paths[-1] == f"{prefix}/v1/predictions?cursor=x"


def test_a_create_that_is_redirected_is_refused_not_looked_for(scripted: Any) -> None:
    scripted.says((301, "", {"location": "https://api.replicate.com/v1/predictions"}))

    with pytest.raises(APIError, match="HTTP 301: Moved Permanently"):
        create_prediction.fn(VERSION, {}, scripted.credentials)
    assert scripted.paths == ["/v1/predictions"]
