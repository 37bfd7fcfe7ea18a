"""A batch whose parts go to other processes of a task runner, some of which die."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

import pytest
from campaign import Campaign, save_account
from endings.house import House, until
from prefect.client.schemas.objects import StateType

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        not Path("/proc/net/tcp").exists(), reason="asks Linux whose process has a connection"
    ),
    pytest.mark.timeout(400),
]


@pytest.fixture(params=["prefect_dask", "prefect_ray"])
def cluster(request: pytest.FixtureRequest) -> str:
    """The task runner of an integration, where that can be imported."""
    pytest.importorskip(request.param)
    return request.param.removeprefix("prefect_")


@pytest.fixture
def block(house: House) -> str:
    """A saved account."""
    name = f"account-{uuid.uuid4().hex[:8]}"
    save_account(house, name)
    return name


def test_a_process_of_the_cluster_that_is_killed_is_made_up_for_and_nothing_is_paid_twice(
    house: House, cluster: str
) -> None:
    campaign = Campaign(house, 12, 8.0, chunk_size=3)

    script = campaign.start_script(cluster)
    until(lambda: len(campaign.processing()) >= 6)
    os.kill(campaign.creator_of(campaign.processing()[0]), signal.SIGKILL)

    assert script.process.wait(120) == 0, script.text()
    assert campaign.prompts(campaign.predictions()) == campaign.once_each
    assert len(campaign.videos()) == 12


def test_a_cluster_gets_a_saved_account_as_a_reference(
    house: House, cluster: str, block: str
) -> None:
    campaign = Campaign(house, 4, 0.5, chunk_size=2)
    no_account = {k: v for k, v in house.env.items() if not k.startswith("REPLICATE_")}

    script = campaign.start_script(cluster, block, env=no_account)

    assert script.process.wait(120) == 0, script.text()
    assert campaign.prompts(campaign.predictions()) == campaign.once_each


@pytest.mark.parametrize("runner", ["dask", "ray", "processes"])
def test_an_account_that_is_not_saved_does_not_leave_the_process(house: House, runner: str) -> None:
    if runner != "processes":
        pytest.importorskip(f"prefect_{runner}")
    campaign = Campaign(house, 2, 1.0)

    script = campaign.start_script(runner, "unsaved")

    assert script.process.wait(120) == 1
    assert "The ReplicateCredentials block is not saved" in campaign.message()
    assert campaign.predictions() == []


def test_items_whose_process_has_died_for_good_say_so(house: House) -> None:
    campaign = Campaign(house, 4, 600.0, chunk_size=2)

    script = campaign.start_script("processes")
    until(lambda: len(campaign.processing()) == 2)
    os.kill(campaign.creator_of(campaign.processing()[0]), signal.SIGKILL)

    assert script.process.wait(120) == 1
    assert "the task that worked on it has ended" in campaign.message()
    until(lambda: not campaign.live())


def test_items_whose_process_has_no_account_say_so(house: House) -> None:
    pytest.importorskip("prefect_dask")
    campaign = Campaign(house, 2, 1.0)

    script = campaign.start_script("dask-without-account")

    assert script.process.wait(120) == 1
    assert "There is no Replicate API token" in campaign.message()
    assert campaign.predictions() == []


def test_a_cluster_that_is_not_there_is_a_failure_of_the_run(house: House) -> None:
    pytest.importorskip("prefect_dask")
    campaign = Campaign(house, 2, 1.0)

    script = campaign.start_script("dask-nowhere")

    assert script.process.wait(120) == 1
    assert campaign.state() in (StateType.FAILED, StateType.CRASHED)
    assert campaign.predictions() == []
