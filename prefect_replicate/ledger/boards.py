"""How the items of a batch stand, for whoever shows, retries or takes over the batch.

Each part of a batch has a board, an artifact of the type `replicate-batch`, which the process that
works on it brings up to date every few seconds. A board that is behind costs a look into the
ledger's records, which alone decide what is paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.client.schemas.objects import Artifact
from pydantic import TypeAdapter, ValidationError

from prefect_replicate.ledger.artifacts import artifacts_of_type
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.values import VideoOutcome
from prefect_replicate.values.video_batch import counts_of

BOARD_TYPE = "replicate-batch"
_STOP_TYPE = "replicate-batch-stop"
_OUTCOMES = TypeAdapter(list[VideoOutcome])


class Board(NamedTuple):
    """How the items of one part stand."""

    flow_run_id: UUID | None
    updated: datetime
    outcomes: list[VideoOutcome]


async def add_board(key: str, outcomes: Sequence[VideoOutcome], scope: RunScope) -> UUID:
    """Put up a board.

    Raises:
        LedgerError: Prefect's API could not be written to.
    """
    return await _add(BOARD_TYPE, key, scope, **_content(outcomes))


async def update_board(board_id: UUID, outcomes: Sequence[VideoOutcome]) -> None:
    client = await prefect_client()
    with as_ledger_error("show how a batch stands"):
        await client.update_artifact(board_id, ArtifactUpdate(**_content(outcomes)))


async def boards_with_key(key: str) -> list[Board]:
    """All boards of a batch, of each of its attempts, newest first."""
    return await _read(BOARD_TYPE, key=ArtifactFilterKey(any_=[key]))


async def boards_of_runs(flow_run_ids: Iterable[UUID]) -> list[Board]:
    """All boards that these flow runs have put up, newest first."""
    return await _read(BOARD_TYPE, flow_run_id=ArtifactFilterFlowRunId(any_=list(flow_run_ids)))


async def ask_to_stop(key: str, scope: RunScope) -> None:
    """Ask those who work on a batch to start nothing more."""
    await _add(_STOP_TYPE, key, scope, data={}, description="Too many items have failed.")


async def is_to_stop(key: str) -> bool:
    return bool(await _read(_STOP_TYPE, key=ArtifactFilterKey(any_=[key])))


def latest(boards: Iterable[Board]) -> dict[int, VideoOutcome]:
    """By number: how each item stands, where several boards show it; pure.

    What has succeeded has; otherwise the board that was changed last is right.
    """
    found: dict[int, VideoOutcome] = {}
    for board in sorted(boards, key=lambda board: board.updated):
        for outcome in board.outcomes:
            if outcome.number not in found or found[outcome.number].state != "succeeded":
                found[outcome.number] = outcome
    return found


async def _add(type: str, key: str, scope: RunScope, **content: Any) -> UUID:
    artifact = ArtifactCreate(
        key=key, type=type, flow_run_id=scope.flow_run_id, task_run_id=scope.task_run_id, **content
    )
    client = await prefect_client()
    with as_ledger_error("show how a batch stands"):
        return (await client.create_artifact(artifact)).id


async def _read(type: str, **conditions: Any) -> list[Board]:
    return [
        Board(one.flow_run_id, one.updated, _outcomes(one))
        async for one in artifacts_of_type(type, **conditions)
        if one.updated is not None
    ]


def _outcomes(artifact: Artifact) -> list[VideoOutcome]:
    try:
        return _OUTCOMES.validate_python(artifact.data or [])
    except ValidationError:
        return []  # of another version; the ledger's records tell the same, at more length


def _content(outcomes: Sequence[VideoOutcome]) -> dict[str, Any]:
    data = _OUTCOMES.dump_python(list(outcomes), mode="json", exclude_defaults=True)
    return {"data": data, "description": counts_of(outcomes)}
