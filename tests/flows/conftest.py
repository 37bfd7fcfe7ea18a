from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from held import Hold
from prefect import flow, get_client, task
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact
from prefect.states import State

from prefect_replicate import engine
from prefect_replicate.cleanup import sweep
from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.models.model import version_id
from prefect_replicate.engine import call
from prefect_replicate.ledger import events, flow_runs, ledger, scope, timings
from prefect_replicate.ledger.ledger import Ledger
from prefect_replicate.ledger.scope import RunScope, ancestry_of
from prefect_replicate.lifecycle import adoption


@pytest.fixture(autouse=True)
def _on_a_server(prefect_api: None) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """Every test here runs flows."""


Artifacts = Callable[..., list[Artifact]]
TIMER, VERSION = "emulator/timer", version_id("emulator/community-timer", 2)


@pytest.fixture
def artifacts() -> Artifacts:
    """The artifacts of a finished run, oldest first, by type."""

    def artifacts(state: State[Any], type: str) -> list[Artifact]:
        ids: list[UUID] = (
            [state.state_details.flow_run_id] if state.state_details.flow_run_id else []
        )
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=ids))
        with get_client(sync_client=True) as client:
            found = client.read_artifacts(artifact_filter=chosen)
        return sorted((one for one in found if one.type == type), key=lambda one: one.created or 0)

    return artifacts


@pytest.fixture
def forget() -> Callable[..., None]:
    """Forget what this process keeps under some keys, as in another process of the run."""

    def forget(*keys: str) -> None:
        for key in keys:
            engine._running_engine().state.pop(key, None)

    return forget


@pytest.fixture
def ledger_requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the engine asks of flow runs and their inputs from here on, such as `POST filter`."""
    asked: list[str] = []
    send = httpx.AsyncHTTPTransport.handle_async_request

    async def note(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        is_engines = threading.current_thread().name == "prefect-replicate"
        if is_engines and "/api/flow_runs/" in request.url.path:
            asked.append(f"{request.method} {request.url.path.rpartition('/')[2]}".strip())
        return await send(self, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", note)
    return asked


@pytest.fixture
def records() -> Callable[[State[Any]], list[dict[str, Any]]]:
    """What the ledger says of the predictions that a run has started or waits for."""

    def records(state: State[Any]) -> list[dict[str, Any]]:
        flow_run_id = state.state_details.flow_run_id
        assert flow_run_id is not None

        async def read(_: Any) -> list[dict[str, Any]]:
            ancestry = await ancestry_of(RunScope(flow_run_id))
            assert ancestry is not None
            ledger = Ledger(ancestry.root)
            await ledger.read()
            found = [log.generation for log in ledger.all if log.generation]
            return [
                asdict(one) | {"model": one.intent.model, "stored": list(one.stored)}
                for one in found
                if flow_run_id in [around[0].id for around in one.awaited_by]
            ]

        return call(read)

    return records


@pytest.fixture
def unhurried() -> float:
    """A time limit by which a flow has surely begun to wait, however busy the machine is now."""

    @flow
    def nothing() -> None:
        task(lambda: None)()

    nothing()  # the first flow of a process imports half of Prefect
    began = time.monotonic()
    nothing()
    return min(max(1.0, 8 * (time.monotonic() - began)), 8.0)


@pytest.fixture
def own_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger in which nothing is of other tests, on the server that they share."""
    for module in (flow_runs, ledger, adoption, scope, sweep):
        for tag in ("TAG", "OPEN_TAG"):
            if hasattr(module, tag):
                monkeypatch.setattr(module, tag, f"{tag}-{os.environ['PYTEST_CURRENT_TEST']}")
    prefix = f"replicate.test.{uuid4()}."
    for module in (events, timings):
        monkeypatch.setattr(module, "EVENT_PREFIX", prefix)


@pytest.fixture
def no_prefect_api(connects_at_once: None) -> str:
    """An address where nobody listens."""
    return "http://127.0.0.1:1/api"


@pytest.fixture
def lose_create(still: Emulator, impatient: None) -> Callable[[], None]:
    """Have the next create be processed, its reply be lost, and the looking for it fail.

    So the call fails, and leaves a prediction whose id nobody has recorded.
    """

    def lose_create() -> None:
        still.faults.add("lost_reply", method="POST", path="/predictions$")
        still.faults.add("error_page", method="GET", path="/v1/predictions$")

    return lose_create


@pytest.fixture(
    params=[
        (4000, TIMER, {"seconds": 1000.0, "output": [1e21, -0.0, {"b": 1.0, "a": 2**60}]}),
        (-4000, TIMER, {"seconds": 1000, "key": "sk-secret"}),
        (-90, VERSION, {"seconds": 1000, "key": "sk-secret"}),  # nobody knows what is secret
        (3600, TIMER, {"seconds": 1000, "output": Path(__file__)}),
        (-120, TIMER, {"seconds": 1000, "output": "data:text/plain;base64,YSBmb3g="}),
        (90, TIMER, {"seconds": 1000.0, "seed": None}),
    ],
    ids=["numbers", "secret", "unknown-secret", "file", "data-uri", "none"],
)
def odd_call(request: pytest.FixtureRequest, still: Emulator) -> tuple[str, dict[str, Any]]:
    """Model and input that Replicate shows otherwise than sent; and its clock is not ours."""
    seconds, model, input = request.param
    still.clock.reset(0, ahead=seconds)
    return model, input


@pytest.fixture
def hold(replicate_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hold]:
    hold = Hold()
    send = httpx.AsyncHTTPTransport.handle_async_request

    async def held(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        await hold.pass_by("request", request.url.path)
        response = await send(self, request)
        await hold.pass_by("reply", request.url.path)
        return response

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", held)
    yield hold
    hold.let_go.set()
