"""The state hook that ends what a flow run has left running.

Prefect runs it in a process that knows nothing of the run (the one that serves the deployment, or
a fresh one that the worker starts), so it goes by the ledger alone.
"""

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import UUID

from prefect import Flow, State
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.logging.loggers import flow_run_logger

from prefect_replicate.api.connection import connection_to
from prefect_replicate.engine import Caller, call
from prefect_replicate.exceptions import ReplicateError
from prefect_replicate.flows.account import address_for
from prefect_replicate.ledger.flow_runs import CANCELED
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.ledger.store import Entry, records_of_runs, with_descendants
from prefect_replicate.lifecycle.adoption import look_for_recorded
from prefect_replicate.lifecycle.bookkeeping import remember
from prefect_replicate.lifecycle.cancellation import stop
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.run_watch import crashed_around, note_end

_SECONDS = 25.0
"""A runner kills what still runs 30 s after a cancel."""


def cancel_predictions(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel every prediction that a flow run and its subflows have left running.

    A state hook for `on_cancellation`, `on_crashed` and `on_failure`. It logs what it did to the
    flow run, and never raises.

    Example:
        Use it on a flow of your own:
        ```python
        from prefect import flow
        from prefect_replicate import cancel_predictions, create_prediction

        @flow(
            on_cancellation=[cancel_predictions],
            on_crashed=[cancel_predictions],
            on_failure=[cancel_predictions],
        )
        def render(prompt: str):
            create_prediction("bytedance/seedance-1-lite", {"prompt": prompt})
        ```
    """
    logger = flow_run_logger(flow_run, flow)
    try:
        call(lambda caller: _cancel_after(caller, flow_run.id, state.type, logger))
    except ReplicateError as exc:
        logger.error("Predictions of this run may still be running: %s", exc)


async def _cancel_after(caller: Caller, flow_run_id: UUID, state: StateType, logger: Any) -> None:
    crashed = {flow_run_id} if state is StateType.CRASHED else set[UUID]()
    if state is StateType.FAILED:
        # So ends a run that has noticed that it, or one around it, counts as crashed.
        crashed = await crashed_around(flow_run_id)
    # The runs of deployments that it has started go on after a failure, but not after a cancel.
    await cancel_all(caller, flow_run_id, logger, crashed=crashed, of_deployments=state in CANCELED)


async def cancel_all(
    caller: Caller,
    flow_run_id: UUID,
    logger: Any,
    *,
    crashed: Collection[UUID] = (),
    of_deployments: bool = True,
) -> None:
    """Cancel what a flow run and its subflows have left running, but what outlives a crash.

    Args:
        caller: Whose logs are written.
        flow_run_id: The run.
        logger: Of the run.
        crashed: It and the runs around it, as far as they have crashed.
        of_deployments: Whether runs of deployments count as subflows.
    """
    runs = await with_descendants(flow_run_id, of_deployments=of_deployments)
    note_end(runs)
    found = await records_of_runs(runs)
    if found.unreadable:
        caller.tell(lambda: logger.warning("%s", found.what_is_skipped))
    records = [one for one in found.entries if one.record.is_open]
    left = [one for one in records if not any(map(one.record.outlives_crash_of, crashed))]
    if not left:
        return
    unwanted = {one.record.call for one in left}
    work = [
        asyncio.create_task(_cancel_one(caller, flow_run_id, logger, one, unwanted)) for one in left
    ]
    _, unfinished = await asyncio.wait(work, timeout=_SECONDS)
    if unfinished:
        count = len(unfinished)
        caller.tell(lambda: logger.error("%d predictions are still being canceled", count))


async def _cancel_one(
    caller: Caller, flow_run_id: UUID, logger: Any, entry: Entry, unwanted: Collection[str]
) -> None:
    record = entry.record
    try:
        connection = connection_to(await address_for(record))
        run = Run(connection, None, RunScope(flow_run_id), caller, logger)
        prediction_id = record.prediction_id
        if prediction_id is None:  # its create was interrupted before that was recorded
            found = await look_for_recorded(run, entry, looks=4, unwanted=unwanted)
            prediction_id = found.id if found else None
    except ReplicateError as exc:
        message = "Prediction %s of %s was not canceled: %s"
        reason = str(exc)
        caller.tell(lambda: logger.error(message, record.prediction_id, record.model, reason))
        return
    if prediction_id is not None:
        remember(run, prediction_id, entry)
        await stop(run, prediction_id)
