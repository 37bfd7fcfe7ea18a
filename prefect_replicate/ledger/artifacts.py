"""Reading artifacts from Prefect's API, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort

from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client

PAGE = 200
"""The server refuses more."""


async def artifacts_of_type(type: str, **conditions: Any) -> AsyncIterator[Artifact]:
    """The artifacts of a type that fulfil the conditions, newest first.

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
    offset = 0
    while True:
        with as_ledger_error("read what was started before"):
            reply = await client.request(
                "POST", "/artifacts/filter", json={**query, "offset": offset}
            )
            page = Artifact.model_validate_list(reply.json())
        for artifact in page:
            yield artifact
        offset += len(page)
        if len(page) < PAGE:
            return
