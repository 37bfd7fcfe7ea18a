"""The three kinds of retry: creates that may be sent again, and those that must be looked for."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
from benchmarks.local_account import LocalAccount

from prefect_replicate import ReplicateCredentials, acreate_prediction, create_prediction
from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.models.model import version_id
from prefect_replicate.exceptions import APIError, APIUnreachableError, UncertainCreateError
from prefect_replicate.ledger.facts import input_digest, is_input

CREATE = {"method": "POST", "path": "/predictions$"}
VERSION = version_id("emulator/community-timer", 2)


@pytest.fixture(params=[4000.0, -3600.0], ids="our clock {:g} s ahead".format)
def our_clock(request: pytest.FixtureRequest) -> float:
    """It makes no difference."""
    return request.param


@pytest.mark.parametrize(
    ("kind", "options"),
    [("throttled", {}), ("error_page", {"status": 503})],
)
async def test_a_create_that_was_turned_away_is_sent_again(
    account: LocalAccount, kind: Any, options: dict[str, Any]
) -> None:
    account.faults.add(kind, **CREATE, **options)

    await acreate_prediction.fn("emulator/timer", {})

    assert account.requests["create"] == 2
    assert account.requests["list"] == 0
    assert account.predictions.create_requests == 1


async def test_a_throttled_create_waits_as_long_as_it_is_asked_to(account: LocalAccount) -> None:
    account.faults.add("throttled", **CREATE, retry_after=30)

    await acreate_prediction.fn("emulator/timer", {})

    first, second = account.traffic.matching("POST")
    assert 30 <= second.time - first.time < 31


async def test_a_queue_is_stood_in_for_longer_than_a_fault_is_borne(account: LocalAccount) -> None:
    account.faults.add("throttled", **CREATE, times=5, retry_after=60)

    await acreate_prediction.fn("emulator/timer", {})

    assert account.requests["create"] == 6
    account.faults.add("error_page", **CREATE, times=None, status=503)
    began = account.clock.now()
    with pytest.raises(APIError, match="HTTP 503"):
        await acreate_prediction.fn("emulator/timer", {})
    assert account.clock.now() - began < 120


def test_a_create_waits_for_an_api_that_is_not_up_yet() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    late = Emulator(port)
    account = ReplicateCredentials(api_token=late.token, base_url=f"http://127.0.0.1:{port}")
    starter = threading.Timer(0.05, late.start)

    starter.start()
    create_prediction.fn(VERSION, {}, account)

    creates = late.requests.matching("POST", "/predictions")
    assert late.predictions.create_requests == len(creates) == 1
    late.stop()


@pytest.mark.parametrize("model", [VERSION, "emulator/timer"], ids=["create", "model"])
def test_an_unreachable_api_is_an_error_that_says_what_to_check_and_that_nothing_was_paid(
    impatient: None, model: str
) -> None:
    nobody = ReplicateCredentials(api_token="r8_x", base_url="http://127.0.0.1:1")

    with pytest.raises(
        APIUnreachableError,
        match=r"^Replicate's API at 127.0.0.1:1 can't be reached: [^\n]*; check that its server is"
        r" running, and that REPLICATE_BASE_URL or the credentials block's `base_url` is its"
        r" address\. Nothing more was paid\.$",
    ):
        create_prediction.fn(model, {}, nobody)


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
async def test_a_lost_create_reply_is_adopted_not_paid_again(
    account: LocalAccount, kind: Any, options: dict[str, Any], model: str
) -> None:
    account.faults.add(kind, **CREATE, **options)

    adopted = await acreate_prediction.fn(model, {"prompt": "a red fox", "seconds": 9})

    assert [one.id for one in account.predictions] == [adopted.id]
    assert account.requests["create"] == 1


@pytest.mark.parametrize("kind", ["reset", "error_page", "error_text", "html", "malformed"])
async def test_a_create_that_was_never_processed_is_looked_for_and_then_sent_again(
    account: LocalAccount, kind: Any
) -> None:
    account.faults.add(kind, **CREATE)

    await acreate_prediction.fn("emulator/timer", {})

    assert account.predictions.create_requests == 1
    assert account.requests["create"] == 2
    lists = [one.time for one in account.traffic.matching("GET", "/v1/predictions")]
    assert len(lists) == 5
    assert 15 < lists[-1] - lists[0] < 16  # as long as a list may lag behind a create


async def test_a_create_whose_reply_takes_too_long_is_adopted(account: LocalAccount) -> None:
    account.faults.add("late_reply", **CREATE, seconds=600)

    adopted = await acreate_prediction.fn("emulator/timer", {})

    assert [one.id for one in account.predictions] == [adopted.id]
    assert account.clock.now() - account.predictions[adopted.id].created_at < 61


@pytest.mark.parametrize("model", ["emulator/timer", VERSION])
async def test_a_lost_create_is_looked_for_since_shortly_before_it(
    account: LocalAccount, model: str
) -> None:
    account.faults.add("lost_reply", **CREATE)

    adopted = await acreate_prediction.fn(model, {"seconds": 9})

    assert [one.id for one in account.predictions] == [adopted.id]
    [search] = account.traffic.matching("GET", "/v1/predictions")
    since = datetime.fromisoformat(parse_qs(search.query)["created_after"][0]).timestamp()
    assert 55 < account.predictions[adopted.id].created_at - since < 65


@pytest.mark.parametrize(
    "input",
    [
        {"seconds": 7.0},
        {"seconds": 9, "seed": 2**60 + 1},
        {"seconds": 9, "output": [1e20, 1e21, -1e21, 1.5, 1e-7, 0.0, {"z": 2.0, "a": [3.0]}]},
        {"seconds": 9, "key": "sk-secret"},
        {"seconds": 9, "seed": None},
        {"seconds": 9, "output": f"data:image/png;base64,{base64.b64encode(b'raw').decode()}"},
        {"seconds": 9, "output": "data:image/png;base64,not base64"},
        {"seconds": 9, "output": 'data:text/plain;charset="utf-8";base64,YSBmb3g='},
        {"seconds": 9, "output": [-0.0, {"z": -0.0}]},
        {"seconds": 9, "output": Path(__file__)},
        {"seconds": 9, "output": {"files": [Path(__file__)], "n": 1.0}},
    ],
    ids=[
        "whole",
        "large",
        "numbers",
        "secret",
        "none",
        "data-uri",
        "broken-uri",
        "quoted-uri",
        "zero",
        "file",
        "nested",
    ],
)
@pytest.mark.parametrize("model", ["emulator/timer", VERSION])
async def test_an_input_is_known_again_however_replicate_shows_it(
    account: LocalAccount, model: str, input: dict[str, Any]
) -> None:
    account.faults.add("lost_reply", **CREATE)

    adopted = await acreate_prediction.fn(model, input)

    assert [one.id for one in account.predictions] == [adopted.id]


@pytest.mark.parametrize(
    ("mine", "others"),
    [
        ({"seed": 1}, {"seed": 1.5}),
        ({"seed": 1}, {"seed": True}),
        ({"seed": 1}, {"seed": "1"}),
        ({"output": None}, {"output": 0}),
        ({"output": [1]}, {"output": 1}),
        ({"key": "a", "seed": 1}, {"seed": 1}),
        ({"seed": 1}, {"key": "[REDACTED]", "seed": 1}),
    ],
)
def test_inputs_that_mean_something_else_are_told_apart(
    mine: dict[str, Any], others: dict[str, Any]
) -> None:
    assert not is_input(others, input_digest(mine))


@pytest.mark.parametrize("status", [408, 409, 425])
async def test_a_create_that_an_edge_gave_up_is_looked_for(
    account: LocalAccount, status: int
) -> None:
    account.faults.add("error_text", **CREATE, status=status, processed=True)

    adopted = await acreate_prediction.fn("emulator/timer", {"seconds": 9})

    assert [one.id for one in account.predictions] == [adopted.id]
    assert account.requests["create"] == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "odd", "status": "processing", "data_removed": None},
        {"id": "odd", "status": "processing", "version": {}, "logs": [], "urls": 1},
        {"id": "odd"},
        {"status": "processing"},
        {},
        "odd",
        None,
        7,
    ],
)
def test_an_odd_item_on_the_list_hides_nothing(scripted: Any, impatient: None, odd: object) -> None:
    lost = {"id": uuid4().hex, "status": "processing", "input": {"prompt": "a red fox"}}
    scripted.says({}, (502, "oops"), {"results": [odd, lost], "next": {}})

    adopted = create_prediction.fn(VERSION, {"prompt": "a red fox"}, scripted.credentials)

    assert adopted.id == lost["id"]


async def test_a_prediction_listed_without_its_model_is_adopted(account: LocalAccount) -> None:
    account.behave(omit_model=True)
    account.faults.add("lost_reply", **CREATE)

    adopted = await acreate_prediction.fn("emulator/timer", {"seconds": 9})

    assert [one.id for one in account.predictions] == [adopted.id]


async def test_others_predictions_are_not_adopted(account: LocalAccount) -> None:
    other_model = await acreate_prediction.fn("emulator/community-timer", {"seconds": 9})
    other_input = await acreate_prediction.fn("emulator/timer", {"seconds": 8})
    equal = await acreate_prediction.fn("emulator/timer", {"seconds": 9})
    account.faults.add("reset", **CREATE)

    found = await acreate_prediction.fn("emulator/timer", {"seconds": 9})

    assert found.id not in {other_model.id, other_input.id, equal.id}
    assert account.predictions.create_requests == 4


async def test_equal_calls_that_lose_their_replies_together_adopt_one_each(
    account: LocalAccount,
) -> None:
    account.faults.add("lost_reply", **CREATE, times=3)

    found = await asyncio.gather(
        *(acreate_prediction.fn("emulator/timer", {"seconds": 9}) for _ in range(3))
    )

    assert {one.id for one in found} == {one.id for one in account.predictions}
    assert len(found) == 3


async def test_calls_that_differ_in_a_secret_alone_stop_where_both_are_lost(
    account: LocalAccount,
) -> None:
    account.faults.add("lost_reply", **CREATE, times=2)

    found = await asyncio.gather(
        *(acreate_prediction.fn("emulator/timer", {"key": key}) for key in "ab"),
        return_exceptions=True,
    )

    assert all(isinstance(one, UncertainCreateError) for one in found)
    assert "differs only in a secret" in str(found[0])
    assert len(account.predictions) == 2


async def test_calls_that_differ_in_a_secret_alone_are_told_apart_once_one_is_known(
    account: LocalAccount,
) -> None:
    account.faults.add("lost_reply", **CREATE)
    account.faults.add("late_reply", **CREATE, seconds=4)

    made = await asyncio.gather(
        *(acreate_prediction.fn("emulator/timer", {"key": key}) for key in "ab")
    )

    assert [account.predictions[one.id].input["key"] for one in made] == ["a", "b"]
    assert len(account.predictions) == 2


async def test_calls_with_the_same_secret_adopt_one_each(account: LocalAccount) -> None:
    account.faults.add("lost_reply", **CREATE, times=2)

    made = await asyncio.gather(
        *(acreate_prediction.fn("emulator/timer", {"key": "a"}) for _ in range(2))
    )

    assert {one.id for one in made} == {one.id for one in account.predictions}


async def test_a_create_that_made_nothing_does_not_stand_in_the_way_of_later_ones(
    account: LocalAccount,
) -> None:
    account.faults.add("reset", **CREATE, times=3)
    with pytest.raises(UncertainCreateError):
        await acreate_prediction.fn("emulator/timer", {"key": "a"})
    await asyncio.sleep(300)
    account.faults.add("lost_reply", **CREATE)

    adopted = await acreate_prediction.fn("emulator/timer", {"key": "b"})

    assert [one.id for one in account.predictions] == [adopted.id]


def test_a_list_that_leads_back_to_itself_is_one_clear_error(
    scripted: Any, impatient: None
) -> None:
    scripted.says({}, (502, "oops"), {"results": [], "next": "/v1/predictions?cursor=a"})

    with pytest.raises(UncertainCreateError, match="next page was already read"):
        create_prediction.fn(VERSION, {"prompt": "a red fox"}, scripted.credentials)


async def test_lost_creates_are_looked_for_at_the_same_time(account: LocalAccount) -> None:
    account.faults.add("lost_reply", **CREATE, times=3)
    account.faults.add("delay", method="GET", path="/predictions$", times=3, seconds=30)

    await asyncio.gather(
        *(acreate_prediction.fn("emulator/timer", {"prompt": f"{number}"}) for number in range(3))
    )

    lists = [one.time for one in account.traffic.matching("GET", "/v1/predictions")]
    assert len(lists) == 3
    assert max(lists) - min(lists) < 1


async def test_a_lost_create_does_not_end_up_with_what_an_equal_one_was_making(
    account: LocalAccount,
) -> None:
    account.faults.add("late_reply", **CREATE, seconds=10)
    account.faults.add("error_page", **CREATE, seconds=3)

    found = await asyncio.gather(
        *(acreate_prediction.fn("emulator/timer", {"seconds": 9}) for _ in range(2))
    )

    assert {one.id for one in found} == {one.id for one in account.predictions}
    assert len(account.predictions) == 2


async def test_a_list_of_many_pages_with_aborted_predictions_is_searched(
    account: LocalAccount,
) -> None:
    await acreate_prediction.fn("emulator/timer", {"queue_seconds": 99}, cancel_after=5)
    await asyncio.sleep(6)
    account.faults.add("lost_reply", **CREATE)
    account.faults.add("error_page", path="/v1/predictions$", method="GET", times=None)
    finding = asyncio.create_task(acreate_prediction.fn("emulator/timer", {"seconds": 9}))
    await asyncio.sleep(1)
    made = [acreate_prediction.fn("emulator/timer", {"seconds": 8}) for _ in range(101)]
    newer = {one.id for one in await asyncio.gather(*made)}

    account.faults.clear()
    adopted = await finding

    assert account.predictions[adopted.id].input == {"seconds": 9}
    assert adopted.id not in newer
    assert "aborted" in {one.status for one in account.predictions}
    assert "&cursor=" in account.traffic.matching("GET", "/v1/predictions")[-1].query


async def test_a_create_whose_every_reply_is_lost_stops_after_three(account: LocalAccount) -> None:
    account.faults.add("reset", **CREATE, times=None)

    with pytest.raises(UncertainCreateError, match=r"tried 3 times.*no such prediction is listed"):
        await acreate_prediction.fn("emulator/timer", {})
    assert account.requests["create"] == 3


async def test_a_create_is_not_sent_again_while_it_cannot_be_looked_for(
    account: LocalAccount,
) -> None:
    account.faults.add("lost_reply", **CREATE)
    account.faults.add("error_page", method="GET", path="/v1/predictions$", times=None)

    with pytest.raises(UncertainCreateError, match=r"was lost .* can't be identified: .*502"):
        await acreate_prediction.fn("emulator/timer", {"seconds": 9})
    assert account.requests["create"] == 1


@pytest.mark.parametrize(
    ("base", "root"), [("", "/v1"), ("/gateway", "/gateway"), ("/gateway/v1", "/gateway/v1")]
)
@pytest.mark.parametrize("next_page", ["https://evil.example/v1", "{base_url}/v1"])
def test_the_next_page_is_read_from_the_api_itself(
    scripted: Any, impatient: None, base: str, root: str, next_page: str
) -> None:
    scripted.base_url += base
    next_url = f"{next_page}/predictions?cursor=x".format(base_url=scripted.base_url)
    lost = {"id": uuid4().hex, "status": "processing", "input": {"prompt": "a red fox"}}
    scripted.says({}, (502, "oops"), {"results": [], "next": next_url}, {"results": [lost]})

    adopted = create_prediction.fn(VERSION, {"prompt": "a red fox"}, scripted.credentials)

    assert adopted.id == lost["id"]
    assert scripted.paths[-1] == f"{root}/predictions?cursor=x"


def test_a_create_that_is_redirected_is_refused_not_looked_for(scripted: Any) -> None:
    scripted.says({}, (301, "", {"location": "https://api.replicate.com/v1/predictions"}))

    with pytest.raises(APIError, match="HTTP 301: Moved Permanently"):
        create_prediction.fn(VERSION, {}, scripted.credentials)
    assert scripted.paths[1:] == ["/v1/predictions"]
