"""Finding flow runs that are said to be running, and whose process is dead."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType

from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.flow_runs import FlowRunSeen, last_heartbeats, was_listening
from prefect_replicate.lifecycle.orphans import Patience, last_sign

SILENT_HEARTBEATS = 3
"""How many have to be missing."""

_LOOK_BACK = timedelta(hours=25)


async def silent_runs(
    runs: Mapping[UUID, FlowRunSeen], patience: Patience
) -> dict[UUID, FlowRunSeen]:
    """Those of the flow runs whose heartbeat has stopped, with their last one.

    After Prefect's server was away, all flow runs look silent until their next heartbeat. So it
    must have heard anybody at all in the time in which theirs are missing.

    Raises:
        LedgerError: It can't be told.
    """
    running = [one for one, run in runs.items() if run.state is StateType.RUNNING]
    heard = await last_heartbeats(running, patience.now - _LOOK_BACK)
    beating = {one: runs[one]._replace(last_heartbeat=last) for one, last in heard.items()}
    silent = {one: run for one, run in beating.items() if patience.is_silent(run)}
    if silent:
        interval = timedelta(seconds=patience.silence / SILENT_HEARTBEATS)
        since = max(sign for run in silent.values() if (sign := last_sign(run)))
        if not await was_listening(since + interval, patience.now - interval):
            raise LedgerError(
                f"{len(silent)} of them give no heartbeat, but Prefect's server has heard nobody"
                " else in that time either."
            )
    return silent
