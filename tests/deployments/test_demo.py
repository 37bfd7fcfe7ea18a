"""The demo, as a process of its own; it brings its own Prefect server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from leftovers import processes_with
from prefect.client.orchestration import SyncPrefectClient

README = Path(__file__).parents[2] / "README.md"
DEMO = [sys.executable, "-m", "prefect_replicate.cli", "demo"]
_MARK = "PART_OF_THE_DEMO"
Env = dict[str, str]

pytestmark = pytest.mark.timeout(600)  # a Prefect server and four processes, one after the other
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


def new_env() -> Env:
    """An environment that all processes of one demo, and no others, have."""
    return {**os.environ, _MARK: uuid.uuid4().hex}


def processes_of(env: Env) -> set[int]:
    """The living processes of a demo."""
    return processes_with(_MARK, env[_MARK])


class Demo:
    """A demo that runs, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, env: Env) -> None:
        self.process = process
        self.env = env
        self._log = log

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, pattern: str) -> str:
        give_up = time.monotonic() + 280
        while (found := re.search(pattern, self.said)) is None:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < give_up, self.said
            time.sleep(0.1)
        return found[1]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Demo]:
    """`demo --keep`."""
    log, env = tmp_path / "log", new_env() | {"HOME": str(tmp_path)}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*DEMO, "--keep"], env=env, cwd=tmp_path, stdout=output, stderr=output
        ) as process,
    ):
        yield Demo(process, log, env)
        process.kill()


@needs_proc
@pytest.mark.full
def test_the_demo_makes_a_video_says_where_it_is_and_leaves_nothing_running(tmp_path: Path) -> None:
    env = new_env() | {"HOME": str(tmp_path)}

    done = subprocess.run(DEMO, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    (video,) = (tmp_path / "replicate").iterdir()
    assert b"ftyp" in video.read_bytes()[:12]
    assert f"Video            {video}\n" in done.stdout
    assert missing_from(done.stdout + done.stderr) == []
    assert processes_of(env) == set()


def missing_from(said: str) -> list[str]:
    """What the README shows of the demo's output, and the demo has not said."""
    [transcript] = re.findall(r"^```console\n(.*?)^```", README.read_text(), re.M | re.S)
    command, *shown = transcript.splitlines()
    assert command == "$ scripts/demo"
    return [line for line in shown if not re.search(shape_of(line), said, re.M)]


def shape_of(line: str) -> str:
    """The line with its ids, ports and folder left open."""
    pattern = re.escape(line).replace("/home/you", "/.*")
    pattern = re.sub(r"\b\w{8}(\\-\w{4}){3}\\-\w{12}\b|\b\w{26}\b", r"[\\w-]+", pattern)
    return "^" + re.sub(r":\d+", r":\\d+", pattern) + "$"


@needs_proc
def test_a_kept_demo_can_be_run_again_and_ctrl_c_cancels_and_stops_all_of_it(
    kept: Demo, tmp_path: Path
) -> None:
    api = kept.wait_for(r"export PREFECT_API_URL=(\S+)")
    deployment = kept.wait_for(r"/deployments/deployment/(\S+)")

    run(api, deployment, {"prompt": "a red fox"})
    wait_for_videos(2, tmp_path)
    run(api, deployment, {"prompt": "p", "model": "emulator/timer", "input": {"seconds": 600}})
    kept.wait_for(r"(\S+) of emulator/timer")
    kept.process.send_signal(signal.SIGINT)

    assert kept.process.wait(120) == 0
    assert missing_from(kept.said) == []
    assert "stopped after" in kept.said
    assert processes_of(kept.env) == set()


def run(api: str, deployment: str, parameters: dict[str, object]) -> None:
    with SyncPrefectClient(api) as client:
        client.create_flow_run_from_deployment(UUID(deployment), parameters=parameters)


def wait_for_videos(count: int, folder: Path) -> None:
    give_up = time.monotonic() + 120
    while len(list((folder / "replicate").glob("*.mp4"))) < count:
        assert time.monotonic() < give_up
        time.sleep(0.2)


@needs_proc
@pytest.mark.full
def test_a_demo_that_is_killed_takes_its_processes_with_it(kept: Demo) -> None:
    kept.wait_for(r"Prefect server +(http)")

    kept.process.kill()

    give_up = time.monotonic() + 60
    while left := processes_of(kept.env):
        assert time.monotonic() < give_up, left
        time.sleep(0.2)
