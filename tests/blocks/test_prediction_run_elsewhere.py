"""A `PredictionRun` that is stored or sent goes without its token, and finds one where it is."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import cloudpickle
import pytest
from prefect import flow, get_client, task
from prefect.filesystems import LocalFileSystem
from prefect.serializers import JSONSerializer, PickleSerializer

from prefect_replicate import PollPolicy, PredictionRun, ReplicateCredentials, ReplicateModel
from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import ConfigurationError, LedgerError

COPIES: list[Callable[[PredictionRun], Any]] = [
    lambda run: pickle.loads(pickle.dumps(run)),
    lambda run: cloudpickle.loads(cloudpickle.dumps(run)),
    lambda run: JSONSerializer[Any]().loads(JSONSerializer[Any]().dumps(run)),
]
copied = pytest.mark.parametrize("copy", COPIES, ids=["pickle", "cloudpickle", "json"])


@pytest.fixture
def account(replicate_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> ReplicateCredentials:
    """Credentials whose token is in no environment."""
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    monkeypatch.delenv("REPLICATE_BASE_URL")
    return ReplicateCredentials(
        api_token=replicate_emulator.token, base_url=replicate_emulator.base_url
    )


def triggered(account: ReplicateCredentials | None = None, **input: object) -> Any:
    return model_of(account).trigger({"output": "hello", **input})


def model_of(account: ReplicateCredentials | None) -> ReplicateModel:
    policy = PollPolicy(min_interval=0.01, max_interval=0.02)
    return ReplicateModel(
        model="emulator/timer", credentials=account or ReplicateCredentials(), policy=policy
    )


@pytest.mark.parametrize(
    ("serializer", "decoded"), [("pickle", base64.b64decode), ("json", str.encode)]
)
def test_a_tasks_stored_result_does_not_hold_the_token(
    account: ReplicateCredentials,
    replicate_emulator: Emulator,
    prefect_api: None,
    tmp_path: Path,
    serializer: str,
    decoded: Callable[[str], bytes],
) -> None:
    storage = LocalFileSystem(basepath=str(tmp_path))
    storage.save(f"results-{uuid4()}")

    @task(persist_result=True, result_storage=storage, result_serializer=serializer)
    def start() -> Any:
        return triggered(account)

    @flow
    def starting() -> None:
        start().wait_for_completion()

    starting()

    [stored] = [decoded(json.loads(file.read_text())["result"]) for file in tmp_path.iterdir()]
    assert b"emulator/timer" in stored
    assert replicate_emulator.token.encode() not in stored


def test_a_run_given_to_a_flow_is_the_same_without_its_token_on_the_server(
    account: ReplicateCredentials, replicate_emulator: Emulator, prefect_api: None
) -> None:
    @flow
    def waiting(run: PredictionRun) -> None:
        run.wait_for_completion()

    run = triggered(account)
    state = waiting(run, return_state=True)

    assert run.prediction.is_succeeded
    with get_client(sync_client=True) as client:
        shown = client.read_flow_run(state.state_details.flow_run_id)
    assert shown.parameters["run"]["prediction"]["id"] == run.prediction.id
    assert replicate_emulator.token not in shown.model_dump_json()


@copied
def test_a_copy_goes_on_with_the_saved_block(
    account: ReplicateCredentials, prefect_api: None, copy: Callable[[PredictionRun], Any]
) -> None:
    account.save("saved-for-runs", overwrite=True)

    run = copy(triggered(account))
    run.wait_for_completion()

    assert run.fetch_result() == "hello"


@copied
def test_a_copy_goes_on_with_the_saved_model_that_has_the_token(
    account: ReplicateCredentials, prefect_api: None, copy: Callable[[PredictionRun], Any]
) -> None:
    model_of(account).save("model-with-token", overwrite=True)
    model: Any = ReplicateModel.load("model-with-token")

    run = copy(model.trigger({"seconds": 600}))

    assert run.cancel().status == "canceled"


@copied
def test_a_copy_goes_on_with_the_environment(
    replicate_emulator: Emulator, copy: Callable[[PredictionRun], Any]
) -> None:
    run = copy(triggered())

    run.wait_for_completion()

    assert run.fetch_result() == "hello"


@copied
def test_a_copy_without_its_token_says_what_to_do(
    account: ReplicateCredentials, copy: Callable[[PredictionRun], Any]
) -> None:
    run = copy(triggered(account))

    with pytest.raises(ConfigurationError, match=r"call `wait_for_prediction\(run.prediction, cre"):
        run.wait_for_completion()
    assert run.prediction.id


async def test_a_copy_is_waited_for_by_async_code_too(
    account: ReplicateCredentials, replicate_emulator: Emulator
) -> None:
    run = pickle.loads(pickle.dumps(await model_of(account).atrigger()))

    with pytest.raises(ConfigurationError, match="block that is not saved, and is not sent"):
        await run.await_for_completion()
    with pytest.raises(ConfigurationError, match="block that is not saved, and is not sent"):
        await run.acancel()


def test_a_copy_whose_block_was_deleted_says_so(
    account: ReplicateCredentials, prefect_api: None
) -> None:
    account.save("soon-deleted", overwrite=True)
    run = pickle.loads(pickle.dumps(triggered(account)))
    ReplicateCredentials.delete("soon-deleted")

    with pytest.raises(LedgerError, match="could not load the credentials block"):
        run.wait_for_completion()


@pytest.mark.parametrize("is_saved", [True, False])
def test_another_process_waits_for_a_run(
    account: ReplicateCredentials,
    prefect_api: None,
    prefect_server: PrefectServer,
    tmp_path: Path,
    is_saved: bool,
) -> None:
    if is_saved:
        account.save("for-other-processes", overwrite=True)
    file = tmp_path / "run.pickle"
    file.write_bytes(PickleSerializer[Any](picklelib="pickle").dumps(triggered(account)))
    code = (
        "import sys; from prefect.serializers import PickleSerializer as P;"
        " run = P(picklelib='pickle').loads(open(sys.argv[1], 'rb').read());"
        " run.wait_for_completion(); print(run.fetch_result())"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, file], env=prefect_server.env, capture_output=True, text=True
    )

    if is_saved:
        assert done.stdout == "hello\n", done.stderr
    else:
        assert "save the block with `credentials.save(NAME)` before `trigger`" in done.stderr
