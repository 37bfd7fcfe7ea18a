"""`prefect-replicate generate`, as a process of its own, as users run it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.history import Snapshot

COMMAND = [sys.executable, "-m", "prefect_replicate.cli", "generate"]
VIDEO = [*COMMAND, "bytedance/seedance-1-lite", "--prompt", "a red fox"]
Env = dict[str, str]


@pytest.fixture(autouse=True)
def quick(replicate: Emulator) -> Iterator[None]:
    replicate.behave(duration_factor=0.1)
    yield
    replicate.behave(duration_factor=1.0)


def run(command: list[str], env: Env, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)


def test_its_output_is_the_path_of_the_video_and_nothing_else(run_env: Env, tmp_path: Path) -> None:
    done = run(VIDEO, run_env, tmp_path)

    assert done.returncode == 0, done.stderr
    video = Path(done.stdout.removesuffix("\n"))
    assert video.parent == tmp_path / "videos"
    assert b"ftyp" in video.read_bytes()[:12]


def test_beside_the_output_it_tells_each_step_once_with_a_link_to_the_run(
    run_env: Env, tmp_path: Path, prefect_server: PrefectServer, replicate: Emulator
) -> None:
    done = run(VIDEO, run_env, tmp_path)

    name = newest(replicate).id
    assert f"Prefect run: {prefect_server.ui_url}/runs/flow-run/" in done.stderr
    assert done.stderr.count(f"Prediction {name} is succeeded\n") == 1
    assert done.stderr.count("100%") == 1


def test_on_a_terminal_it_shows_a_bar(run_env: Env, tmp_path: Path) -> None:
    ours, its = pty.openpty()
    env = run_env | {"TERM": "xterm"}
    with subprocess.Popen(VIDEO, env=env, cwd=tmp_path, stdout=its, stderr=its) as process:
        os.close(its)
        shown = read_all(ours)

    assert process.returncode == 0
    assert "━━━" in shown
    assert "100 %" in shown


def read_all(terminal: int) -> str:
    chunks: list[bytes] = []
    try:
        while chunk := os.read(terminal, 4096):
            chunks.append(chunk)
    except OSError:  # how Linux says that nobody has the other end open any more
        pass
    return b"".join(chunks).decode()


def test_its_options_reach_the_model(run_env: Env, tmp_path: Path, replicate: Emulator) -> None:
    options = ["--duration", "3", "--seed", "7", "-i", "fps=24", "-i", "camera_fixed=true"]

    done = run([*VIDEO, *options], run_env, tmp_path)

    assert done.returncode == 0, done.stderr
    expected = {
        "prompt": "a red fox",
        "duration": 3,
        "seed": 7,
        "fps": 24,
        "camera_fixed": True,
    }
    assert newest(replicate).input.items() >= expected.items()


def test_a_saved_block_is_the_account(run_env: Env, tmp_path: Path, replicate: Emulator) -> None:
    save = f"""
from prefect_replicate import ReplicateCredentials
ReplicateCredentials(api_token={replicate.token!r}, base_url={replicate.base_url!r}).save("cli")
"""
    subprocess.run([sys.executable, "-c", save], env=run_env, check=True, cwd=tmp_path)
    no_account = {name: text for name, text in run_env.items() if "REPLICATE_" not in name}

    done = run([*VIDEO, "--block", "cli"], no_account, tmp_path)

    assert done.returncode == 0, done.stderr


def test_an_unknown_block_is_told_in_one_line(run_env: Env, tmp_path: Path) -> None:
    done = run([*VIDEO, "--block", "nobody"], run_env, tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("prefect-replicate: Unable to find block document named nobody")
    assert done.stderr.count("\n") == 1


def test_a_failed_prediction_is_told_in_one_line_without_a_traceback(
    run_env: Env, tmp_path: Path
) -> None:
    timer = [*COMMAND, "emulator/timer", "--prompt", "p", "-i", "outcome=failed"]

    done = run(timer, run_env, tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert "failed (permanent): The timer was told to fail" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_unreachable_prefect_server_is_told_in_one_line(run_env: Env, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9/api"

    done = run(VIDEO, run_env | {"PREFECT_API_URL": nowhere}, tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"prefect-replicate: Prefect's API at {nowhere} can't be reached")
    assert done.stderr.count("\n") == 1


def test_without_a_prefect_server_ctrl_c_still_cancels_and_exits_130(
    run_env: Env, tmp_path: Path, replicate: Emulator
) -> None:
    env = run_env | {"PREFECT_HOME": str(tmp_path / "prefect")}
    del env["PREFECT_API_URL"]
    timer = [*COMMAND, "emulator/timer", "--prompt", "p", "-i", "seconds=600"]
    before = len(replicate.predictions)

    # In a session of its own, as in a terminal, where Ctrl-C reaches all of the foreground.
    with subprocess.Popen(timer, env=env, cwd=tmp_path, start_new_session=True) as process:
        wait_until(lambda: len(replicate.predictions) > before)
        wait_until(lambda: newest(replicate).status == "processing")
        os.killpg(process.pid, signal.SIGINT)

    assert process.returncode == 130
    assert newest(replicate).status == "canceled"


def newest(replicate: Emulator) -> Snapshot:
    return next(iter(replicate.predictions))


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.1)
