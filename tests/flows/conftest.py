from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact
from prefect.states import State

from prefect_replicate import PollPolicy
from prefect_replicate.api import connection
from prefect_replicate.emulator import Emulator
from prefect_replicate.lifecycle import adoption

RECORD = "replicate-prediction"


@pytest.fixture(autouse=True)
def _on_a_server(prefect_api: None) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """Every test here runs flows."""


@pytest.fixture
def quick() -> PollPolicy:
    return PollPolicy(min_interval=0.01, max_interval=0.02)


@pytest.fixture
def still(replicate_emulator: Emulator) -> Emulator:
    """The emulator with its time standing still, so that nothing ends by itself."""
    replicate_emulator.clock.speed = 0
    return replicate_emulator


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after one attempt, and look for lost creates without a pause."""
    monkeypatch.setattr(connection, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(adoption, "FIRST_PAUSE", 0.0)


Artifacts = Callable[..., list[Artifact]]


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
def records(artifacts: Artifacts) -> Callable[[State[Any]], list[dict[str, Any]]]:
    """The ledger's records of a run."""
    return lambda state: [one.data for one in artifacts(state, RECORD)]
