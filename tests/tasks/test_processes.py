"""The engine's thread in other processes: after a fork, and at their end."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys

import pytest

from prefect_replicate import create_prediction
from prefect_replicate.emulator import Emulator


def _create(_: int) -> str:
    return create_prediction.fn("emulator/timer", {}).id


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # that is the test
def test_a_forked_process_starts_an_engine_of_its_own(replicate_emulator: Emulator) -> None:
    ours = _create(0)

    with multiprocessing.get_context("fork").Pool(2) as pool:
        theirs = pool.map(_create, range(2))

    assert {one.id for one in replicate_emulator.predictions} == {ours, *theirs}


PROGRAM = """
from prefect_replicate import create_prediction, wait_for_prediction
wait_for_prediction.fn(create_prediction.fn("emulator/timer", {}))
"""


def test_an_interpreter_ends_after_use(replicate_emulator: Emulator) -> None:
    # At its exit, it waits for all threads but daemons.
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120)

    assert [one.status for one in replicate_emulator.predictions] == ["succeeded"]
