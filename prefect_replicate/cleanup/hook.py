"""The state hook that cancels what a flow run has left running.

Prefect runs it in a process that knows nothing about the run (the one that serves the deployment,
or a new one that the worker starts), so it relies on the ledger alone.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from prefect import Flow, State
from prefect.client.schemas.objects import FlowRun, FlowRunInput, StateType
from prefect.logging.loggers import flow_run_logger

from prefect_replicate.api.connection import Address, connection_to
from prefect_replicate.api.predictions import get_prediction
from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.engine import Caller, call
from prefect_replicate.exceptions import (
    APIError,
    ConfigurationError,
    LedgerError,
    ReplicateError,
)
from prefect_replicate.ledger.facts import Generation, made
from prefect_replicate.ledger.flow_runs import CANCELED
from prefect_replicate.ledger.ledger import ledger_of
from prefect_replicate.ledger.log import OwnLog
from prefect_replicate.ledger.prefect_api import as_ledger_error
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.lifecycle.adoption import Sought, look_for_lost
from prefect_replicate.lifecycle.bookkeeping import announce
from prefect_replicate.lifecycle.cancellation import stop
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.run_watch import crashed_around, note_end
from prefect_replicate.presentation import show_end
from prefect_replicate.text import in_line
from prefect_replicate.values import Prediction

_CHECK_SECONDS = 3.0

_SECONDS = 25.0
"""A runner kills what still runs 30 s after a cancel."""


def cancel_predictions(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel every prediction that a flow run and its subflows have left running.

    A state hook for `on_cancellation`, `on_crashed` and `on_failure`. It logs to the flow run, and
    never raises.

    Args:
        flow: The flow; Prefect passes it.
        flow_run: Its run.
        state: The state that the run has entered.

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
        # A run also fails when it notices that it, or a parent, counts as crashed.
        crashed = await crashed_around(flow_run_id)
    # Runs of deployments that it has started continue after a failure, but not after a cancel.
    await cancel_all(caller, flow_run_id, logger, crashed=crashed, of_deployments=state in CANCELED)
    ledger = await ledger_of(RunScope(flow_run_id))
    known = [log.generation for log in ledger.all if log.generation is not None]
    below = [one for one in known if one.is_below(flow_run_id, of_deployments=state in CANCELED)]
    ended = {str(one.prediction_id): one.predict_time for one in below if one.status == "canceled"}
    if ended and ledger.batches:  # whose items don't log each cancel
        caller.tell(lambda: logger.info("%s", _in_all(ended)))
    runs = {flow_run_id} | _subflows(flow_run_id, below)
    with suppress(LedgerError):
        await show_end(runs, ended, "canceled" if state in CANCELED else state.value.lower())


def _in_all(ended: Mapping[str, float | None]) -> str:
    count = "1 prediction was" if len(ended) == 1 else f"{len(ended)} predictions were"
    seconds = sum(one or 0.0 for one in ended.values())
    return f"{count} canceled in this run, after {seconds:,.1f} s of model time in total"


def _subflows(flow_run_id: UUID, known: Sequence[Generation]) -> set[UUID]:
    """Return the subflows of a run that make these calls; deployments have their own hook."""
    found = set[UUID]()
    for around in (line for one in known for line in one.awaited_by):
        subflows = list[UUID]()
        for run in around:
            if run.id == flow_run_id:
                found.update(subflows)
                break
            subflows = [] if run.lives_by_itself else [*subflows, run.id]
    return found


async def cancel_all(
    caller: Caller,
    flow_run_id: UUID,
    logger: Any,
    *,
    crashed: Collection[UUID] = (),
    of_deployments: bool = True,
) -> None:
    """Cancel what a flow run and its subflows have left running, except what outlives a crash.

    Args:
        caller: Writes the log.
        flow_run_id: The run.
        logger: The run's logger.
        crashed: Those of the run and its parents that have crashed.
        of_deployments: Whether runs of deployments count as subflows.
    """
    note_end(flow_run_id, of_deployments=of_deployments)
    ledger = await ledger_of(RunScope(flow_run_id))
    await ledger.read()
    if unreadable := ledger.unreadable:
        caller.tell(lambda: logger.warning("%s", what_is_skipped(unreadable)))
    left: list[tuple[OwnLog, Generation]] = []
    for log in ledger.all:
        one = log.generation
        if one is None or not one.is_open or any(map(one.outlives_crash_of, crashed)):
            continue
        if one.is_below(flow_run_id, of_deployments=of_deployments):
            left.append((log, one))
    if not left:
        return
    unwanted = {one.intent.call for _, one in left}
    work = [
        asyncio.create_task(_cancel_one(caller, flow_run_id, logger, log, one, unwanted))
        for log, one in left
    ]
    _, unfinished = await asyncio.wait(work, timeout=_SECONDS)
    if unfinished:
        count = len(unfinished)
        caller.tell(lambda: logger.error("%d predictions are still being canceled", count))


async def _cancel_one(
    caller: Caller,
    flow_run_id: UUID,
    logger: Any,
    log: OwnLog,
    known: Generation,
    unwanted: Collection[str],
) -> None:
    prediction_id = known.prediction_id
    try:
        connection = connection_to(log.address or await address_for(known))
        run = Run(connection, None, RunScope(flow_run_id), caller, logger)
        if prediction_id is None:  # its create was interrupted before the id was recorded
            found = await look_for_lost(run, Sought.by(known), looks=4, unwanted=unwanted)
            if found is None:
                return
            prediction_id = found.id
            await log.note(made=made(found))
            announce(run, found, "created", known.origin)
        elif log.address is None:  # written by another process, or by someone else
            await _check_soon(run, known, prediction_id)
    except ReplicateError as exc:
        message, reason = "Prediction %s of %s was not canceled: %s", str(exc)
        model = in_line(known.intent.model)
        caller.tell(lambda: logger.error(message, prediction_id, model, reason))
        return
    await stop(run, prediction_id)


async def _check_soon(run: Run, known: Generation, prediction_id: str) -> None:
    """Call `check_is_of` if Replicate replies soon: a cancel must not wait for that."""
    try:
        reading = get_prediction(run.connection, prediction_id)
        prediction = await asyncio.wait_for(reading, _CHECK_SECONDS)
    except (APIError, asyncio.TimeoutError):
        return
    check_is_of(known, prediction)


def check_is_of(known: Generation, prediction: Prediction) -> None:
    """Refuse to end a prediction that doesn't match the call whose fact names it.

    Raises:
        LedgerError: It has another model or another input.
    """
    if not prediction.is_terminal and not known.has_made(prediction):
        raise LedgerError(
            f"prediction {prediction.id} does not match the recorded call of"
            f" {in_line(known.intent.model)} and its input: it is left alone. See"
            f" {prediction.web_url}."
        )


def what_is_skipped(unreadable: Sequence[FlowRunInput]) -> str:
    """Return a line for the log about facts that can't be understood."""
    first = unreadable[0]
    facts = "1 record" if len(unreadable) == 1 else f"{len(unreadable)} records"
    return (
        f"{facts} can't be understood, so the predictions of the same calls are left alone. The"
        f" first is the input {first.key} of flow run {first.flow_run_id}."
    )


async def address_for(
    known: Generation, credentials: ReplicateCredentials | None = None
) -> Address:
    """Return the account that a prediction was made with.

    Args:
        known: Names the saved block, if there was one.
        credentials: The account if there was none; `None`: the environment's.

    Raises:
        LedgerError: The block could not be loaded.
        ConfigurationError: There is no token, or it belongs to another address.
    """
    if known.origin.credentials_block is not None:
        with as_ledger_error("load the credentials block that it was made with"):
            block = await ReplicateCredentials.aload_from_ref(known.origin.credentials_block)
        return block.address()
    address = (credentials or ReplicateCredentials()).address()
    if address.base_url != known.origin.base_url:
        # A fact is data that others may write: it must not decide where a token is sent.
        raise ConfigurationError(
            f"it was made at {known.origin.base_url}, but this process's token is for"
            f" {address.base_url}. Set REPLICATE_BASE_URL, or use a saved ReplicateCredentials"
            " block."
        )
    return address
