"""The engine's thread in other processes: after a fork, and at their end."""

from __future__ import annotations

import multiprocessing

import pytest

from prefect_replicate import create_prediction, wait_for_prediction
from prefect_replicate.emulator import Emulator


def _create(_: int) -> str:
    return create_prediction.fn("emulator/timer", {}).id


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # that is the test
def test_a_forked_process_starts_an_engine_of_its_own(replicate_emulator: Emulator) -> None:
    ours = _create(0)

    with multiprocessing.get_context("fork").Pool(2) as pool:
        theirs = pool.map(_create, range(2))

    assert {one.id for one in replicate_emulator.predictions} == {ours, *theirs}


def _create_and_wait() -> None:
    wait_for_prediction.fn(_create(0))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_ends_after_use(replicate_emulator: Emulator) -> None:
    process = multiprocessing.get_context("fork").Process(target=_create_and_wait, daemon=True)

    process.start()
    process.join(10)  # as an interpreter at its exit, it waits for all threads but daemons

    assert process.exitcode == 0
    assert [one.status for one in replicate_emulator.predictions] == ["succeeded"]
