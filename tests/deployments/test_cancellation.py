"""However a run is ended, its prediction ends too: real processes, a real server, real signals."""

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.emulator import Emulator

RENDER = str(Path(__file__).parent / "programs" / "render.py")
FLOW = "generate-video"

RunEnv = dict[str, str]


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    give_up = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < give_up, f"not so within {seconds:.0f} s"
        time.sleep(0.1)
    return result


@contextmanager
def running(arguments: list[str], env: RunEnv, folder: Path) -> Generator[Any, None, None]:
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=env | {"PYTHONUNBUFFERED": "1"},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


class Watched:
    """The predictions of one test, told by their prompt."""

    def __init__(self, replicate: Emulator) -> None:
        self.prompt = f"test-{uuid.uuid4().hex[:12]}"
        self._replicate = replicate

    def all(self) -> list[Any]:
        return [one for one in self._replicate.predictions if one.input["prompt"] == self.prompt]

    def processing(self) -> list[Any]:
        return [one for one in self.all() if one.status == "processing"]

    def have_ended(self) -> bool:
        return bool(self.all()) and not any(one.is_live for one in self.all())

    def statuses(self) -> set[str]:
        return {one.status for one in self.all()}


@pytest.fixture
def watched(replicate: Emulator) -> Watched:
    return Watched(replicate)


def post(server: PrefectServer, path: str, body: dict[str, Any]) -> Any:
    reply = httpx.post(f"{server.api_url}{path}", json=body, trust_env=False)
    reply.raise_for_status()
    return reply.json()


def flow_run_of(server: PrefectServer, prompt: str) -> dict[str, Any]:
    recent = {"sort": "START_TIME_DESC", "limit": 20}
    runs = post(server, "/flow_runs/filter", recent)
    return next(run for run in runs if run["parameters"].get("prompt") == prompt)


def cancel_as_the_ui_does(server: PrefectServer, flow_run_id: str) -> None:
    state = {"type": "CANCELLING", "name": "Cancelling"}
    post(server, f"/flow_runs/{flow_run_id}/set_state", {"state": state})


def state_of(server: PrefectServer, flow_run_id: str) -> str:
    url = f"{server.api_url}/flow_runs/{flow_run_id}"
    return httpx.get(url, trust_env=False).json()["state"]["name"]


def records_of(server: PrefectServer, flow_run_id: str) -> list[dict[str, Any]]:
    chosen = {
        "type": {"any_": ["replicate-prediction"]},
        "flow_run_id": {"any_": [flow_run_id]},
    }
    return post(server, "/artifacts/filter", {"artifacts": chosen})


@pytest.mark.parametrize("variant", ["plain", "plain_async"])
def test_ctrl_c_in_a_script_ends_the_prediction(
    variant: str, run_env: RunEnv, watched: Watched, tmp_path: Path
) -> None:
    with running([RENDER, variant, watched.prompt], run_env, tmp_path) as script:
        until(watched.processing)

        script.send_signal(signal.SIGINT)
        script.wait(30)

    assert watched.statuses() == {"canceled"}


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("flow_timeout", 1),
        ("flow_timeout_async", 1),
        ("task_timeout", 1),
        ("gather_timeout", 8),
        ("mapped_timeout", 4),
    ],
)
def test_a_timeout_of_prefects_ends_every_prediction(
    variant: str, count: int, run_env: RunEnv, watched: Watched, tmp_path: Path
) -> None:
    with running([RENDER, variant, watched.prompt], run_env, tmp_path) as script:
        script.wait(60)

    assert len(watched.all()) == count
    assert watched.statuses() == {"canceled"}


def test_canceling_a_scripts_run_in_the_ui_ends_the_prediction(
    prefect_server: PrefectServer, run_env: RunEnv, watched: Watched, tmp_path: Path
) -> None:
    with running([RENDER, "plain", watched.prompt], run_env, tmp_path) as script:
        until(watched.processing)

        cancel_as_the_ui_does(prefect_server, flow_run_of(prefect_server, watched.prompt)["id"])
        script.wait(30)

    assert watched.statuses() == {"canceled"}


def test_canceling_a_served_run_in_the_ui_ends_and_records_the_prediction(
    prefect_server: PrefectServer, run_env: RunEnv, watched: Watched, tmp_path: Path
) -> None:
    with running([RENDER, "serve", watched.prompt], run_env, tmp_path):
        run_id = run_deployment(run_env, f"{FLOW}/{watched.prompt}")
        until(watched.processing)

        cancel_as_the_ui_does(prefect_server, run_id)
        until(lambda: state_of(prefect_server, run_id) == "Cancelled")

    assert watched.statuses() == {"canceled"}
    [record] = records_of(prefect_server, run_id)
    assert record["data"]["status"] == "canceled"
    assert record["data"]["seconds_billed"] > 0


def run_deployment(env: RunEnv, name: str) -> str:
    def triggered() -> str | None:
        done = prefect(env, "deployment", "run", name)
        return done.stdout if done.returncode == 0 else None

    said = until(triggered)
    return said.partition("UUID:")[2].split()[0]


def prefect(env: RunEnv, *arguments: str, folder: Path | None = None) -> Any:
    command = [sys.executable, "-m", "prefect", *arguments]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)


def test_canceling_a_workers_run_from_the_command_line_ends_the_prediction(
    prefect_server: PrefectServer, run_env: RunEnv, watched: Watched, tmp_path: Path
) -> None:
    pool = watched.prompt
    assert prefect(run_env, "work-pool", "create", pool, "--type", "process").returncode == 0
    deploy_generate_video(run_env, pool, tmp_path)
    with running(["-m", "prefect", "worker", "start", "--pool", pool], run_env, tmp_path):
        run_id = run_deployment(run_env, f"{FLOW}/{pool}")
        until(watched.processing)

        assert prefect(run_env, "flow-run", "cancel", run_id).returncode == 0
        until(lambda: state_of(prefect_server, run_id) == "Cancelled")

    assert watched.statuses() == {"canceled"}


def deploy_generate_video(env: RunEnv, pool: str, folder: Path) -> None:
    deployment = {
        "name": pool,
        "entrypoint": "prefect_replicate.generate_video",
        "parameters": {
            "model": "emulator/timer",
            "prompt": pool,
            "input": {"seconds": 60},
            "destination": "videos",
        },
        "work_pool": {"name": pool},
    }
    (folder / "prefect.yaml").write_text(json.dumps({"pull": [], "deployments": [deployment]}))
    done = prefect(env, "--no-prompt", "deploy", "--all", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
