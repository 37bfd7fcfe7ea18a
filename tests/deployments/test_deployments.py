"""The files of deployments/, used as their README says, on a real server and by real processes."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import leftovers
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.testing.cli import invoke_and_assert

from prefect_replicate import ReplicateCredentials
from prefect_replicate.demo.prefect_server import PrefectServer, running
from prefect_replicate.emulator import Emulator

ROOT = Path(__file__).parents[2]
MAKE_POOL = "prefect work-pool create videos --type process"
DEPLOY = "prefect --no-prompt deploy --all --prefect-file deployments/prefect.yaml"
START_WORKER = "prefect worker start --pool videos"
SERVE = "python deployments/serve.py"
SWEEP = "prefect deployment run cancel-orphaned-predictions/cancel-orphans --watch"
RUN = (
    'prefect deployment run generate-video/one-video --param prompt="a red fox in the snow" --watch'
)
CAMPAIGN = (
    "prefect deployment run generate-videos/video-batch --params"
    """ '{"path": "~/campaigns/fox.csv","""
    """ "advanced": {"fan_out": "deployment", "chunk_size": 50}}'"""
)
SCHEDULES = [("0 7 * * *", False), (timedelta(minutes=10), True)]
Env = dict[str, str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of those who run the flows."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def env(run_env: Env, replicate: Emulator, home: Path) -> Iterator[Env]:
    """The environment of those who run the flows; models are quick for them."""
    replicate.behave(duration_factor=0.1)
    own = {
        "HOME": str(home),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "0.2",
        leftovers.KEPT: "until the last test of the module",
    }
    yield run_env | own
    replicate.behave(duration_factor=1.0)


@pytest.fixture(scope="module")
def api(prefect_api: None, prefect_server: PrefectServer) -> Iterator[SyncPrefectClient]:
    with prefect_server.client() as client:
        yield client


@pytest.fixture(scope="module")
def on_a_worker(env: Env, api: SyncPrefectClient) -> Iterator[None]:
    """What the README says to do once, and a worker."""
    prefect(MAKE_POOL)
    prefect(DEPLOY)
    with running(["-m", *START_WORKER.split()], env, stdout=subprocess.DEVNULL):
        yield
    remove_all(api)


@pytest.fixture(scope="module")
def served(env: Env, api: SyncPrefectClient) -> Iterator[None]:
    """By a process that has no account."""
    no_account = {name: text for name, text in env.items() if not name.startswith("REPLICATE_")}
    with running([str(ROOT / "deployments" / "serve.py")], no_account, stdout=subprocess.DEVNULL):
        deployment(api, "cancel-orphaned-predictions/cancel-orphans")  # the last of them
        yield
    remove_all(api)


def remove_all(api: SyncPrefectClient) -> None:
    for deployment in api.read_deployments():
        api.delete_deployment(deployment.id)
    for pool in api.read_work_pools():
        api.delete_work_pool(pool.name)


def prefect(command: str) -> None:
    """Run a command of Prefect's as a shell does, in this process, which has it imported."""
    name, *arguments = shlex.split(command)
    assert name == "prefect"
    invoke_and_assert(arguments, expected_code=0, temp_dir=str(ROOT))


def deployment(api: SyncPrefectClient, name: str) -> DeploymentResponse:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        with contextlib.suppress(ObjectNotFound):
            return api.read_deployment_by_name(name)
        time.sleep(0.2)
    raise AssertionError(f"{name} was not deployed")


def schedules(api: SyncPrefectClient) -> list[tuple[object, bool]]:
    [daily] = deployment(api, "generate-video/daily-video").schedules
    [sweep] = deployment(api, "cancel-orphaned-predictions/cancel-orphans").schedules
    assert daily.schedule.timezone == "UTC"
    return [(daily.schedule.cron, daily.active), (sweep.schedule.interval, sweep.active)]


@pytest.fixture
def videos(home: Path) -> Path:
    """Where the videos of a test come to be."""
    folder = home / "replicate"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def assert_videos(folder: Path, count: int) -> None:
    files = list(folder.iterdir())
    assert [file.suffix for file in files] == [".mp4"] * count
    assert all(b"ftyp" in file.read_bytes()[:12] for file in files)


def test_the_readme_gives_the_commands_that_are_tried_here() -> None:
    lines = (ROOT / "deployments" / "README.md").read_text().splitlines()

    missing = {MAKE_POOL, DEPLOY, START_WORKER, SERVE, RUN, CAMPAIGN} - set(lines)

    assert missing == set()


def test_a_worker_runs_what_prefect_yaml_deploys(on_a_worker: None, videos: Path) -> None:
    prefect(RUN)

    assert_videos(videos, 1)


@pytest.mark.full
def test_a_campaign_is_shared_by_runs_of_its_own_deployment(
    on_a_worker: None, home: Path, videos: Path
) -> None:
    (home / "campaigns").mkdir()
    (home / "campaigns" / "fox.csv").write_text("prompt\na red fox\na blue heron\na green frog\n")

    prefect(f"{CAMPAIGN.replace('50', '2')} --watch")

    assert_videos(videos, 3)


def test_of_the_schedules_of_prefect_yaml_only_the_one_that_costs_nothing_is_switched_on(
    on_a_worker: None, api: SyncPrefectClient
) -> None:
    assert schedules(api) == SCHEDULES


def test_a_worker_runs_the_sweep(on_a_worker: None, orphan: str, replicate: Emulator) -> None:
    prefect(f"{SWEEP} --param grace=0")

    assert replicate.predictions[orphan].status == "canceled"


def test_of_the_schedules_of_serve_py_only_the_one_that_costs_nothing_is_switched_on(
    served: None, api: SyncPrefectClient
) -> None:
    assert schedules(api) == SCHEDULES


def test_a_served_deployment_runs_and_takes_a_saved_block_as_its_account(
    served: None, api: SyncPrefectClient, replicate: Emulator, videos: Path
) -> None:
    account = ReplicateCredentials(api_token=replicate.token, base_url=replicate.base_url)
    reference = json.dumps({"$ref": {"block_document_id": str(account.save("mine"))}})

    prefect(f"{RUN} --param credentials='{reference}'")

    assert_videos(videos, 1)
