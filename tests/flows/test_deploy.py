"""Deployments of single models, whose forms are those models' inputs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import get_client
from prefect.blocks.system import Secret
from prefect.flow_engine import run_flow_sync
from prefect.states import State

from prefect_replicate import ReplicateCredentials, cli, model_deployment, run_model
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import ConfigurationError, InvalidInputError, ReplicateError
from prefect_replicate.flows.deploy import drifts

TIMER, VIDEO = "emulator/timer", "bytedance/seedance-1-lite"


@pytest.fixture(autouse=True)
def _none_before() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] pytest calls it
    yield
    with get_client(sync_client=True) as client:
        for one in client.read_deployments():
            client.delete_deployment(one.id)


def deployed(deployment_id: UUID) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_deployment(deployment_id)


def run_of(deployment_id: UUID, **parameters: Any) -> State[Any]:
    """Run it here, as a worker would with what the server has let through."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment_id, parameters=parameters)
    return run_flow_sync(
        run_model, flow_run=run, parameters=run_model.validate_parameters(run.parameters),
        return_type="state",
    )  # fmt: skip


def test_the_form_is_that_of_the_models_own_inputs(replicate_emulator: Emulator) -> None:
    made = deployed(model_deployment(VIDEO).apply())

    form = made.parameter_openapi_schema["definitions"]["Input"]["properties"]
    assert made.name == "bytedance-seedance-1-lite"
    assert made.tags == ["replicate-model"]
    assert made.entrypoint == "prefect_replicate.flows.run_model.run_model"
    assert list(made.parameter_openapi_schema["properties"]) == ["input", "destination", "timeout"]
    assert form["prompt"]["position"] == 0
    assert form["aspect_ratio"]["title"] == "Aspect ratio"
    assert form["aspect_ratio"]["enum"][0] == "16:9"


@pytest.mark.parametrize(
    ("input", "told"),
    [
        ({"seconds": "soon"}, "soon"),
        ({"seconds": -1}, "-1"),
        ({"outcome": "great"}, "great"),
        ({"secnods": 5}, "secnods"),
        ({"key": "sk-secret"}, "key"),
    ],
)
def test_prefects_server_refuses_a_wrong_input_before_a_run_exists(
    replicate_emulator: Emulator, input: dict[str, Any], told: str
) -> None:
    deployment_id = model_deployment(TIMER).apply()

    with get_client(sync_client=True) as client, pytest.raises(httpx.HTTPStatusError) as refused:
        client.create_flow_run_from_deployment(deployment_id, parameters={"input": input})

    assert refused.value.response.status_code == 409
    assert told in refused.value.response.text


def test_a_run_of_it_is_one_of_the_model(replicate_emulator: Emulator) -> None:
    deployment_id = model_deployment(TIMER, input={"output": {"a": 1}}).apply()

    state = run_of(deployment_id, input={"output": {"a": 2}})

    assert state.result().output == {"a": 2}


def test_what_it_was_given_is_what_its_runs_start_from(replicate_emulator: Emulator) -> None:
    deployment_id = model_deployment(
        TIMER, "nightly", input={"output": [5]}, cron="0 7 * * *"
    ).apply()

    made = deployed(deployment_id)
    form = made.parameter_openapi_schema["definitions"]["Input"]["properties"]
    assert (made.name, form["output"]["default"]) == ("nightly", [5])
    assert made.schedules[0].schedule.cron == "0 7 * * *"
    assert run_of(deployment_id).result().output == [5]


def test_a_secret_comes_from_its_block_and_stands_nowhere(
    replicate_emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    Secret(value="sk-of-the-house").save("timer-key", overwrite=True)  # pyright: ignore[reportUnusedCoroutine]
    deployment_id = model_deployment(TIMER, secrets={"key": "timer-key"}).apply()

    state = run_of(deployment_id, input={"output": "x", "seconds": 0})

    [prediction] = replicate_emulator.predictions
    assert prediction.input["key"] == "sk-of-the-house"
    made = deployed(deployment_id)
    assert "sk-of-the-house" not in made.model_dump_json() + caplog.text
    assert "key" not in made.parameter_openapi_schema["definitions"]["Input"]["properties"]
    assert state.result().text == "x"


def _delete_secret(name: str) -> None:
    with get_client(sync_client=True) as client:
        client.delete_block_document(client.read_block_document_by_name(name, "secret").id)


def test_a_secret_is_not_for_whoever_starts_a_run_to_choose(replicate_emulator: Emulator) -> None:
    Secret(value="sk-of-the-house").save("timer-key", overwrite=True)  # pyright: ignore[reportUnusedCoroutine]
    Secret(value="sk-of-another").save("other-key", overwrite=True)  # pyright: ignore[reportUnusedCoroutine]
    bare = model_deployment(TIMER, "bare").apply()
    fixed = model_deployment(TIMER, "fixed", secrets={"key": "timer-key"}).apply()

    states = [
        run_of(bare, secrets={"key": "other-key"}),
        run_of(fixed, secrets={"key": "other-key"}),
        run_of(fixed, model="emulator/community-timer"),
    ]

    assert all("can be set only in the deployment" in one.message for one in states)
    assert replicate_emulator.predictions.create_requests == 0


def test_a_secret_is_not_for_an_input_that_is_shown(replicate_emulator: Emulator) -> None:
    with pytest.raises(InvalidInputError, match="The input 'prompt' is not secret, so Replicate"):
        run_model(TIMER, {"seconds": 0}, secrets={"prompt": "timer-key"})
    with pytest.raises(ConfigurationError, match="block 'nobodys-key' for the input 'key' can't"):
        model_deployment(TIMER, secrets={"key": "nobodys-key"})
    assert replicate_emulator.predictions.create_requests == 0


def test_a_secret_whose_block_is_missing_is_said_before_anything_is_paid(
    replicate_emulator: Emulator,
) -> None:
    Secret(value="sk-of-the-house").save("nobodys-key", overwrite=True)  # pyright: ignore[reportUnusedCoroutine]
    deployment_id = model_deployment(TIMER, secrets={"key": "nobodys-key"}).apply()
    _delete_secret("nobodys-key")

    state = run_of(deployment_id)

    assert "The secret block 'nobodys-key' for the input 'key' can't be loaded" in state.message
    assert replicate_emulator.predictions.create_requests == 0


def test_credentials_are_handed_over_as_a_saved_block(
    replicate_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = os.environ["REPLICATE_API_TOKEN"]
    unsaved = ReplicateCredentials.model_validate(
        {"api_token": token, "base_url": replicate_emulator.base_url}
    )
    with pytest.raises(ConfigurationError, match="is not saved"):
        model_deployment(TIMER, credentials=unsaved)
    unsaved.save("house", overwrite=True)  # pyright: ignore[reportUnusedCoroutine]

    deployment_id = model_deployment(TIMER, credentials=unsaved).apply()
    monkeypatch.delenv("REPLICATE_API_TOKEN")

    assert token not in deployed(deployment_id).model_dump_json()
    assert run_of(deployment_id, input={"output": 1}).is_completed()


@pytest.mark.parametrize(
    ("model", "options", "error", "told"),
    [
        ("no reference", {}, InvalidInputError, "is not a model reference"),
        ("nobody/nothing", {}, InvalidInputError, "Model 'nobody/nothing' was not found"),
        (TIMER, {"input": {"seconds": "x"}}, InvalidInputError, "seconds takes a number"),
        (TIMER, {"input": {"secnods": 1}}, InvalidInputError, "did you mean 'seconds'"),
        (TIMER, {"input": {"key": "x"}}, ConfigurationError, "is secret, but would be in"),
        (TIMER, {"input": {"image": b"x"}}, InvalidInputError, "'image' is a file on this mach"),
        (TIMER, {"input": {"image": Path("x.png")}}, InvalidInputError, "use a URL"),
        ("emulator/language", {"input": {"prompt": 5}}, InvalidInputError, "takes a string, not 5"),
        (TIMER, {"secrets": {"kye": "x"}}, InvalidInputError, "has no secret input 'kye'"),
        ("emulator/language", {"cron": "0 7 * * *"}, InvalidInputError, "needs the input 'prompt'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    replicate_emulator: Emulator,
    model: str,
    options: dict[str, Any],
    error: type[ReplicateError],
    told: str,
) -> None:
    with pytest.raises(error, match=told):
        model_deployment(model, **options)


def change_form(deployment_id: UUID) -> None:
    """Have it look as if the model had taken something else when it was deployed."""
    with get_client(sync_client=True) as client:
        made = client.read_deployment(deployment_id)
        schema = made.parameter_openapi_schema
        form = schema["definitions"]["Input"]["properties"]
        form["former"] = form.pop("log_lines")
        client.request(
            "PATCH", f"/deployments/{deployment_id}", json={"parameter_openapi_schema": schema}
        )


def test_a_run_whose_input_is_still_valid_goes_on_and_says_what_has_changed(
    replicate_emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    deployment_id = model_deployment(TIMER).apply()
    change_form(deployment_id)

    assert run_of(deployment_id, input={"output": 1}).is_completed()
    assert (
        f"{TIMER} has changed since this was deployed: former is gone; log_lines is" in caplog.text
    )


def test_one_whose_input_is_not_valid_any_more_says_so_unpaid(replicate_emulator: Emulator) -> None:
    deployment_id = model_deployment(TIMER).apply()
    change_form(deployment_id)

    state = run_of(deployment_id, input={"former": 1})

    assert "'former' is unknown" in state.message
    assert "Since this was deployed: former is gone; log_lines is new" in state.message
    assert replicate_emulator.predictions.create_requests == 0


def test_the_drift_of_all_deployments_is_listed(
    replicate_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.deploy(check=True) == 0
    same, other = model_deployment(VIDEO).apply(), model_deployment(TIMER).apply()
    assert cli.deploy(check=True) == 0
    change_form(other)
    capsys.readouterr()

    assert cli.deploy(check=True) == 1

    lines = capsys.readouterr().out.splitlines()
    assert f"run-model/bytedance-seedance-1-lite ({VIDEO}): unchanged" in lines
    assert any("(emulator/timer): former is gone; log_lines is new" in line for line in lines)
    assert same != other


def test_a_model_that_is_gone_is_listed_as_such(replicate_emulator: Emulator) -> None:
    deployment_id = model_deployment(TIMER).apply()
    with get_client(sync_client=True) as client:
        gone = {"parameters": {"model": "emulator/gone"}}
        client.request("PATCH", f"/deployments/{deployment_id}", json=gone)

    [drift] = drifts()

    assert drift.error is not None
    assert "emulator/gone" in drift.error
    assert "was not found" in run_of(deployment_id).message
    assert replicate_emulator.predictions.create_requests == 0


def test_the_command_deploys(
    replicate_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    Secret(value="sk-of-the-house").save("timer-key", overwrite=True)  # pyright: ignore[reportUnusedCoroutine]
    assert cli.deploy(TIMER, name="mine", input=["seconds=0.1"], secret=["key=timer-key"]) == 0

    out = capsys.readouterr().out
    assert out.startswith("run-model/mine runs emulator/timer.")
    assert "Nothing runs it yet: use --pool or --serve." in out
    with get_client(sync_client=True) as client:
        made = client.read_deployment_by_name("run-model/mine")
    assert made.parameters["secrets"] == {"key": "timer-key"}
    assert made.parameters["input"] == {"seconds": 0.1}


def test_a_wrong_command_is_one_line(replicate_emulator: Emulator) -> None:
    with pytest.raises(cli.UsageError, match="deploy takes a model"):
        cli.deploy()
    with pytest.raises(cli.UsageError, match="--secret takes key=value, not 'key'"):
        cli.deploy(TIMER, secret=["key"])
    with pytest.raises(
        ReplicateError, match="There is no work pool 'no-such-pool': create it with"
    ):
        cli.deploy(TIMER, pool="no-such-pool")
