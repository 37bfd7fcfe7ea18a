"""A loaded block in the parameters of `run_deployment`, whose token Prefect sends as asterisks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.flow_engine import run_flow
from prefect.types.entrypoint import EntrypointType

from prefect_replicate import (
    ReplicateCredentials,
    generate_video,
    generate_videos,
    run_model,
    run_models,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import ConfigurationError

pytestmark = pytest.mark.usefixtures("prefect_api")
TIMER = {"model": "emulator/timer"}
CALLS: list[Any] = [
    (generate_video, {"prompt": "a fox", **TIMER}),
    (run_model, {"input": {}, **TIMER}),
    (generate_videos, {"requests": ["a fox"], **TIMER}),
    (generate_videos, {"requests": ["a fox"], "fan_out": "deployment", **TIMER}),
    (run_models, {"requests": [{"seconds": 1}], **TIMER}),
]


@pytest.fixture
def account(replicate_emulator: Emulator, monkeypatch: Any, tmp_path: Path) -> ReplicateCredentials:
    """A saved block; the environment has a token too, which is not to be used instead."""
    monkeypatch.setenv("HOME", str(tmp_path))
    ReplicateCredentials(
        api_token=replicate_emulator.token, base_url=replicate_emulator.base_url
    ).save("for-run-deployment", overwrite=True)
    return ReplicateCredentials.load("for-run-deployment")


def run_of_deployment(flow: Flow[..., Any], parameters: dict[str, Any]) -> FlowRun:
    id = flow.to_deployment("asterisks", entrypoint_type=EntrypointType.MODULE_PATH).apply()
    run = run_deployment(id, parameters=parameters, timeout=0)
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.id)  # as a worker gets it


@pytest.mark.parametrize(("flow", "parameters"), CALLS)
def test_a_loaded_block_is_refused_with_how_to_give_it(
    flow: Any, parameters: dict[str, Any], account: Any, replicate_emulator: Emulator
) -> None:
    run = run_of_deployment(flow, parameters | {"credentials": account})

    with pytest.raises(ConfigurationError, match=r"only asterisks.*the saved block's `reference`"):
        run_flow(flow, flow_run=run)
    assert len(replicate_emulator.requests) == 0


def test_what_the_message_says_to_give_works(
    account: ReplicateCredentials, replicate_emulator: Emulator
) -> None:
    parameters = {"input": {}, **TIMER, "credentials": account.reference}
    run = run_of_deployment(run_model, parameters)

    output: Any = run_flow(run_model, flow_run=run)

    assert output.prediction.is_succeeded
    assert replicate_emulator.predictions.create_requests == 1
