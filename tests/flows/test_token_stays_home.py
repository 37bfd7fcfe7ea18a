"""The token goes to the API alone, and is in nothing that Prefect keeps or shows."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import Artifact
from prefect.logging.handlers import APILogHandler
from prefect.states import State

from prefect_replicate import PollPolicy, ReplicateCredentials, agenerate_video
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import PredictionFailedError

Artifacts = Callable[[State[Any], str], list[Artifact]]
TIMER = "emulator/timer"


@pytest.fixture
def options(
    replicate_emulator: Emulator, quick: PollPolicy, tmp_path: Path, monkeypatch: Any
) -> dict[str, Any]:
    """A call whose token comes from a block, so that it is a parameter of the flow."""
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    account = ReplicateCredentials(
        api_token=replicate_emulator.token, base_url=replicate_emulator.base_url
    )
    return {"credentials": account, "policy": quick, "destination": tmp_path}


async def everything_on_the_server(state: State[Any]) -> str:
    """Logs, artifacts, parameters, states and task runs of a run, as the UI could show them."""
    id = state.state_details.flow_run_id
    assert id is not None
    await APILogHandler.aflush()  # they are sent in the background
    async with get_client() as client:
        run = await client.read_flow_run(id)
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[id]))
        logs = await client.read_logs(wanted, limit=200)
        assert any("Finished in state" in one.message for one in logs)
        tasks = await client.read_task_runs()
        artifacts = await client.read_artifacts()
    shown = [run, *logs, *tasks, *artifacts]
    return "\n".join(one.model_dump_json() for one in shown)


async def test_a_generation_shows_the_token_to_nobody(
    replicate_emulator: Emulator, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    token = replicate_emulator.token
    caplog.set_level("DEBUG")

    state = await agenerate_video("a fox", TIMER, {"log_lines": 3}, **options, return_state=True)

    video = await state.aresult()
    assert token not in await everything_on_the_server(state)
    assert token not in caplog.text
    assert token.encode() not in pickle.dumps(video)
    assert token not in video.model_dump_json() + repr(video)
    assert replicate_emulator.requests.file_authorizations == []


async def test_a_failure_shows_the_token_to_nobody(
    replicate_emulator: Emulator, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    token = replicate_emulator.token
    asked = {"outcome": "failed", "error": "out of memory"}

    state = await agenerate_video("a fox", TIMER, asked, **options, return_state=True)

    with pytest.raises(PredictionFailedError, match="out of memory") as failed:
        await state.aresult()
    assert token not in await everything_on_the_server(state)
    assert token not in caplog.text + str(failed.value) + repr(failed.value)
    assert token.encode() not in pickle.dumps(failed.value)


async def test_stored_results_hold_no_token(
    replicate_emulator: Emulator, options: dict[str, Any], tmp_path: Path
) -> None:
    from prefect.filesystems import LocalFileSystem

    storage = LocalFileSystem(basepath=str(tmp_path / "results"))
    await storage.asave("results-without-token", overwrite=True)
    persisted = agenerate_video.with_options(persist_result=True, result_storage=storage)

    await persisted("a fox", TIMER, **options)

    kept = [path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert kept
    assert [content for content in kept if replicate_emulator.token.encode() in content] == []
