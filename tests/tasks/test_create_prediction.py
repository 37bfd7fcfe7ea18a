from __future__ import annotations

from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from benchmarks.local_account import LocalAccount

from prefect_replicate import (
    ReplicateCredentials,
    acreate_prediction,
    await_for_prediction,
    create_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.models.model import version_id
from prefect_replicate.exceptions import APIError, ConfigurationError, InvalidInputError
from prefect_replicate.ledger import prefect_api

OLD, NEW = (version_id("emulator/community-timer", number) for number in (1, 2))
PREDICTIONS = "/v1/predictions"


@pytest.mark.parametrize(
    ("model", "path", "version"),
    [
        ("emulator/timer", "/v1/models/emulator/timer/predictions", None),
        ("emulator/community-timer", PREDICTIONS, NEW),
        (f"emulator/community-timer:{OLD}", PREDICTIONS, OLD),
        (OLD, PREDICTIONS, OLD),
        ("deployment:acme/timer", "/v1/deployments/acme/timer/predictions", None),
    ],
    ids=["official", "community", "version", "bare-version", "deployment"],
)
def test_each_form_of_reference_goes_to_its_own_endpoint(
    replicate_emulator: Emulator, model: str, path: str, version: str | None
) -> None:
    prediction = create_prediction.fn(model, {"prompt": "a red fox"})

    [sent] = replicate_emulator.requests.matching("POST")
    assert (sent.path, sent.json.get("version")) == (path, version)
    assert sent.json["input"] == prediction.input == {"prompt": "a red fox"}
    assert prediction.id == next(iter(replicate_emulator.predictions)).id


@pytest.mark.parametrize(
    "model",
    [
        "",
        "timer",
        "emulator/timer:latest",
        "emulator/timer/predictions",
        "https://replicate.com/emulator/timer",
        f"deployment:acme/timer:{OLD}",
        "../account/x",
    ],
)
def test_anything_else_is_refused_before_any_request(
    replicate_emulator: Emulator, model: str
) -> None:
    with pytest.raises(InvalidInputError, match="use 'owner/name', 'owner/name:version'"):
        create_prediction.fn(model, {})
    assert len(replicate_emulator.requests) == 0


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("nobody/nothing", "model"),
        ("deployment:acme/nothing", "deployment"),
    ],
)
def test_an_unknown_model_is_refused_before_a_create(
    replicate_emulator: Emulator, model: str, kind: str
) -> None:
    with pytest.raises(
        InvalidInputError, match=f"{kind.capitalize()} '{model}' was not found.*Nothing was sent"
    ):
        create_prediction.fn(model, {})
    assert replicate_emulator.requests.matching("POST") == []


def test_a_mistyped_model_can_be_corrected_at_once(replicate_emulator: Emulator) -> None:
    with pytest.raises(InvalidInputError, match="was not found"):
        create_prediction.fn("emulator/tiemr", {})
    with pytest.raises(InvalidInputError, match="was not found"):
        create_prediction.fn("emulator/tiemr", {})

    assert len(replicate_emulator.requests.matching("GET", "tiemr")) == 2


async def test_a_model_is_looked_up_once_for_many_creates(account: LocalAccount) -> None:
    for _ in range(3):
        await acreate_prediction.fn("emulator/community-timer", {})

    assert len(account.traffic.matching("GET", "/v1/models/")) == 1


@pytest.mark.parametrize("model", ["0" * 64, f"emulator/community-timer:{'0' * 64}"])
def test_an_unknown_version_is_refused_by_the_create(
    replicate_emulator: Emulator, model: str
) -> None:
    with pytest.raises(InvalidInputError, match="The specified version does not exist"):
        create_prediction.fn(model, {})
    assert replicate_emulator.predictions.create_requests == 0


@pytest.mark.parametrize("model", [f"emulator/community-timer:{NEW}", "deployment:acme/timer"])
async def test_a_version_whose_page_is_hidden_is_run_unchecked(
    account: LocalAccount, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    account.behave(hidden_versions=True)

    await acreate_prediction.fn(model, {"prompt": "a red fox"})

    assert account.predictions.create_requests == 1
    assert "can't be read, so its input is sent unchecked" in caplog.text


@pytest.mark.parametrize(
    ("model", "page", "version"),
    [
        ("a/b", {"is_official": None, "latest_version": None}, "a/b"),
        ("a/b", {"is_official": None, "latest_version": {}}, "a/b"),
        ("a/b", {"is_official": None, "latest_version": {"id": NEW, "openapi_schema": []}}, NEW),
        ("deployment:a/b", {"current_release": {"model": "a/b"}}, None),
        ("deployment:a/b", {"current_release": None}, None),
        ("deployment:a/b", {}, None),
    ],
)
def test_a_page_that_says_little_is_enough(
    scripted: Any, model: str, page: dict[str, Any], version: str | None
) -> None:
    scripted.says(page, {"id": uuid4().hex, "status": "starting"})

    create_prediction.fn(model, {"prompt": "a red fox"}, scripted.credentials)

    assert scripted.bodies[-1].get("version") == version


def test_a_reference_that_replicate_refuses_is_one_clear_error(scripted: Any) -> None:
    scripted.says({}, (404, {"detail": "Not found."}))

    with pytest.raises(InvalidInputError, match=r"^deployment:a/b was not started: .*Nothing was"):
        create_prediction.fn("deployment:a/b", {}, scripted.credentials)


def test_a_parameter_of_the_wrong_type_is_the_callers_error(replicate_emulator: Emulator) -> None:
    with pytest.raises(InvalidInputError, match=r"^[^\n]*seconds[^\n]*$") as refused:
        create_prediction.fn("emulator/timer", {"seconds": "soon"})

    assert "emulator/timer" in str(refused.value)
    assert replicate_emulator.predictions.create_requests == 0


@pytest.mark.parametrize(
    "value",
    [object(), {"a": object()}, {1: 2}, float("nan"), float("inf"), "\ud83d", StringIO("a")],
    ids=["object", "within", "key", "nan", "infinity", "half-a-character", "text-file"],
)
def test_a_value_that_is_not_json_is_refused_before_a_create(
    replicate_emulator: Emulator, value: object
) -> None:
    with pytest.raises(InvalidInputError, match=r"^input 'output' is .*Nothing was sent\.$"):
        create_prediction.fn("emulator/timer", {"output": [value]})
    assert replicate_emulator.requests.matching("POST") == []


def test_an_input_without_an_end_is_refused(replicate_emulator: Emulator) -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(InvalidInputError, match=r"^input 'output' is nested too deeply"):
        create_prediction.fn("emulator/timer", {"output": endless})
    assert replicate_emulator.requests.matching("POST") == []


def test_an_input_that_is_not_a_mapping_is_refused(replicate_emulator: Emulator) -> None:
    with pytest.raises(InvalidInputError, match="input must be a mapping"):
        create_prediction.fn("emulator/timer", "a red fox")  # pyright: ignore
    assert replicate_emulator.requests.matching("POST") == []


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({}, "3660s"),
        ({"cancel_after": 90}, "90s"),
        ({"cancel_after": 0.4}, "5s"),
        ({"cancel_after": None}, "86400s"),
    ],
)
def test_every_create_says_when_replicate_may_end_it(
    replicate_emulator: Emulator, options: dict[str, float | None], header: str
) -> None:
    prediction = create_prediction.fn("emulator/timer", {}, **options)

    [sent] = replicate_emulator.requests.matching("POST")
    assert sent.headers["cancel-after"] == header
    assert prediction.deadline is not None


def test_a_rejected_token_is_said_without_the_token(replicate_emulator: Emulator) -> None:
    stranger = ReplicateCredentials(api_token="r8_stranger")

    with pytest.raises(ConfigurationError, match=r"rejected the API token.*api_token") as refused:
        create_prediction.fn("emulator/timer", {}, stranger)

    assert "r8_stranger" not in f"{refused.value!r} {refused.value.__cause__!r}"
    assert len(replicate_emulator.requests) == 1


def test_an_account_without_credit_is_told_so_and_not_asked_again(
    replicate_emulator: Emulator,
) -> None:
    replicate_emulator.behave(credit=False)

    with pytest.raises(APIError, match="HTTP 402: You have insufficient credit") as refused:
        create_prediction.fn("emulator/timer", {})

    assert refused.value.status == 402
    assert len(replicate_emulator.requests.matching("POST")) == 1


async def test_the_async_twin_creates_too(replicate_emulator: Emulator) -> None:
    prediction = await acreate_prediction.fn("emulator/timer", {"prompt": "a red fox"})

    assert [one.id for one in replicate_emulator.predictions] == [prediction.id]


def test_calls_outside_of_runs_are_separate(replicate_emulator: Emulator) -> None:
    ids = {create_prediction.fn("emulator/timer", {}).id for _ in range(2)}

    assert len(ids) == replicate_emulator.predictions.create_requests == 2


async def test_outside_of_runs_prefect_is_asked_for_nothing(
    account: LocalAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no API is set, to ask would start a server."""

    def get_client() -> None:
        raise AssertionError

    monkeypatch.setattr(prefect_api, "get_client", get_client)
    account.faults.add("lost_reply", method="POST", path="/predictions$")

    adopted = await acreate_prediction.fn("emulator/timer", {})
    done = await await_for_prediction.fn(adopted)

    assert done.is_succeeded
    assert account.predictions.create_requests == 1
