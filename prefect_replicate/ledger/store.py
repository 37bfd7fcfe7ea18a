"""Reading and writing records through Prefect's API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilterFlowRunId,
    ArtifactFilterId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from pydantic import ValidationError

from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.artifacts import (
    PAGE,
    artifacts_of_type,
    create_artifact,
    update_artifact,
)
from prefect_replicate.ledger.flow_runs import lives_by_itself
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client
from prefect_replicate.ledger.record import VOID, Record
from prefect_replicate.ledger.scope import RunScope

RECORD_TYPE = "replicate-prediction"

_KEYS_A_READ = PAGE // 2 - 1
"""With the record of a call and that of an earlier attempt at it for each, a read is one page."""


class Entry(NamedTuple):
    """A record and the artifact that holds it; the times are the server's."""

    artifact_id: UUID
    record: Record
    created: datetime
    updated: datetime


async def add_record(record: Record, scope: RunScope) -> Entry:
    """Write a new record; without it, nothing may be paid.

    Raises:
        LedgerError: It could not be written.
    """
    artifact = ArtifactCreate(
        key=record.key,
        type=RECORD_TYPE,
        flow_run_id=scope.flow_run_id,
        task_run_id=scope.task_run_id,
        **_content(record),
    )
    return _entry(await create_artifact(artifact, "write what is about to be started"))


async def update_record(entry: Entry, record: Record) -> Entry:
    action = "change what is recorded of a call"
    if record.prediction_id is not None:
        action = f"record that prediction {record.prediction_id} is {record.status}"
    await update_artifact(entry.artifact_id, ArtifactUpdate(**_content(record)), action)
    return entry._replace(record=record)


async def void_record(entry: Entry) -> None:
    """Note that the create of a record has made no prediction."""
    await update_record(entry, entry.record.model_copy(update={"status": VOID}))


async def delete_record(entry: Entry) -> None:
    """Take back a record of something that was not started, if it is still there."""
    client = await prefect_client()
    with as_ledger_error("take back what was not started"), suppress(ObjectNotFound):
        await client.delete_artifact(entry.artifact_id)


async def read_record(entry: Entry) -> Entry | None:
    """The record as it is now; `None` where it has been deleted."""
    async for now in _read(id=ArtifactFilterId(any_=[entry.artifact_id])):
        return now
    return None


async def records_with_key(key: str) -> list[Entry]:
    """All records of a call, newest first, by a read that begins after this was called.

    What is asked for while a read is under way is read together after it.
    """
    reads = process_state("key reads", _AllKeyReads)
    of_api = reads.setdefault(PREFECT_API_URL.value(), _KeyReads())
    found = await asyncio.shield(of_api.join(key))
    return [_entry(artifact) for artifact in found if artifact.key == key]


class _KeyReads:
    """The reads by key from one Prefect API, of which one is under way at a time."""

    def __init__(self) -> None:
        self._keys: set[str] | None = None
        self._newest: asyncio.Task[list[Artifact]] | None = None

    def join(self, key: str) -> asyncio.Task[list[Artifact]]:
        """Have the key read together with others by a read that is still to begin."""
        if self._keys is None or self._newest is None or len(self._keys) >= _KEYS_A_READ:
            self._keys = set()
            self._newest = asyncio.create_task(self._read(self._keys, after=self._newest))
            self._newest.add_done_callback(_take_note)
        self._keys.add(key)
        return self._newest

    async def _read(
        self, keys: set[str], after: asyncio.Task[list[Artifact]] | None
    ) -> list[Artifact]:
        if after is not None:
            await asyncio.wait({after})
        if self._keys is keys:
            self._keys = None
        chosen = ArtifactFilterKey(any_=sorted(keys))
        return [artifact async for artifact in artifacts_of_type(RECORD_TYPE, key=chosen)]


class _AllKeyReads(dict["str | None", _KeyReads]):
    """By API address."""


def _take_note(read: asyncio.Task[list[Artifact]]) -> None:
    if not read.cancelled():
        read.exception()  # or asyncio complains where all who wanted it have gone


async def records_of_runs(flow_run_ids: Sequence[UUID]) -> Found:
    """All records of these flow runs."""
    runs = ArtifactFilterFlowRunId(any_=list(flow_run_ids))
    found = Found([], [])
    async for artifact in artifacts_of_type(RECORD_TYPE, flow_run_id=runs):
        found.add(artifact)
    return found


class Found(NamedTuple):
    """What a read of many records has found."""

    entries: list[Entry]
    """Newest first."""
    unreadable: list[Artifact]
    """Those of another version, or of somebody else's making."""

    def add(self, artifact: Artifact) -> None:
        entry = _understood(artifact)
        if entry is None:
            self.unreadable.append(artifact)
        else:
            self.entries.append(entry)

    @property
    def strange_ids(self) -> set[str]:
        """The predictions that those are of, as far as they name one."""
        named = (_prediction_named_in(artifact.data) for artifact in self.unreadable)
        return {one for one in named if one is not None}

    @property
    def what_is_skipped(self) -> str:
        """One line for the log."""
        count, first = len(self.unreadable), self.unreadable[0].id
        return (
            f"{count} records of the type {RECORD_TYPE} can't be understood and are skipped, with"
            f" the predictions that they are of: the first is artifact {first}."
        )

    @property
    def ids(self) -> set[str]:
        """The predictions that any of them is of."""
        known = {entry.record.prediction_id for entry in self.entries}
        return {one for one in known if one} | self.strange_ids


async def records_since(moment: datetime) -> Found:
    """Everyone's records that were first written at or after a time of the server's."""
    found = Found([], [])
    async for artifact in artifacts_of_type(RECORD_TYPE):
        if artifact.created is not None and artifact.created < moment:
            break
        found.add(artifact)
    return found


async def newest_records() -> list[Record]:
    """Everyone's records, as far back as one request goes, without those of other versions."""
    return [
        entry.record
        async for artifact in artifacts_of_type(RECORD_TYPE, pages=1)
        if (entry := _understood(artifact))
    ]


def _understood(artifact: Artifact) -> Entry | None:
    with suppress(LedgerError):
        return _entry(artifact)
    return None


async def with_descendants(flow_run_id: UUID, *, of_deployments: bool) -> list[UUID]:
    """A flow run and everything that it has started, at any depth.

    Args:
        flow_run_id: The run.
        of_deployments: Whether runs count that live by themselves, and what they have started.
    """
    client = await prefect_client()
    found, frontier = [flow_run_id], [flow_run_id]
    while frontier:
        children = await _children(client, frontier, of_deployments)
        frontier = [child for child in children if child not in found]
        found += frontier
    return found


async def _children(client: PrefectClient, parents: list[UUID], of_deployments: bool) -> list[UUID]:
    children: list[FlowRun] = []
    of_parents = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=parents))
    while True:
        with as_ledger_error("read subflow runs"):
            page = await client.read_flow_runs(
                flow_run_filter=of_parents,
                sort=FlowRunSort.ID_DESC,
                limit=PAGE,
                offset=len(children),
            )
        children += page
        if len(page) < PAGE:
            return [run.id for run in children if of_deployments or not lives_by_itself(run)]


async def _read(**conditions: Any) -> AsyncIterator[Entry]:
    async for artifact in artifacts_of_type(RECORD_TYPE, **conditions):
        yield _entry(artifact)


def _entry(artifact: Artifact) -> Entry:
    assert artifact.created is not None
    assert artifact.updated is not None
    try:
        record = Record.model_validate(artifact.data)
        return Entry(artifact.id, record, artifact.created, artifact.updated)
    except ValidationError as exc:
        raise LedgerError(
            f"artifact {artifact.id} of type {RECORD_TYPE} is not a record of this package;"
            " delete it if nothing of yours depends on it. Nothing was started."
        ) from exc


def _prediction_named_in(data: object) -> str | None:
    fields = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    named = fields.get("prediction_id")
    return named if isinstance(named, str) else None


def _content(record: Record) -> dict[str, Any]:
    return {"data": record.model_dump(mode="json"), "description": record.description()}
