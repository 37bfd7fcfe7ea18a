"""`prefect-replicate orphans`, as a process of its own, as users run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from prefect_replicate.emulator import Emulator

COMMAND = [sys.executable, "-m", "prefect_replicate.cli", "orphans"]
Env = dict[str, str]


def run(env: Env, folder: Path, *options: str, grace: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options, "--grace", str(grace)],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_being_told_to_cancel_it_only_lists(
    run_env: Env, tmp_path: Path, replicate: Emulator, orphan: str
) -> None:
    done = run(run_env, tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    titles, row, total = done.stdout.splitlines()
    assert titles.split() == ["PREDICTION", "MODEL", "FLOW", "RUN", "WHY", "RAN", "DONE"]
    assert row.startswith(f"{orphan}  emulator/timer")
    assert row.rstrip().endswith("would be canceled")
    assert total.startswith("1 orphaned prediction: 1 would be canceled. At most 3,")
    assert replicate.predictions[orphan].cancel_requests == 0


def test_told_to_cancel_it_does(
    run_env: Env, tmp_path: Path, replicate: Emulator, orphan: str
) -> None:
    done = run(run_env, tmp_path, "--cancel")

    assert (done.returncode, done.stderr) == (0, "")
    assert "1 orphaned prediction: 1 canceled. At most 3," in done.stdout
    assert replicate.predictions[orphan].status == "canceled"
    assert run(run_env, tmp_path).stdout == "No orphaned predictions.\n"


def test_a_run_that_has_just_ended_is_given_its_time(
    run_env: Env, tmp_path: Path, orphan: str
) -> None:
    done = run(run_env, tmp_path, "--cancel", grace=3600)

    assert (done.returncode, done.stdout) == (0, "No orphaned predictions.\n")


def test_one_that_cannot_be_handled_makes_it_exit_with_1(
    run_env: Env, tmp_path: Path, orphan: str
) -> None:
    no_account = {name: text for name, text in run_env.items() if "REPLICATE_" not in name}

    done = run(no_account, tmp_path, "--cancel")

    assert (done.returncode, done.stderr) == (1, "")
    assert "not handled: There is no Replicate API token" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 orphaned prediction: 1 not handled."


def test_a_saved_block_is_the_account(
    run_env: Env, tmp_path: Path, replicate: Emulator, orphan: str
) -> None:
    save = f"""
from prefect_replicate import ReplicateCredentials
ReplicateCredentials(api_token={replicate.token!r}, base_url={replicate.base_url!r}).save("sweeper")
"""
    subprocess.run([sys.executable, "-c", save], env=run_env, check=True, cwd=tmp_path)
    no_account = {name: text for name, text in run_env.items() if "REPLICATE_" not in name}

    done = run(no_account, tmp_path, "--cancel", "--block", "sweeper")

    assert done.returncode == 0, done.stdout
    assert replicate.predictions[orphan].status == "canceled"
