from typing import Any

import httpx
import pytest

from prefect_replicate.emulator import Emulator

CREATE = {"version": "emulator/timer", "input": {"seconds": 60}}


@pytest.fixture
def control(replicate_emulator: Emulator) -> httpx.Client:
    return httpx.Client(base_url=f"{replicate_emulator.base_url}/_emulator")


def test_the_overview_names_the_models_and_routes(replicate_emulator: Emulator) -> None:
    overview = httpx.get(f"{replicate_emulator.base_url}/_emulator").json()

    assert "emulator/timer" in overview["models"]
    assert "/_emulator/faults" in overview["routes"]


def test_another_process_can_script_faults(control: httpx.Client, api: httpx.Client) -> None:
    added = control.post("/faults", json={"kind": "error_page", "method": "POST", "times": 2})
    statuses = [api.post("/predictions", json=CREATE).status_code for _ in range(3)]

    assert added.status_code == 201
    assert statuses == [502, 502, 201]
    assert control.get("/faults").json() == []


def test_another_process_can_ask_for_random_faults(
    control: httpx.Client, api: httpx.Client
) -> None:
    control.post("/faults/random", json={"rates": {"not_found": 1.0}, "seed": 3})
    assert api.get("/account").status_code == 404

    control.delete("/faults")

    assert api.get("/account").status_code == 200


def test_another_process_can_move_the_time(control: httpx.Client, api: httpx.Client) -> None:
    control.post("/clock", json={"speed": 0})
    created = api.post("/predictions", json=CREATE).json()
    before = control.get("/clock").json()["now"]
    after = control.post("/clock/advance", json={"seconds": 60}).json()["now"]

    assert after - before == 60
    assert api.get(f"/predictions/{created['id']}").json()["status"] == "succeeded"


def test_another_process_sees_what_was_created_and_requested(
    control: httpx.Client, api: httpx.Client
) -> None:
    created = api.post("/predictions", json=CREATE).json()
    api.post(f"/predictions/{created['id']}/cancel")
    seen = control.get("/predictions").json()
    requests = control.get("/requests").json()["requests"]

    assert (seen["create_requests"], seen["cancel_requests"]) == (1, 1)
    assert seen["predictions"][0]["status"] == "canceled"
    assert control.get("/predictions?live=true").json()["predictions"] == []
    assert [(one["method"], one["status"]) for one in requests] == [("POST", 201), ("POST", 200)]
    assert "authorization" in requests[0]["headers"]


def test_another_process_can_change_and_reset_the_behaviour(
    control: httpx.Client, api: httpx.Client
) -> None:
    control.patch("/behaviour", json={"credit": False})
    assert api.post("/predictions", json=CREATE).status_code == 402

    control.post("/reset")

    assert control.get("/behaviour").json()["credit"] is True
    assert control.get("/requests").json()["requests"] == []
    assert control.get("/webhooks").json() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("POST", "/faults", {"kind": "explode"}, "there is no fault 'explode'"),
        ("POST", "/faults/random", {"rates": {"explode": 1}}, "there is no fault 'explode'"),
        ("POST", "/clock", {"speed": -1}, "speed must be zero"),
        ("POST", "/clock", {}, "{'speed': a number}"),
        ("POST", "/clock/advance", {"seconds": -1}, "cannot go back"),
        ("PATCH", "/behaviour", {"mood": "bad"}, "no such switch"),
        ("PATCH", "/behaviour", {"rate_limits": "none"}, "must be one of off, standard"),
        ("PATCH", "/behaviour", [], "must be a JSON object"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    control: httpx.Client, method: str, path: str, body: Any, detail: str
) -> None:
    reply = control.request(method, path, json=body)

    assert reply.status_code == 400
    assert detail in reply.json()["detail"]
