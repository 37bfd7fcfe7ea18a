"""Writing artifacts to Prefect's API, and reading them page by page.

The writes are not those of Prefect's client, which emits an event for each, with all that was
written: the server keeps it a second time. For a batch that is more work than the write itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import Any
from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort

from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client

PAGE = 200
"""The server refuses more."""


async def create_artifact(artifact: ArtifactCreate, action: str) -> Artifact:
    """Write a new one.

    Args:
        artifact: What to write.
        action: What Prefect's API could not do if it fails, for the message.

    Raises:
        LedgerError: It could not be written.
    """
    client = await prefect_client()
    content = artifact.model_dump(mode="json", exclude_unset=True)
    with as_ledger_error(action):
        reply = await client.request("POST", "/artifacts/", json=content)
        return Artifact.model_validate(reply.json())


async def update_artifact(artifact_id: UUID, update: ArtifactUpdate, action: str) -> None:
    """Change one; as `create_artifact`."""
    client = await prefect_client()
    content = update.model_dump(mode="json", exclude_unset=True)
    with as_ledger_error(action):
        await client.request(
            "PATCH", "/artifacts/{id}", path_params={"id": artifact_id}, json=content
        )


async def artifacts_of_type(
    type: str, *, pages: int | None = None, **conditions: Any
) -> AsyncIterator[Artifact]:
    """The artifacts of a type that fulfil the conditions, newest first, each once.

    Args:
        type: Whose.
        pages: How many to read at most; `None`: all.
        conditions: Further filters, as `ArtifactFilter` has them.

    Raises:
        LedgerError: Prefect's API could not be read.
    """
    client = await prefect_client()
    chosen = ArtifactFilter(type=ArtifactFilterType(any_=[type]), **conditions)
    # Not by `read_artifacts`: it sends nulls for the filters that are left out, which some servers
    # refuse, and an empty filter in their place hides the records whose run has no row.
    query = {
        "artifacts": chosen.model_dump(mode="json", exclude_unset=True),
        "sort": ArtifactSort.CREATED_DESC.value,
        "limit": PAGE,
    }
    seen: set[UUID] = set()
    offset = 0
    for _ in count() if pages is None else range(pages):
        with as_ledger_error("read what was started before"):
            reply = await client.request(
                "POST", "/artifacts/filter", json={**query, "offset": offset}
            )
            page = Artifact.model_validate_list(reply.json())
        new = [artifact for artifact in page if artifact.id not in seen]
        for artifact in new:
            yield artifact
        # The last one of the page before is read again. Where it does not show up, some before it
        # were deleted meanwhile, and others have moved up past us.
        has_gap = offset > 0 and len(new) == len(page)
        if len(page) < PAGE and not has_gap:
            return
        seen.update(artifact.id for artifact in new)
        offset = 0 if has_gap else offset + PAGE - 1
