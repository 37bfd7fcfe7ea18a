"""Batches that are handed to runs of a deployment, as far as they are refused; on workers, they are
in tests/deployments.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import FlowRunSort
from prefect.utilities.callables import parameter_schema

from prefect_replicate import ReplicateCredentials, generate_video, generate_videos, run_models
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import BatchError, ConfigurationError

REQUESTS = ["a fox", "a hare"]


def deploy(flow: Any) -> str:
    """Deploy a flow of the package, for no worker in particular."""
    with get_client(sync_client=True) as client:
        client.create_deployment(
            flow_id=client.create_flow_from_name(flow.name),
            name="unmanned",
            entrypoint=f"prefect_replicate.{flow.fn.__name__}",
            parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
        )
    return f"{flow.name}/unmanned"


@pytest.mark.parametrize(
    ("deployment", "complaint"),
    [
        ("generate-videos/no-such", "There is no deployment 'generate-videos/no-such'"),
        ("no-such", "There is no deployment 'no-such'"),
        ("generate-video/unmanned", "does not run this version of the flow"),
    ],
)
def test_a_deployment_that_cannot_do_it_is_refused_before_anything_is_paid(
    replicate_emulator: Emulator, deployment: str, complaint: str
) -> None:
    deploy(generate_video)

    with pytest.raises(ConfigurationError, match=complaint):
        generate_videos(
            REQUESTS, model="emulator/timer", fan_out="deployment", deployment=deployment
        )
    assert replicate_emulator.predictions.create_requests == 0


@pytest.mark.parametrize("definition", [generate_videos, run_models])
def test_a_deployment_takes_also_what_its_form_does_not_show(
    replicate_emulator: Emulator, definition: Any
) -> None:
    made = {"model": "emulator/timer", "fan_out": "deployment", "worker_timeout": 0.5}

    with pytest.raises(BatchError, match="a process that serves `unmanned`"):
        definition(REQUESTS, deployment=deploy(definition), **made)
    assert replicate_emulator.predictions.create_requests == 0


def test_part_runs_are_named_after_the_run_of_their_batch(replicate_emulator: Emulator) -> None:
    made = {"fan_out": "deployment", "worker_timeout": 0.5, "chunk_size": 2}

    with pytest.raises(BatchError, match="a process that serves `unmanned`"):
        generate_videos.with_options(flow_run_name="Foxes of May")(
            [*REQUESTS, "an owl"], "emulator/timer", deployment=deploy(generate_videos), **made
        )

    with get_client(sync_client=True) as client:
        names = {
            one.name for one in client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC)
        }
    assert {"items 1 to 2 of Foxes of May", "item 3 of Foxes of May"} <= names


def test_a_part_run_numbers_its_items_as_the_whole_batch_does(
    replicate_emulator: Emulator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    artifacts: Callable[..., list[Artifact]],
) -> None:
    made = {"part": "1.3", "chunk_size": 2, "destination": tmp_path, "return_state": True}

    state: Any = generate_videos(REQUESTS, "emulator/timer", {"output": "file:a.png"}, **made)

    assert [one.number for one in state.result().outcomes] == [5, 6]
    [table] = artifacts(state, "table")
    assert [row["item"] for row in json.loads(str(table.data))] == [5, 6]
    labels = {line.partition(":")[0] for line in caplog.messages if line.startswith("Item ")}
    assert labels == {"Item 5", "Item 6"}


def test_an_account_that_is_not_saved_is_refused(replicate_emulator: Emulator) -> None:
    unsaved = ReplicateCredentials(api_token="r8_" + "u" * 37)  # pyright: ignore[reportArgumentType]
    made = {"model": "emulator/timer", "fan_out": "deployment", "credentials": unsaved}

    with pytest.raises(ConfigurationError, match="The ReplicateCredentials block is not saved"):
        generate_videos(REQUESTS, deployment=deploy(generate_videos), **made)
    assert replicate_emulator.predictions.create_requests == 0
