"""The automations of deployments/automations.py on a real server, from an event to its effect."""

from __future__ import annotations

import contextlib
import runpy
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import leftovers
import pytest
from endings.house import until
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events import emit_event
from prefect.events.actions import PauseAutomation
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.exceptions import ObjectNotFound

from prefect_replicate import PollPolicy, engine, generate_video, predict
from prefect_replicate.demo.prefect_server import PrefectServer, running
from prefect_replicate.emulator import Emulator

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "programs" / "followed.py"
ON_FILE = "python deployments/automations.py --on-file publish/on-demand"
NOTIFY = "python deployments/automations.py --notify custom-webhook/team"
BATCH = "python deployments/automations.py --batch generate-videos/on-event"
ONE_MODEL = "python deployments/automations.py --notify webhook/team --model emulator/timer"
TIMER, OTHER_TIMER = "emulator/timer", "emulator/community-timer"
FLAGGED = "The input or output was flagged as sensitive. (E005)"
QUICK = PollPolicy(min_interval=0.02, max_interval=0.1)


@pytest.fixture(scope="module")
def api(prefect_api: None, prefect_server: PrefectServer) -> Iterator[SyncPrefectClient]:
    with prefect_server.client() as client:
        yield client


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("followed")


@pytest.fixture(scope="module")
def served(run_env: dict[str, str], api: SyncPrefectClient, shared_folder: Path) -> Iterator[None]:
    """A process that runs what the automations ask for."""
    env = run_env | {leftovers.KEPT: "until the last test of the module"}
    with running([str(PROGRAM), str(shared_folder)], env, stdout=subprocess.DEVNULL):
        until(lambda: is_deployed(api, "generate-videos/on-event"))  # the last of them
        yield
    for deployment in api.read_deployments():
        api.delete_deployment(deployment.id)


def is_deployed(api: SyncPrefectClient, name: str) -> bool:
    with contextlib.suppress(ObjectNotFound):
        return bool(api.read_deployment_by_name(name))
    return False


class Receiver:
    """Who is notified: a server on the loopback that keeps what it is sent."""

    def __init__(self) -> None:
        self.messages = messages = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                messages.append(self.rfile.read(length).decode())
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def heard(self, of: str) -> list[str]:
        return [one for one in self.messages if of in one]


@pytest.fixture
def team(api: SyncPrefectClient) -> Iterator[Receiver]:
    """Saved as the blocks `webhook/team` and `custom-webhook/team`."""
    receiver = Receiver()
    Webhook(url=receiver.url).save("team", overwrite=True)  # type: ignore[arg-type]
    said = {"text": "{{subject}}: {{body}}"}
    CustomWebhookNotificationBlock(name="team", url=receiver.url, json_data=said).save(
        "team", overwrite=True
    )
    yield receiver
    receiver.stop()


@pytest.fixture
def automate(api: SyncPrefectClient) -> Iterator[Callable[[str], None]]:
    """Run a command line of the README in this process, which has Prefect imported.

    Prefect answers before it heeds an automation, and 1 of 40 events sent at once was lost. It
    heeds them in the order in which they are made: here until one made later has paused itself.
    """

    def automate(command: str) -> None:
        _, path, *arguments = shlex.split(command)
        runpy.run_path(str(ROOT / path))["app"](arguments)
        trigger = EventTrigger(expect={"test.automation.made"})
        pause = PauseAutomation(source="inferred")
        last = api.create_automation(AutomationCore(name="last", trigger=trigger, actions=[pause]))
        itself = {"prefect.resource.id": f"prefect.automation.{last}"}

        def is_paused() -> bool:
            emit_event("test.automation.made", itself)
            found = api.read_automation(last)
            return found is not None and not found.enabled

        until(is_paused)
        api.delete_automation(last)

    yield automate
    for one in api.read_automations():
        api.delete_automation(one.id)


@pytest.fixture
def quick(replicate: Emulator) -> Iterator[None]:
    replicate.behave(duration_factor=0.1)
    yield
    replicate.behave(duration_factor=1.0)


def runs_of(api: SyncPrefectClient, deployment: str) -> list[FlowRun]:
    name = DeploymentFilterName(any_=[deployment])
    return api.read_flow_runs(deployment_filter=DeploymentFilter(name=name))


def test_a_file_that_is_stored_starts_the_next_deployment_with_its_location(
    served: None,
    account: None,
    automate: Callable[[str], None],
    api: SyncPrefectClient,
    tmp_path: Path,
    shared_folder: Path,
) -> None:
    automate(ON_FILE)

    video = generate_video("a fox", TIMER, {"seconds": 0.2}, destination=tmp_path, policy=QUICK)
    [next_run] = until(lambda: runs_of(api, "on-demand"))
    until(lambda: api.read_flow_run(next_run.id).state_type is StateType.COMPLETED)

    [file] = video.files
    assert (shared_folder / "published.txt").read_text() == file.location


def test_a_prediction_that_fails_or_is_flagged_is_reported(
    account: None, automate: Callable[[str], None], team: Receiver, tmp_path: Path
) -> None:
    automate(NOTIFY)

    input = {"outcome": "failed", "error": FLAGGED}
    generate_video("a fox", TIMER, input, destination=tmp_path, policy=QUICK, return_state=True)

    [message] = until(lambda: team.heard(FLAGGED))
    assert f"of {TIMER} failed (flagged)" in message
    assert "Prompt: a fox" in message


def test_a_prediction_that_runs_beyond_its_p90_is_reported(
    account: None, automate: Callable[[str], None], team: Receiver
) -> None:
    automate(NOTIFY)
    for key in ("history", "history readings"):
        engine._running_engine().state.pop(key, None)

    @flow
    def several(*seconds: float) -> None:
        for one in seconds:
            predict(OTHER_TIMER, {"seconds": one}, destination=None, policy=QUICK)

    several(0.2, 0.2, 0.2, 1.0)

    [message] = until(lambda: team.heard("has taken"))
    assert "nine in ten take at most 0." in message


def test_one_model_can_be_matched_alone(
    account: None, automate: Callable[[str], None], team: Receiver, tmp_path: Path
) -> None:
    automate(ONE_MODEL)

    for model, error in [(OTHER_TIMER, "not told"), (TIMER, "told of")]:
        input = {"outcome": "failed", "error": error}
        generate_video("a fox", model, input, destination=tmp_path, policy=QUICK, return_state=True)

    until(lambda: team.heard("told of"))
    assert not team.heard("not told")


def test_an_event_starts_a_batch_with_a_text_a_number_and_a_list(
    served: None,
    account: None,
    automate: Callable[[str], None],
    api: SyncPrefectClient,
    shared_folder: Path,
    quick: None,
) -> None:
    automate(BATCH)

    asked = {"model": "bytedance/seedance-1-lite", "duration": 3, "requests": ["a fox", "an owl"]}
    emit_event("replicate.batch.requested", {"prefect.resource.id": "a-campaign"}, payload=asked)
    [batch] = until(lambda: runs_of(api, "on-event"))
    until(lambda: api.read_flow_run(batch.id).state_type is StateType.COMPLETED)

    assert {name: batch.parameters[name] for name in asked} == asked
    assert len(list(shared_folder.glob("*.mp4"))) == 2


def test_the_same_automation_again_is_an_update_and_stays_switched_off(
    served: None, automate: Callable[[str], None], api: SyncPrefectClient
) -> None:
    automate(ON_FILE)
    [first] = api.read_automations()
    api.pause_automation(first.id)

    automate(ON_FILE)

    [again] = api.read_automations()
    assert (again.id, again.enabled) == (first.id, False)


def test_the_readme_gives_the_commands_that_are_tried_here() -> None:
    lines = (ROOT / "deployments" / "README.md").read_text().splitlines()

    assert {ON_FILE, NOTIFY, BATCH, ONE_MODEL} <= set(lines)


@pytest.mark.parametrize(
    "line", [ON_FILE.replace("publish", "nobody-made"), NOTIFY.replace("team", "nobody-made")]
)
def test_what_is_not_there_is_told_in_one_line(line: str, automate: Callable[[str], None]) -> None:
    with pytest.raises(
        SystemExit, match=r"There is no (deployment|block) '.*nobody-made.*make it first"
    ):
        automate(line)
