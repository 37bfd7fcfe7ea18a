from contextlib import closing
from typing import Any

import httpx
import pytest
from benchmarks.local_account import TOKEN, URL, LocalAccount, Network
from benchmarks.virtual_time import VirtualTimeLoop

from prefect_replicate.emulator import Emulator

OFFICIAL = "emulator/timer"
COMMUNITY = "emulator/community-timer"


def create(api: httpx.Client, headers: dict[str, str] | None = None, **values: Any) -> Any:
    body = {"version": OFFICIAL, "input": values}
    reply = api.post("/predictions", json=body, headers=headers)
    assert reply.status_code in (201, 202), reply.text
    return reply.json()


def read(api: httpx.Client, prediction: Any) -> Any:
    return api.get(f"/predictions/{prediction['id']}").json()


def versions(api: httpx.Client, model: str) -> list[str]:
    return [one["id"] for one in api.get(f"/models/{model}/versions").json()["results"]]


def test_a_prediction_starts_processes_and_succeeds(api: httpx.Client, still: Emulator) -> None:
    created = create(api, queue_seconds=5, seconds=10, log_lines=2)
    seen = [created]
    for _ in range(3):
        still.clock.advance(6)
        seen.append(read(api, created))

    assert [one["status"] for one in seen] == ["starting", "processing", "processing", "succeeded"]
    assert [one["logs"] for one in seen[1:]] == ["", "line 1 of 2\n", "line 1 of 2\nline 2 of 2\n"]
    assert "output" not in seen[2]
    assert seen[3]["metrics"] == {"total_time": 15.0, "predict_time": 10.0}


def test_an_official_model_hides_its_version_and_a_community_model_does_not(
    api: httpx.Client,
) -> None:
    older = versions(api, COMMUNITY)[1]
    community = api.post("/predictions", json={"version": older, "input": {}}).json()

    assert create(api)["version"] == "hidden"
    assert (community["model"], community["version"]) == (COMMUNITY, older)


def test_a_version_can_be_named_with_its_model(api: httpx.Client) -> None:
    reference = f"{COMMUNITY}:{versions(api, COMMUNITY)[0]}"

    assert api.post("/predictions", json={"version": reference, "input": {}}).status_code == 201


@pytest.mark.parametrize(
    "version", [COMMUNITY, f"{COMMUNITY}:latest", f"{OFFICIAL}:{'0' * 64}", "0" * 64, "no/model"]
)
def test_other_versions_do_not_exist(api: httpx.Client, version: str) -> None:
    reply = api.post("/predictions", json={"version": version, "input": {}})

    assert reply.status_code == 422
    assert reply.json()["title"] == "Invalid version or not permitted"


def test_a_community_model_has_no_route_of_its_own(api: httpx.Client) -> None:
    assert api.post(f"/models/{OFFICIAL}/predictions", json={"input": {}}).status_code == 201
    refused = api.post(f"/models/{COMMUNITY}/predictions", json={"input": {}})

    assert refused.status_code == 404
    assert refused.json()["detail"] == "The requested resource could not be found."


def test_a_deployment_names_itself_and_its_version(api: httpx.Client) -> None:
    created = api.post("/deployments/acme/timer/predictions", json={"input": {}}).json()

    assert created["deployment"] == "acme/timer"
    assert created["version"] == versions(api, COMMUNITY)[0]


def test_substitution_runs_the_latest_version(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    replicate_emulator.behave(version_substitution=True)
    latest, older = versions(api, COMMUNITY)

    created = api.post("/predictions", json={"version": older, "input": {}}).json()

    assert created["version"] == latest


def test_waiting_returns_output_while_the_status_lags(api: httpx.Client) -> None:
    reply = api.post(
        "/predictions", json={"version": OFFICIAL, "input": {}}, headers={"prefer": "wait=5"}
    )
    body = reply.json()

    assert reply.headers["preference-applied"] == "wait=5"
    assert body["status"] == "processing"
    assert body["output"].startswith("data:text/plain;base64,")
    assert "completed_at" not in body
    assert read(api, body)["output"].startswith("http://")


def test_waiting_ends_with_whatever_there_is() -> None:
    body = {"version": OFFICIAL, "input": {"seconds": 60}}
    headers = {"authorization": f"Bearer {TOKEN}", "prefer": "wait=20"}

    async def post(account: LocalAccount) -> httpx.Response:
        async with httpx.AsyncClient(transport=Network(account, seed=1), timeout=60) as client:
            return await client.post(f"{URL}/v1/predictions", json=body, headers=headers)

    with closing(VirtualTimeLoop()) as loop, loop.as_the_time_of_day():
        account = LocalAccount()
        account.behave(pending_create_status=202)
        reply = loop.run_until_complete(post(account))

    assert reply.status_code == 202
    assert "output" not in reply.json()
    assert 20 < loop.time() < 21


def test_the_deadline_aborts_what_has_not_started(api: httpx.Client, still: Emulator) -> None:
    created = create(api, {"cancel-after": "30s"}, queue_seconds=60)
    still.clock.advance(30)
    ended = read(api, created)

    assert created["deadline"] == ended["deadline"]
    assert ended["status"] == "aborted"
    assert "started_at" not in ended


def test_the_deadline_cancels_what_runs(api: httpx.Client, still: Emulator) -> None:
    created = create(api, {"cancel-after": "30s"}, queue_seconds=10, seconds=60)
    still.clock.advance(30)
    ended = read(api, created)

    assert (ended["status"], ended["metrics"]["predict_time"]) == ("canceled", 20)


def test_a_lifetime_below_the_minimum_is_refused(api: httpx.Client) -> None:
    body = {"version": OFFICIAL, "input": {}}

    reply = api.post("/predictions", json=body, headers={"cancel-after": "2s"})

    assert reply.status_code == 422
    assert "minimum duration is 5s" in reply.json()["detail"]


def test_a_cancel_answers_in_the_database_form_without_logs(
    api: httpx.Client, still: Emulator
) -> None:
    created = create(api, seconds=60)
    still.clock.advance(10)
    canceled = api.post(f"/predictions/{created['id']}/cancel").json()

    assert (canceled["status"], canceled["logs"]) == ("canceled", None)
    assert canceled["metrics"]["predict_time"] == 10
    assert still.predictions.live() == []


def test_cancelling_a_finished_prediction_changes_nothing(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    created = create(api)
    unchanged = api.post(f"/predictions/{created['id']}/cancel")
    replicate_emulator.behave(finished_cancel_status=409)
    refused = api.post(f"/predictions/{created['id']}/cancel")

    assert (unchanged.status_code, unchanged.json()["status"]) == (200, "succeeded")
    assert refused.status_code == 409
    assert replicate_emulator.predictions[created["id"]].cancel_requests == 2


def test_a_running_model_can_take_time_to_stop(api: httpx.Client, still: Emulator) -> None:
    still.behave(cancel_lag=3)
    created = create(api, seconds=60)
    still.clock.advance(10)

    replied = api.post(f"/predictions/{created['id']}/cancel").json()
    still.clock.advance(3)

    assert replied["status"] == "processing"
    assert read(api, created)["status"] == "canceled"


def test_data_is_removed_after_an_hour(api: httpx.Client, still: Emulator) -> None:
    created = create(api)
    url = read(api, created)["output"]
    still.clock.advance(3600)
    removed = read(api, created)

    assert removed["data_removed"]
    assert (removed["status"], removed["output"], removed["input"]) == ("succeeded", None, {})
    assert httpx.get(url).status_code == 404


def test_both_forms_disagree_about_created_at_by_milliseconds(
    api: httpx.Client, still: Emulator
) -> None:
    created = create(api, seconds=10)
    still.clock.advance(100)
    archived = read(api, created)

    assert archived["created_at"] != created["created_at"]
    assert archived["webhook_completed"] is None
    assert next(iter(archived)) == "completed_at"


def test_what_was_asked_for_is_echoed(api: httpx.Client) -> None:
    body = {
        "version": OFFICIAL,
        "input": {"seconds": 0, "note": "unknown inputs are ignored"},
        "webhook": "http://127.0.0.1:9/hook?id=1",
        "webhook_events_filter": ["completed"],
    }
    created = api.post("/predictions", json=body).json()

    assert {name: created[name] for name in body if name != "version"} == {
        name: body[name] for name in body if name != "version"
    }
    assert set(created["urls"]) == {"get", "cancel", "stream", "web"}


def test_an_output_is_any_json_with_files_in_it(api: httpx.Client) -> None:
    created = create(api, output={"clips": ["file:a.txt", "file:b.txt"], "score": 0.5})
    output = read(api, created)["output"]

    assert output["score"] == 0.5
    assert [httpx.get(url).status_code for url in output["clips"]] == [200, 200]


def test_the_page_for_people_shows_the_video(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    body = {"version": "bytedance/seedance-1-lite", "input": {"prompt": "<fox>"}}
    created = api.post("/predictions", json=body).json()
    replicate_emulator.clock.advance(60)

    page = httpx.get(created["urls"]["web"]).text

    assert "<video" in page
    assert "&lt;fox&gt;" in page


def test_the_stream_sends_logs_output_and_done(api: httpx.Client) -> None:
    created = create(api, seconds=0.1, log_lines=1, output=["a", "b"])

    events = httpx.get(created["urls"]["stream"]).text

    assert [line for line in events.splitlines() if line.startswith("event:")] == [
        "event: logs", "event: output", "event: output", "event: done",
    ]  # fmt: skip


def test_inspection_counts_creates_with_the_same_input(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    first, again, other = (create(api, seconds=seconds) for seconds in (60, 60, 61))

    counted = {one.id: one.create_requests for one in replicate_emulator.predictions}

    assert counted == {first["id"]: 2, again["id"]: 2, other["id"]: 1}
    assert len(replicate_emulator.predictions.live()) == 3


def test_sync_mode_can_be_without_its_recorded_quirks(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    replicate_emulator.behave(sync_status_lags=False, sync_data_uri_limit=0)

    created = create(api, {"prefer": "wait"})

    assert created["status"] == "succeeded"
    assert created["output"].startswith(replicate_emulator.files_url)


def test_a_prediction_can_lack_its_model(api: httpx.Client, replicate_emulator: Emulator) -> None:
    replicate_emulator.behave(omit_model=True)

    assert "model" not in create(api)


def test_video_models_can_be_made_faster_as_a_whole(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    replicate_emulator.behave(duration_factor=0)
    body = {"version": "openai/sora-2", "input": {"prompt": "x"}}
    created = api.post("/predictions", json=body).json()

    assert read(api, created)["status"] == "succeeded"


def test_times_have_three_to_nine_digits_of_a_second(api: httpx.Client) -> None:
    times = {create(api)["created_at"] for _ in range(40)}
    digits = {len(time.rstrip("Z").partition(".")[2]) for time in times}

    assert digits == {3, 6, 8, 9}
