"""What flow runs have written down of their predictions, as anybody can read it."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRunInput

from prefect_replicate.ledger.facts import PREFIX, Generation
from prefect_replicate.ledger.ledger import Ledger


def inputs_of(client: SyncPrefectClient, root: UUID) -> list[FlowRunInput]:
    """The facts of a flow run at the top, in the order of their numbers."""
    found = client.filter_flow_run_input(root, PREFIX, 10_000, set())
    return sorted(found, key=lambda one: int(one.key.rpartition("-")[2]))


def generations_of(client: SyncPrefectClient, root: UUID) -> list[Generation]:
    """What they say of each paid call."""
    ledger = Ledger(root)
    ledger.learn(inputs_of(client, root))
    return [log.generation for log in ledger.all if log.generation is not None]
