"""What flow runs have written down of their predictions, as anybody can read it."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRunInput

from prefect_replicate.ledger.facts import PREFIX, Fact, Generation, Log


def inputs_of(client: SyncPrefectClient, root: UUID) -> list[FlowRunInput]:
    """The facts of a flow run at the top, in their order."""
    found = client.filter_flow_run_input(root, PREFIX, 10_000, set())
    return sorted(found, key=lambda one: int(one.key.rpartition("-")[2]))


def generations_of(client: SyncPrefectClient, root: UUID) -> list[Generation]:
    """What they say of each paid call."""
    logs: defaultdict[str, Log] = defaultdict(lambda: Log(""))
    for one in inputs_of(client, root):
        assert one.created is not None
        fact = Fact.model_validate_json(one.value)
        logs[one.key.rpartition("-")[0]].apply(fact, one.created)
    return [log.generation for log in logs.values() if log.generation is not None]
