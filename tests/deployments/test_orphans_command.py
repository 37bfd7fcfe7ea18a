"""`prefect-replicate orphans`, on a real Prefect server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.states import Running

from prefect_replicate import ReplicateCredentials
from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.emulator import Emulator
from prefect_replicate.ledger.flow_runs import OPEN_TAG

Command = Callable[[str], tuple[object, str, str]]


def test_without_being_told_to_cancel_it_only_lists(
    command: Command, replicate: Emulator, orphan: str
) -> None:
    code, out, err = command("orphans --grace 0")

    assert (code, err) == (0, "")
    titles, row, total = out.splitlines()
    assert titles.split() == ["PREDICTION", "MODEL", "FLOW", "RUN", "WHY", "RAN", "DONE"]
    assert row.startswith(f"{orphan}  emulator/timer")
    assert row.rstrip().endswith("would be canceled")
    assert total.startswith("1 orphaned prediction: 1 would be canceled. Up to 3,")
    assert replicate.predictions[orphan].cancel_requests == 0


def test_told_to_cancel_it_does_and_says_nothing_else_not_even_at_its_end(
    command: Command, run_env: dict[str, str], tmp_path: Path, replicate: Emulator, orphan: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect_replicate.cli", "orphans", "--cancel", "--grace", "0"],
        env=run_env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "1 orphaned prediction: 1 canceled. Up to 3," in done.stdout
    assert replicate.predictions[orphan].status == "canceled"
    assert command("orphans --grace 0") == (0, "No orphaned predictions.\n", "")


def test_a_run_that_has_just_ended_is_given_its_time(command: Command, orphan: str) -> None:
    code, out, _ = command("orphans --cancel --grace 3600")

    assert (code, out) == (0, "No orphaned predictions.\n")


def test_it_says_what_is_left_alone_because_a_flow_run_is_running_and_when_that_is_dead(
    command: Command, prefect_server: PrefectServer, orphan: str
) -> None:
    with prefect_server.client() as client:
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[OPEN_TAG]))
        [run] = client.read_flow_runs(flow_run_filter=tagged)
        client.set_flow_run_state(run.id, Running(), force=True)

    code, out, _ = command("orphans --grace 0")

    assert (code, out) == (
        0,
        "No orphaned predictions.\n1 open prediction of running flow runs is left alone: such a run"
        " counts as dead 9 min after its last heartbeat.\n",
    )


def test_one_that_cannot_be_handled_makes_it_exit_with_1(
    command: Command, orphan: str, no_account: None
) -> None:
    code, out, err = command("orphans --cancel --grace 0")

    assert (code, err) == (1, ""), out
    assert "not handled: There is no Replicate API token" in out
    assert out.splitlines()[-1] == "1 orphaned prediction: 1 not handled."


def test_a_saved_block_is_the_account(
    command: Command, replicate: Emulator, orphan: str, no_account: None
) -> None:
    account = ReplicateCredentials(api_token=replicate.token, base_url=replicate.base_url)
    account.save("sweeper")

    code, out, _ = command("orphans --cancel --grace 0 --block sweeper")

    assert code == 0, out
    assert replicate.predictions[orphan].status == "canceled"


@pytest.fixture
def no_account(orphan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From when there is an orphan."""
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    monkeypatch.delenv("REPLICATE_BASE_URL")
