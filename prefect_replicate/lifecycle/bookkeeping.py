"""Keeping the ledger in step with Replicate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.events import Around, change_of, emit, materialization_of
from prefect_replicate.ledger.facts import (
    UNKNOWN_MODEL,
    Intent,
    Origin,
    digest,
    ended,
    input_digest,
    made,
)
from prefect_replicate.ledger.ledger import Ledger, ledger_of
from prefect_replicate.ledger.log import OwnLog
from prefect_replicate.ledger.scope import ancestry_of
from prefect_replicate.ledger.timings import expectation_for, note_timing
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import OutputFile, Prediction
from prefect_replicate.values.expectation import Expectation


async def expectation_of(run: Run, prediction: Prediction) -> Expectation | None:
    """Estimate how long a prediction may take, if others like it are known. Never raises."""
    return await expectation_for(prediction, run.connection.address.base_url, run.scope)


async def logs_of(ledger: Ledger, prediction_id: str) -> list[OwnLog]:
    """Return the logs that contain a prediction, including those that another process wrote."""
    if not ledger.of(prediction_id):
        await ledger.read()
    return ledger.of(prediction_id)


def announce(
    run: Run,
    prediction: Prediction,
    change: str,
    origin: Origin | None = None,
    expected: Expectation | None = None,
    age: float | None = None,
) -> None:
    """Emit the Prefect event of a prediction's change, if it belongs to a run. Never raises.

    Args:
        run: The run that notices the change.
        prediction: As it is now.
        change: As in the event's name.
        origin: Of the prediction's call, if the ledger has it.
        expected: How long it was expected to take.
        age: Seconds since its creation, if it has not ended.
    """
    around = Around.of(run.scope, origin)
    if around:
        base_url = run.connection.address.base_url
        emit(change_of(prediction, change, base_url, around, expected, age))


async def record_outcome(run: Run, prediction: Prediction) -> None:
    """Record how a prediction has ended, and announce it. Never raises.

    An outdated log costs one request to Replicate later; a lost result would cost money.
    """
    note_timing(run.connection.address.base_url, prediction)
    if not prediction.is_terminal:
        return
    try:
        logs = await logs_of(await ledger_of(run.scope), prediction.id)
        if not logs:
            announce(run, prediction, prediction.status)
        for log in logs:
            if log.generation is not None and log.generation.is_open:
                announce(run, prediction, prediction.status, log.generation.origin)
                await log.note(ended=ended(prediction))
    except LedgerError as exc:
        run.say("%s", exc, level=logging.WARNING)


async def record_stored(
    run: Run, prediction: Prediction, files: Sequence[OutputFile] = (), output: Any = None
) -> None:
    """Record where a prediction's files are, or its other output.

    New files are announced. Never raises.
    """
    origin, before = None, set[OutputFile]()
    try:
        for log in (await ledger_of(run.scope)).of(prediction.id):
            known = log.generation
            if known is not None:
                origin = known.origin
                before.update(known.stored)
                if (known.stored, known.output) != (tuple(files), output):
                    await log.note(stored=list(files), output=output)
    except LedgerError as exc:
        run.say("%s", exc, level=logging.WARNING)
    around = Around.of(run.scope, origin)
    for file in files if around else ():
        if file not in before:
            emit(materialization_of(file, prediction, around))


async def record_interest(run: Run, prediction: Prediction) -> None:
    """Record that this run wants a prediction that neither it nor a run around it started.

    This run's hooks then cancel it, and the sweep for orphans leaves it alone while this run is
    active, even if the run that started it has ended. Never raises.
    """
    try:
        ancestry = await ancestry_of(run.scope)
        if ancestry is None:
            return
        ledger = await ledger_of(run.scope)
        logs = await logs_of(ledger, prediction.id)
        known = [log.generation for log in logs if log.generation is not None]
        runs = {one.id for one in ancestry.flow_runs}
        if any(around[0].id in runs for one in known for around in one.awaited_by if around):
            return
        origin = Origin(
            flow_runs=ancestry.flow_runs,
            base_url=run.connection.address.base_url,
            credentials_block=run.credentials_block,
            keep_on_crash=any(one.origin.keep_on_crash for one in known),
            keep_for_parent=any(one.origin.keep_for_parent for one in known),
        )
        if logs:
            await logs[0].write(origin=origin, is_awaited=True)
            return
        await ledger.tag(ancestry)
        call = digest(prediction.id)[:16]
        log = ledger.log(call, 1)
        intent = Intent(
            call=call,
            model=prediction.model or UNKNOWN_MODEL,
            input_digest=input_digest(prediction.input),
            at=prediction.created_at or run.connection.clock.now(),
            cancel_after=0,
        )
        log.address = run.connection.address
        await log.write(origin=origin, intent=intent, made=made(prediction))
    except LedgerError as exc:
        run.say("%s", exc, level=logging.WARNING)
