"""What is started with `running` ends with whoever has started it."""

from __future__ import annotations

import signal
import subprocess
import sys

# Each of them keeps its standard output open for as long as it lives.
SLEEPER = "import time; print('ready', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {SLEEPER}"
ASKED = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
STARTER = """
import os, sys
from prefect_replicate.demo.prefect_server import running

with running(["-c", sys.argv[1]], os.environ) as process:
    process.wait()
"""
IMPATIENT = """
import sys
from prefect_replicate.demo import lifeline

lifeline.PATIENCE = 0.1
sys.exit(lifeline.main([sys.executable, *sys.argv[1:]]))
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_when_the_starter_is_killed_what_it_started_ends() -> None:
    with start("-c", STARTER, SLEEPER) as starter:
        wait_until_ready(starter)

        starter.kill()

        assert starter.stdout is not None
        assert starter.stdout.read() == ""  # nobody has it open any more


def test_what_does_not_stop_when_asked_is_killed() -> None:
    with start("-c", IMPATIENT, "-c", STUBBORN) as process:
        wait_until_ready(process)

        process.communicate()

    assert process.returncode == -signal.SIGKILL


def test_it_can_be_interrupted_although_the_starter_ignores_that() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        starter = start("-c", STARTER, ASKED)
    finally:
        signal.signal(signal.SIGINT, before)

    with starter:
        assert starter.communicate()[0] == "True\n"
