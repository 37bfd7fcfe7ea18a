"""The ledger knows how long a model took, and a wait looks when it could be done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import httpx
import pytest
from prefect import flow, get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType
from prefect.events import emit_event

from prefect_replicate import (
    PollPolicy,
    Prediction,
    acreate_prediction,
    agenerate_video,
    await_for_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.engine import acall
from prefect_replicate.ledger import timings
from prefect_replicate.lifecycle import waiting

OFTEN = PollPolicy(min_interval=0.02, max_interval=0.1)
USUALLY = PollPolicy()
"""Looks after about 0.5 s, and at about 1.05 s if nothing is known of how long it takes."""
MODEL, OTHER = "emulator/timer", "emulator/community-timer"


async def generate(seconds: float, model: str = MODEL, policy: PollPolicy = OFTEN) -> Prediction:
    made = await acreate_prediction.fn(model, {"seconds": seconds})
    return await await_for_prediction.fn(made, policy=policy)


async def several(seconds: float, model: str = MODEL, runs: int = 3) -> None:
    await asyncio.gather(*(generate(seconds, model) for _ in range(runs)))


class HistoryReads:
    """Those of everyone's records, and whether Prefect's API refuses them."""

    def __init__(self) -> None:
        self.count = 0
        self.fail = False

    def is_one(self, request: httpx.Request) -> bool:
        return request.url.path.endswith("/events/filter")


@pytest.fixture
def history_reads(monkeypatch: pytest.MonkeyPatch) -> HistoryReads:
    reads = HistoryReads()
    send = httpx.AsyncHTTPTransport.handle_async_request

    async def note(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        if reads.is_one(request):
            reads.count += 1
            if reads.fail:
                return httpx.Response(500, request=request)
        return await send(self, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", note)
    return reads


@pytest.fixture(autouse=True)
def forget_history(own_ledger: None, forget: Callable[..., None]) -> Callable[[], None]:
    """Know nothing but what the ledger says, as another process does."""

    def forget_history() -> None:
        forget("history", "history readings")

    forget_history()
    return forget_history


async def are_told(count: int) -> None:
    """Wait until Prefect's server has so many events of generations."""
    with anyio.fail_after(60):
        while len(await acall(lambda _: timings._newest_events())) < count:  # noqa: ASYNC110 it is asked of a server
            await asyncio.sleep(0.05)


def looks_at(emulator: Emulator, prediction: Prediction) -> list[float]:
    """When it was looked at, in seconds since its creation."""
    assert prediction.created_at
    born = prediction.created_at.timestamp()
    return [one.time - born for one in emulator.requests.matching("GET", prediction.id)]


@pytest.mark.smoke
async def test_three_runs_teach_another_process_when_to_look(
    replicate_emulator: Emulator,
    forget_history: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await flow(several)(0.8)
    await are_told(3)
    forget_history()

    done = await flow(generate)(0.8, policy=USUALLY)

    assert done.is_succeeded
    assert caplog.text.count(f"{MODEL} usually takes about 0.8 s (nine in ten within 0.") == 1


@pytest.mark.contract
async def test_the_ledger_is_asked_once_for_all_waits(
    replicate_emulator: Emulator, history_reads: HistoryReads
) -> None:
    await flow(several)(0.2, runs=5)
    await flow(several)(0.2, runs=5)

    assert history_reads.count == 1


async def test_a_history_that_cannot_be_read_costs_one_try(
    replicate_emulator: Emulator, history_reads: HistoryReads, caplog: pytest.LogCaptureFixture
) -> None:
    history_reads.fail = True

    await flow(several)(0.2)
    await flow(several)(0.2)

    assert history_reads.count == 1
    assert all(record.levelname != "WARNING" for record in caplog.records)


@pytest.mark.contract
async def test_events_of_another_form_are_passed_over(
    replicate_emulator: Emulator,
    forget_history: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await flow(several)(0.7)
    for payload in ({}, {"base_url": "x", "id": "y", "model": 7}):
        emit_event(
            f"{timings.EVENT_PREFIX}succeeded", {"prefect.resource.id": "new"}, payload=payload
        )
    await are_told(5)
    forget_history()

    await flow(generate)(0.7, policy=USUALLY)

    assert f"{MODEL} usually takes about 0.7 s" in caplog.text


async def test_what_takes_longer_than_nine_of_ten_is_said_to(
    replicate_emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "prefect_replicate")
    await several(0.3, OTHER)

    await generate(0.6, OTHER)

    assert caplog.text.count("is taking longer than usual (usually 0.3 s, nine in ten within") == 1


async def test_on_update_hears_of_the_time_between_two_looks(
    replicate_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_TELL_AGAIN_SECONDS", 0.05)
    told: list[Prediction] = []

    made = await acreate_prediction.fn(MODEL, {"seconds": 0.4})
    await await_for_prediction.fn(made, policy=USUALLY, on_update=told.append)

    assert len(told) > len(looks_at(replicate_emulator, made)) + 5


async def test_the_progress_bar_says_what_to_expect(replicate_emulator: Emulator) -> None:
    await several(0.8, OTHER)

    running = asyncio.create_task(agenerate_video("a fox", OTHER, {"seconds": 60}))

    async with get_client() as client:
        with anyio.fail_after(20):
            shown = list[str]()
            while not any(one.startswith("about 0.8 s") for one in shown):
                shown = await bars(client)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def bars(client: PrefectClient) -> list[str]:
    """What progress bars of the model say."""
    of_bars = ArtifactFilter(type=ArtifactFilterType(any_=["progress"]))
    found = await client.read_artifacts(artifact_filter=of_bars)
    return [one.description or "" for one in found if OTHER in (one.description or "")]
