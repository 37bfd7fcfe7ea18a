"""What leaves the process of a batch with its tasks; clusters are in deployments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from prefect.context import serialize_context
from prefect.filesystems import LocalFileSystem
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from prefect_replicate import PollPolicy, ReplicateCredentials, generate_videos
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import ConfigurationError

TOKEN = "r8_" + "s" * 37
sent: list[bytes] = []


class Looking(ProcessPoolTaskRunner):
    """Notes what it sends."""

    def submit(self, task: Any, parameters: dict[str, Any], *args: Any, **more: Any) -> Any:
        sent.append(cloudpickle.dumps((serialize_context(), parameters)))
        return super().submit(task, parameters, *args, **more)


class InThreads(TaskRunner[Any]):
    """Notes what it would send to another process, and runs it in a thread of this one."""

    def __init__(self) -> None:
        super().__init__()
        self._threads = ThreadPoolTaskRunner()

    def duplicate(self) -> InThreads:
        return InThreads()

    def submit(self, task: Any, parameters: dict[str, Any], *args: Any, **more: Any) -> Any:
        sent.append(cloudpickle.dumps((serialize_context(), parameters)))
        _, arrived = cloudpickle.loads(sent[-1])
        return self._threads.submit(task, arrived, *args, **more)

    def map(self, *args: Any, **more: Any) -> Any:
        raise NotImplementedError

    def __enter__(self) -> InThreads:
        self._threads.__enter__()
        return super().__enter__()

    def __exit__(self, *exc_info: Any) -> None:
        self._threads.__exit__(*exc_info)
        super().__exit__(*exc_info)


@pytest.fixture
def options(quick: PollPolicy, tmp_path: Path) -> dict[str, Any]:
    sent.clear()
    return {"model": "emulator/timer", "policy": quick, "destination": tmp_path, "retries": 0}


@pytest.mark.parametrize(
    "runner", [InThreads(), pytest.param(Looking(max_workers=1), marks=pytest.mark.full)]
)
def test_a_saved_account_leaves_its_process_as_a_reference(
    replicate_emulator: Emulator, options: dict[str, Any], runner: TaskRunner[Any]
) -> None:
    account = ReplicateCredentials(
        api_token=replicate_emulator.token,  # pyright: ignore[reportArgumentType]
        base_url=replicate_emulator.base_url,
    )
    account.save("lent", overwrite=True)
    made = generate_videos.with_options(task_runner=runner)

    videos = made(["a fox", "a hare"], credentials=account, chunk_size=1, **options)

    assert len(videos.succeeded) == len(sent) == 2
    assert not any(replicate_emulator.token.encode() in one for one in sent)


@pytest.mark.parametrize(
    ("further", "complaint"),
    [
        ({"credentials": ReplicateCredentials(api_token=TOKEN)}, "block is not saved"),  # pyright: ignore[reportArgumentType]
        ({"destination": LocalFileSystem(basepath="videos")}, "LocalFileSystem block given as"),
    ],
)
def test_a_block_that_is_not_saved_is_refused(
    replicate_emulator: Emulator, options: dict[str, Any], further: dict[str, Any], complaint: str
) -> None:
    made = generate_videos.with_options(task_runner=InThreads())

    with pytest.raises(ConfigurationError, match=complaint):
        made(["a fox"], **{**options, **further})
    assert (sent, replicate_emulator.predictions.create_requests) == ([], 0)
