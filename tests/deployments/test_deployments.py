"""The files of deployments/, used as their README says, on a real server and by real processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.demo.processes import running
from prefect_replicate.emulator import Emulator

ROOT = Path(__file__).parents[2]
MAKE_POOL = "prefect work-pool create videos --type process"
DEPLOY = "prefect --no-prompt deploy --all --prefect-file deployments/prefect.yaml"
START_WORKER = "prefect worker start --pool videos"
SERVE = "python deployments/serve.py"
SWEEP = "prefect deployment run cancel-orphaned-predictions/cancel-orphans --watch"
RUN = (
    'prefect deployment run generate-video/on-demand --param prompt="a red fox in the snow" --watch'
)
CAMPAIGN = (
    "prefect deployment run generate-videos/on-demand --params"
    """ '{"path": "~/campaign.csv", "fan_out": "deployment", "chunk_size": 50}'"""
)
Env = dict[str, str]


@pytest.fixture
def env(run_env: Env, replicate: Emulator, tmp_path: Path) -> Iterator[Env]:
    """An environment with a home folder of its own, and models that are quick."""
    replicate.behave(duration_factor=0.1)
    path = f"{Path(sys.executable).parent}{os.pathsep}{run_env['PATH']}"
    patience = {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_WORKER_QUERY_SECONDS": "2"}
    yield run_env | patience | {"HOME": str(tmp_path), "PATH": path}
    replicate.behave(duration_factor=1.0)


@pytest.fixture
def api(prefect_server: PrefectServer) -> Iterator[SyncPrefectClient]:
    """The server, without deployments and work pools of other tests."""
    with prefect_server.client() as client:
        yield client
        for deployment in client.read_deployments():
            client.delete_deployment(deployment.id)
        for pool in client.read_work_pools():
            client.delete_work_pool(pool.name)


def shell(command: str, env: Env) -> None:
    done = subprocess.run(
        ["bash", "-euc", command], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def deployment(api: SyncPrefectClient, name: str) -> DeploymentResponse:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        with contextlib.suppress(ObjectNotFound):
            return api.read_deployment_by_name(name)
        time.sleep(0.2)
    raise AssertionError(f"{name} was not deployed")


def videos(home: Path) -> list[Path]:
    return [file for file in (home / "videos").iterdir() if b"ftyp" in file.read_bytes()[:12]]


def test_the_readme_gives_the_commands_that_are_tried_here() -> None:
    lines = (ROOT / "deployments" / "README.md").read_text().splitlines()

    missing = {MAKE_POOL, DEPLOY, START_WORKER, SERVE, RUN, CAMPAIGN} - set(lines)

    assert missing == set()


def test_a_worker_runs_what_prefect_yaml_deploys(
    env: Env, api: SyncPrefectClient, tmp_path: Path
) -> None:
    shell(MAKE_POOL, env)
    shell(DEPLOY, env)

    with running(["-m", *START_WORKER.split()], env, stdout=subprocess.DEVNULL):
        shell(RUN, env)

    assert [file.suffix for file in videos(tmp_path)] == [".mp4"]


def test_a_campaign_is_shared_by_runs_of_its_own_deployment(
    env: Env, api: SyncPrefectClient, tmp_path: Path
) -> None:
    (tmp_path / "campaign.csv").write_text("prompt\na red fox\na blue heron\na green frog\n")
    shell(MAKE_POOL, env)
    shell(DEPLOY, env)

    with running(["-m", *START_WORKER.split()], env, stdout=subprocess.DEVNULL):
        shell(f"{CAMPAIGN.replace('50', '2')} --watch", env)

    assert len(videos(tmp_path)) == 3


def test_a_served_deployment_runs(env: Env, api: SyncPrefectClient, tmp_path: Path) -> None:
    with running([str(ROOT / "deployments" / "serve.py")], env, stdout=subprocess.DEVNULL):
        deployment(api, "generate-video/on-demand")
        shell(RUN, env)

    assert [file.suffix for file in videos(tmp_path)] == [".mp4"]


def test_of_the_schedules_of_prefect_yaml_only_the_one_that_costs_nothing_is_switched_on(
    env: Env, api: SyncPrefectClient
) -> None:
    shell(MAKE_POOL, env)

    shell(DEPLOY, env)

    assert schedules(api) == SCHEDULES


def test_of_the_schedules_of_serve_py_only_the_one_that_costs_nothing_is_switched_on(
    env: Env, api: SyncPrefectClient
) -> None:
    with running([str(ROOT / "deployments" / "serve.py")], env, stdout=subprocess.DEVNULL):
        deployment(api, "cancel-orphaned-predictions/cancel-orphans")

        assert schedules(api) == SCHEDULES


SCHEDULES = [("0 7 * * *", False), (timedelta(minutes=10), True)]


def schedules(api: SyncPrefectClient) -> list[tuple[object, bool]]:
    [daily] = deployment(api, "generate-video/daily").schedules
    [sweep] = deployment(api, "cancel-orphaned-predictions/cancel-orphans").schedules
    assert daily.schedule.timezone == "UTC"
    return [(daily.schedule.cron, daily.active), (sweep.schedule.interval, sweep.active)]


def test_a_worker_runs_the_sweep(
    env: Env, api: SyncPrefectClient, orphan: str, replicate: Emulator
) -> None:
    shell(MAKE_POOL, env)
    shell(DEPLOY, env)

    with running(["-m", *START_WORKER.split()], env, stdout=subprocess.DEVNULL):
        shell(f"{SWEEP} --param grace=0", env)

    assert replicate.predictions[orphan].status == "canceled"


def test_a_deployment_takes_a_saved_block_as_its_account(
    env: Env, api: SyncPrefectClient, tmp_path: Path, replicate: Emulator
) -> None:
    save = f"""
from prefect_replicate import ReplicateCredentials
ReplicateCredentials(api_token={replicate.token!r}, base_url={replicate.base_url!r}).save("mine")
"""
    subprocess.run([sys.executable, "-c", save], env=env, check=True, cwd=tmp_path)
    block = api.read_block_document_by_name("mine", "replicate-credentials")
    no_account = {name: text for name, text in env.items() if not name.startswith("REPLICATE_")}
    reference = json.dumps({"$ref": {"block_document_id": str(block.id)}})

    with running([str(ROOT / "deployments" / "serve.py")], no_account, stdout=subprocess.DEVNULL):
        deployment(api, "generate-video/on-demand")
        shell(f"{RUN} --param credentials='{reference}'", no_account)

    assert [file.suffix for file in videos(tmp_path)] == [".mp4"]
