"""A batch that runs of a deployment make, on several workers, some of which die."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from campaign import Campaign, deploy, process_of, save_account, start_worker
from endings.house import House, Started, until
from endings.witness import process_of as witnessed
from prefect.client.schemas.objects import StateType, WorkPoolStatus
from prefect.states import Cancelling

from prefect_replicate.emulator import Emulator

pytestmark = [
    pytest.mark.skipif(
        not Path("/proc/net/tcp").exists(), reason="asks Linux whose process has a connection"
    ),
    pytest.mark.timeout(400),
]


@pytest.fixture
def pool() -> str:
    return f"pool-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def manned(house: House) -> str:
    """A deployment for which a worker stands by that does two runs at a time."""
    name = deploy(house, "manned")
    start_worker(house, "manned", "manned", limit=2)
    return name


def handed_to(deployment: str, chunk_size: int, **further: Any) -> dict[str, Any]:
    return {
        "fan_out": "deployment", "deployment": deployment, "chunk_size": chunk_size, **further
    }  # fmt: skip


def complete(campaign: Campaign, script: Started) -> None:
    assert script.process.wait(120) == 0, script.text()
    assert f"{campaign.count} items: {campaign.count} succeeded" in script.text()


def assert_each_was_paid_once(campaign: Campaign) -> None:
    assert campaign.prompts(campaign.predictions()) == campaign.once_each
    assert len(campaign.videos()) == campaign.count


def test_a_killed_run_is_replaced_unpaid_and_a_cancel_of_its_parent_ends_all(
    house: House, manned: str
) -> None:
    campaign = Campaign(house, 4, 600.0, **handed_to(manned, 2))

    script = campaign.start_script()
    until(lambda: len(campaign.processing()) == 4)
    os.kill(process_of(campaign.running_child()), signal.SIGKILL)
    until(lambda: campaign.child_states() == {StateType.RUNNING: 2, StateType.CRASHED: 1})
    campaign.api.set_flow_run_state(campaign.flow_run().id, Cancelling())
    script.process.wait(60)
    until(lambda: all(one.state and one.state.is_final() for one in campaign.children()))

    assert campaign.live() == []
    assert campaign.prompts(campaign.predictions()) == campaign.once_each


@pytest.mark.full
def test_a_flow_process_that_is_killed_is_replaced_and_nothing_is_paid_twice(
    house: House, manned: str
) -> None:
    campaign = Campaign(house, 6, 6.0, **handed_to(manned, 3))

    script = campaign.start_script()
    until(lambda: len(campaign.processing()) >= 3)
    os.kill(process_of(campaign.running_child()), signal.SIGKILL)
    complete(campaign, script)

    assert_each_was_paid_once(campaign)
    assert campaign.child_states() == {StateType.COMPLETED: 2, StateType.CRASHED: 1}


@pytest.mark.full
def test_a_worker_that_dies_with_its_run_is_made_up_for_by_another(house: House, pool: str) -> None:
    campaign = Campaign(house, 12, 60.0, **handed_to(deploy(house, pool), 6))
    workers = [start_worker(house, pool, f"{pool}-{number}") for number in (1, 2)]

    script = campaign.start_script()
    until(lambda: len(campaign.processing()) == 12)
    victim = campaign.running_child()
    process = witnessed(process_of(victim))
    [its_worker] = [one for one in workers if one.pid in process.ancestors]
    os.kill(its_worker.pid, signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    campaign.declare_crashed(victim)
    campaign.let_predictions_end()
    complete(campaign, script)

    assert_each_was_paid_once(campaign)


@pytest.mark.full
def test_a_run_that_is_taken_for_dead_and_is_not_does_not_disturb_the_one_in_its_place(
    house: House, manned: str
) -> None:
    campaign = Campaign(house, 4, 12.0, **handed_to(manned, 4))

    script = campaign.start_script()
    until(lambda: len(campaign.processing()) == 4)
    campaign.declare_crashed(campaign.children()[0])
    complete(campaign, script)

    assert_each_was_paid_once(campaign)


@pytest.mark.full
def test_without_a_worker_the_batch_ends_and_a_retry_makes_it(house: House, pool: str) -> None:
    # Long enough for a worker to start a run, which takes 15 s of CPU, while much else is going on.
    parts = handed_to(deploy(house, pool), 4, worker_timeout=45)
    campaign = Campaign(house, 8, 1.0, **parts)
    parents = deploy(house, f"{pool}-parents")
    start_worker(house, f"{pool}-parents", f"{pool}-parents")

    campaign.start_deployment(parents)
    until(lambda: campaign.state() is StateType.FAILED)
    complaint = campaign.message()
    states, paid = campaign.child_states(), campaign.predictions()
    start_worker(house, pool, f"{pool}-late", limit=2)
    until(lambda: campaign.api.read_work_pool(pool).status is WorkPoolStatus.READY)
    campaign.retry()
    until(lambda: campaign.state() is StateType.COMPLETED)

    assert "was not picked up within 45 s by a worker; start one with" in complaint
    assert (states, paid) == ({StateType.CANCELLED: 2}, [])
    assert_each_was_paid_once(campaign)


@pytest.mark.full
def test_the_cancel_of_the_parent_ends_all_that_it_has_started(house: House, manned: str) -> None:
    campaign = Campaign(house, 6, 600.0, **handed_to(manned, 2))

    script = campaign.start_script()
    until(lambda: len(campaign.processing()) == 4)
    campaign.api.set_flow_run_state(campaign.flow_run().id, Cancelling())
    script.process.wait(60)
    until(lambda: campaign.child_states().keys() <= {StateType.CANCELLED, StateType.FAILED})

    # A run that has noticed the end of its parent before it was canceled itself has failed.
    assert campaign.child_states().total() == 3
    assert campaign.child_states()[StateType.CANCELLED] >= 1  # the one that had not begun
    assert campaign.live() == []
    assert len(campaign.predictions()) == 4


@pytest.mark.full
def test_a_run_that_begins_after_the_end_of_its_parent_pays_nothing(
    house: House, pool: str
) -> None:
    campaign = Campaign(house, 5, 600.0, **handed_to(deploy(house, pool), 5))

    script = campaign.start_script()
    until(lambda: campaign.child_states() == {StateType.SCHEDULED: 1})
    script.signal_group(signal.SIGKILL)
    campaign.declare_crashed(campaign.flow_run())
    start_worker(house, pool, f"{pool}-late")
    until(lambda: campaign.child_states() == {StateType.FAILED: 1})

    assert campaign.predictions() == []


def kill_the_parent(campaign: Campaign, pool: str) -> None:
    """Once a worker of that pool has had it start all predictions."""
    start_worker(campaign.house, pool, pool)
    campaign.start_deployment(deploy(campaign.house, pool))
    until(lambda: len(campaign.processing()) == campaign.count)
    os.kill(process_of(campaign.flow_run()), signal.SIGKILL)
    until(lambda: campaign.state() is StateType.CRASHED)


@pytest.mark.full
def test_a_retry_of_a_parent_goes_on_with_runs_that_still_run(
    house: House, manned: str, pool: str
) -> None:
    campaign = Campaign(house, 8, 60.0, **handed_to(manned, 4), on_crash="keep")

    kill_the_parent(campaign, pool)
    campaign.retry()
    campaign.let_predictions_end()
    until(lambda: campaign.state() is StateType.COMPLETED)

    assert_each_was_paid_once(campaign)


@pytest.mark.full
def test_what_is_to_be_kept_in_a_crash_outlives_the_runs_that_notice_it(
    house: House, manned: str, pool: str
) -> None:
    campaign = Campaign(house, 4, 600.0, **handed_to(manned, 2), on_crash="keep")

    kill_the_parent(campaign, pool)
    until(lambda: campaign.child_states() == {StateType.FAILED: 2})
    assert len(campaign.processing()) == 4
    campaign.retry()
    campaign.let_predictions_end()
    until(lambda: campaign.state() is StateType.COMPLETED)

    assert_each_was_paid_once(campaign)


@pytest.mark.full
def test_what_is_not_to_be_kept_is_canceled_before_a_retry_makes_it_anew(
    house: House, manned: str, pool: str
) -> None:
    campaign = Campaign(house, 4, 60.0, **handed_to(manned, 2))

    kill_the_parent(campaign, pool)
    until(lambda: not campaign.live())
    canceled = [one for one in campaign.predictions() if one.status == "canceled"]
    campaign.retry()
    until(lambda: len(campaign.processing()) == 4)
    campaign.let_predictions_end()
    until(lambda: campaign.state() is StateType.COMPLETED)

    assert len(canceled) == 4
    assert len(campaign.predictions()) == 8
    assert campaign.prompts(campaign.succeeded()) == campaign.once_each


@pytest.mark.full
def test_a_token_is_handed_over_as_a_reference_alone(
    house: House, replicate: Emulator, pool: str
) -> None:
    campaign = Campaign(house, 4, 1.0, **handed_to(deploy(house, pool), 2))
    no_account = {k: v for k, v in house.env.items() if not k.startswith("REPLICATE_")}
    start_worker(house, pool, pool, limit=2, env=no_account)
    save_account(house, pool)

    complete(campaign, campaign.start_script("threads", pool, env=no_account))

    assert_each_was_paid_once(campaign)
    assert replicate.token not in campaign.all_that_prefect_keeps()
