"""`prefect-replicate generate`: on a real Prefect server, and where it matters as a process."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_replicate import ReplicateCredentials, terminal
from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.history import Snapshot

PROCESS = [sys.executable, "-m", "prefect_replicate.cli"]
VIDEO = "generate bytedance/seedance-1-lite --prompt 'a red fox'"
TIMER = "generate emulator/timer --prompt p"
Env = dict[str, str]
Command = Callable[[str], tuple[object, str, str]]


@pytest.fixture(autouse=True)
def _quick(  # pyright: ignore[reportUnusedFunction] pytest calls it
    replicate: Emulator,
) -> Iterator[None]:
    replicate.behave(duration_factor=0.1)
    yield
    replicate.behave(duration_factor=1.0)


def test_its_output_is_the_path_of_the_video_and_a_terminal_shows_a_bar(
    run_env: Env, tmp_path: Path
) -> None:
    video = [*PROCESS, "generate", "bytedance/seedance-1-lite", "--prompt", "a red fox"]
    ours, its = pty.openpty()
    env = run_env | {"TERM": "xterm", "HOME": str(tmp_path)}

    with subprocess.Popen(video, env=env, stdout=subprocess.PIPE, stderr=its, text=True) as process:
        os.close(its)
        shown = read_all(ours)
        assert process.stdout is not None
        output = process.stdout.read()

    assert process.returncode == 0, shown
    path = Path(output.removesuffix("\n"))
    assert path.parent == tmp_path / "replicate"
    assert b"ftyp" in path.read_bytes()[:12]
    assert "━━━" in shown
    assert "100 %" in shown


def read_all(terminal: int) -> str:
    chunks: list[bytes] = []
    try:
        while chunk := os.read(terminal, 4096):
            chunks.append(chunk)
    except OSError:  # how Linux says that nobody has the other end open any more
        pass
    os.close(terminal)
    return b"".join(chunks).decode()


def test_beside_the_output_it_tells_each_step_once_with_a_link_to_the_run(
    command: Command, prefect_server: PrefectServer, replicate: Emulator
) -> None:
    code, _, err = command(VIDEO)

    assert code == 0, err
    assert f"Prefect run: {prefect_server.ui_url}/runs/flow-run/" in err
    assert err.count(f"Prediction {newest(replicate).id} succeeded\n") == 1
    assert err.count("100%") == 1


def test_its_options_reach_the_model(command: Command, replicate: Emulator) -> None:
    code, _, err = command(f"{VIDEO} --duration 3 --seed 7 -i fps=24 -i camera_fixed=true")

    assert code == 0, err
    expected = {
        "prompt": "a red fox",
        "duration": 3,
        "seed": 7,
        "fps": 24,
        "camera_fixed": True,
    }
    assert newest(replicate).input.items() >= expected.items()


def test_a_saved_block_is_the_account(
    command: Command, replicate: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ReplicateCredentials(api_token=replicate.token, base_url=replicate.base_url).save("cli")
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    monkeypatch.delenv("REPLICATE_BASE_URL")

    code, _, err = command(f"{VIDEO} --block cli")

    assert code == 0, err


def test_an_unknown_block_is_told_in_one_line(command: Command) -> None:
    code, out, err = command(f"{VIDEO} --block nobody")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("prefect-replicate: Unable to find block document named nobody")


def test_a_failed_prediction_is_told_in_one_line_without_a_traceback(command: Command) -> None:
    code, out, err = command(f"{TIMER} -i outcome=failed")

    assert (code, out) == (1, "")
    assert "failed (permanent): The timer was told to fail" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_without_a_prefect_server_ctrl_c_still_cancels_and_exits_130(
    command: Command,
    prefect_server: PrefectServer,
    run_env: Env,
    replicate: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a server that is there already in place of the one that it would start."""
    started = contextlib.nullcontext(PrefectServer(prefect_server.ui_url, run_env))
    monkeypatch.setattr(terminal, "prefect_server", lambda home, env: started)
    before = len(replicate.predictions)

    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        ctrl_c_when(lambda: is_processing(replicate, before)),
    ):
        code, _, _ = command(f"{TIMER} -i seconds=600")

    assert code == 130
    assert newest(replicate).status == "canceled"


@pytest.mark.full
def test_the_prefect_server_that_it_starts_outlives_ctrl_c_until_the_run_is_canceled(
    run_env: Env, tmp_path: Path, replicate: Emulator
) -> None:
    env = run_env | {"PREFECT_HOME": str(tmp_path / "prefect")}
    del env["PREFECT_API_URL"]
    timer = [*PROCESS, *TIMER.split(), "-i", "seconds=600"]
    before = len(replicate.predictions)

    # In a session of its own, as in a terminal, where Ctrl-C reaches all of the foreground.
    with subprocess.Popen(timer, env=env, start_new_session=True) as process:
        wait_until(lambda: is_processing(replicate, before))
        os.killpg(process.pid, signal.SIGINT)

    assert process.returncode == 130
    assert newest(replicate).status == "canceled"


def newest(replicate: Emulator) -> Snapshot:
    return next(iter(replicate.predictions))


def is_processing(replicate: Emulator, before: int) -> bool:
    return len(replicate.predictions) > before and newest(replicate).status == "processing"


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.1)


@contextlib.contextmanager
def ctrl_c_when(is_so: Callable[[], bool]) -> Iterator[None]:
    """Interrupt this process once something is so, unless the block is over before."""
    over = threading.Event()

    def interrupt() -> None:
        while not over.is_set():
            if is_so():
                os.kill(os.getpid(), signal.SIGINT)
                return
            over.wait(0.1)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGINT, handler)
