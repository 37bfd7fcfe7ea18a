"""How the items of a batch stand, for whoever shows, retries or takes over the batch.

Each part of a batch has a report, an artifact of the type `replicate-batch`, which the process that
works on it brings up to date every few seconds. A report that is behind costs a look into the
ledger, which alone decides what is paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.objects import Artifact
from pydantic import TypeAdapter, ValidationError

from prefect_replicate.ledger.prefect_api import (
    as_ledger_error,
    create_artifact,
    request,
    update_artifact,
)
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.values import VideoOutcome
from prefect_replicate.values.video import counts_of

PROGRESS_TYPE = "replicate-batch"
ACTION = "show how a batch stands"
_PAGE = 200
_STOP_TYPE = "replicate-batch-stop"
_OUTCOMES = TypeAdapter(list[VideoOutcome])


class PartProgress(NamedTuple):
    """How the items of one part stand; the times are the server's."""

    key: str
    created: datetime
    updated: datetime
    outcomes: list[VideoOutcome]


async def add_progress(key: str, outcomes: Sequence[VideoOutcome], scope: RunScope) -> UUID:
    """Put up a report, and return its artifact.

    Raises:
        LedgerError: Prefect's API could not be written to.
    """
    return await _add(PROGRESS_TYPE, key, scope, **_content(outcomes))


async def update_progress(report: UUID, outcomes: Sequence[VideoOutcome]) -> None:
    await update_artifact(report, ArtifactUpdate(**_content(outcomes)), ACTION)


async def progress_with_keys(keys: Iterable[str]) -> list[PartProgress]:
    """All reports of batches, of each of their attempts, newest first."""
    return await _read(PROGRESS_TYPE, keys)


async def ask_to_stop(key: str, scope: RunScope) -> None:
    """Ask those who work on a batch to start nothing more."""
    await _add(_STOP_TYPE, key, scope, data={}, description="Too many items have failed.")


async def is_to_stop(key: str, since: datetime) -> bool:
    """Whether that has been asked since a moment of the server's time."""
    return any(one.created > since for one in await _read(_STOP_TYPE, [key]))


def latest(reports: Iterable[PartProgress], since: datetime | None) -> dict[int, VideoOutcome]:
    """By number: how each item stands, where several reports show it; pure.

    What has succeeded has; otherwise the report that was changed last is right.

    Args:
        reports: Of one key.
        since: What has not succeeded by then does not count; `None`: by now.
    """
    found: dict[int, VideoOutcome] = {}
    for report in sorted(reports, key=lambda report: report.updated):
        is_present = since is not None and report.updated >= since
        found |= {
            one.number: one
            for one in report.outcomes
            if one.state == "succeeded" or (is_present and not _has_succeeded(found, one.number))
        }
    return found


def _has_succeeded(found: dict[int, VideoOutcome], number: int) -> bool:
    return number in found and found[number].state == "succeeded"


async def _add(type: str, key: str, scope: RunScope, **content: Any) -> UUID:
    artifact = ArtifactCreate(
        key=key, type=type, flow_run_id=scope.flow_run_id, task_run_id=scope.task_run_id, **content
    )
    return await create_artifact(artifact, ACTION)


async def _read(type: str, keys: Iterable[str]) -> list[PartProgress]:
    found: dict[UUID, PartProgress] = {}
    filters = {"type": {"any_": [type]}, "key": {"any_": list(keys)}}
    query = {"artifacts": filters, "sort": "CREATED_DESC", "limit": _PAGE}
    for offset in count(0, _PAGE - 1):  # the last one again, as others may be added meanwhile
        reply = await request(ACTION, "POST", "/artifacts/filter", json={**query, "offset": offset})
        with as_ledger_error(ACTION):
            page = Artifact.model_validate_list(reply.json())
        for one in page:
            if one.key and one.created and one.updated:
                found[one.id] = PartProgress(one.key, one.created, one.updated, _outcomes(one))
        if len(page) < _PAGE:
            break
    return list(found.values())


def _outcomes(artifact: Artifact) -> list[VideoOutcome]:
    try:
        return _OUTCOMES.validate_python(artifact.data or [])
    except ValidationError:
        return []  # of another version; the ledger says the same, at more length


def _content(outcomes: Sequence[VideoOutcome]) -> dict[str, Any]:
    data = _OUTCOMES.dump_python(list(outcomes), mode="json", exclude_defaults=True)
    return {"data": data, "description": counts_of(outcomes)}
