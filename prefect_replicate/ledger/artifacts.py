"""Reading artifacts from Prefect's API, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort

from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client

PAGE = 200
"""The server refuses more."""


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
