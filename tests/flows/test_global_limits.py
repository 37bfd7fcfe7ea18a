"""The limit of creates that all workers of a Prefect server share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prefect import flow, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.context import FlowRunContext
from prefect.states import Cancelling

from prefect_replicate import acreate_prediction, create_prediction
from prefect_replicate.emulator import Emulator
from prefect_replicate.engine import call
from prefect_replicate.exceptions import ConfigurationError, RunEndedError
from prefect_replicate.ledger import limits as global_limits
from prefect_replicate.ledger.limits import NAME, Slots, remove_limit, set_limit
from prefect_replicate.lifecycle import creation, run_watch

MODEL, INPUT = "emulator/timer", {"seconds": 1000}


@pytest.fixture(autouse=True)
def _afresh(forget: Callable[..., None]) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """This process has not asked for the limit yet, and leaves none."""
    forget("global limits")
    yield
    forget("global limits")  # or what it was refused keeps later tests waiting for a minute
    call(lambda _: remove_limit())


def limited(per_minute: int, **changes: Any) -> None:
    call(lambda _: set_limit(per_minute))
    with get_client(sync_client=True) as client:
        client.update_global_concurrency_limit(NAME, GlobalConcurrencyLimitUpdate(**changes))


def used() -> int:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(NAME).active_slots


@flow
def generation() -> None:
    create_prediction(MODEL, INPUT)


@flow
async def campaign(count: int) -> None:
    await asyncio.gather(
        *(acreate_prediction.fn(MODEL, {**INPUT, "seed": n}) for n in range(count))
    )


@pytest.mark.smoke
@pytest.mark.contract
def test_a_create_takes_a_slot_of_a_limit_that_there_is(still: Emulator) -> None:
    limited(60, slot_decay_per_second=0.001)

    generation()

    assert used() == 1


@pytest.mark.contract
def test_creates_at_once_take_their_slots_in_blocks(
    still: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(600, slot_decay_per_second=0.001)
    blocks: list[int] = []
    take = global_limits._take

    async def counted(slots: int) -> float | None:
        blocks.append(slots)
        return await take(slots)

    monkeypatch.setattr(global_limits, "_take", counted)
    asyncio.run(campaign(15))

    assert used() == sum(blocks) == 15
    assert len(blocks) <= 6


@pytest.mark.parametrize("changes", [{"limit": 0}, {"slot_decay_per_second": 0.0}])
def test_a_limit_that_lets_nothing_pass_is_refused_at_once(
    still: Emulator, changes: dict[str, float]
) -> None:
    limited(60, **changes)

    with pytest.raises(ConfigurationError, match=f"{NAME}.* 0.*`prefect-replicate limits`"):
        generation()
    assert still.requests.matching("POST") == []


def test_a_limit_that_is_inactive_is_not_used(still: Emulator) -> None:
    limited(60, limit=0, active=False)

    generation()

    assert used() == 0
    assert still.predictions.create_requests == 1


def test_outside_of_runs_no_limit_of_prefect_holds(still: Emulator) -> None:
    limited(60, limit=0)

    create_prediction.fn(MODEL, INPUT)

    assert still.predictions.create_requests == 1


@pytest.mark.contract
def test_a_call_that_is_continued_takes_no_slot(still: Emulator) -> None:
    limited(60, slot_decay_per_second=0.001)
    attempts: list[None] = []

    @flow(retries=1)
    def generation() -> None:
        attempts.append(None)
        for number in range(3):
            create_prediction(MODEL, {**INPUT, "seed": number})
        if len(attempts) == 1:
            raise RuntimeError

    generation()

    assert used() == 3
    assert still.predictions.create_requests == 3


@pytest.mark.contract
def test_two_processes_share_what_comes_back(still: Emulator) -> None:
    limited(40, slot_decay_per_second=100.0)

    async def work(caller: object) -> float:
        started = time.monotonic()
        processes = [Slots(), Slots()]
        await asyncio.gather(*(one.take(lambda: 0) for one in processes for _ in range(50)))
        return time.monotonic() - started

    assert call(work) >= (100 - 40) / 100 - 0.05


@pytest.mark.contract
def test_a_run_that_is_canceled_while_it_waits_starts_nothing(
    still: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(1, active_slots=1)
    monkeypatch.setattr(creation, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(run_watch, "INTERVAL", 0.05)

    @flow
    def generation() -> None:
        future = create_prediction.submit(MODEL, INPUT)
        context = FlowRunContext.get()
        assert context
        assert context.flow_run
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(context.flow_run.id, Cancelling(), force=True)
        future.result()

    with pytest.raises(RunEndedError, match="nothing more is started"):
        generation()
    assert still.requests.matching("POST") == []
