"""Starting a prediction exactly once for a call, whatever happens on the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from prefect_replicate.api.connection import LostReplyError
from prefect_replicate.api.input_files import read_files, send_files, without_content
from prefect_replicate.api.models import ResolvedModel, resolve_model
from prefect_replicate.api.predictions import get_prediction, post_prediction
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError, ReplicateError, UncertainCreateError
from prefect_replicate.ledger.occurrences import occurrence_of
from prefect_replicate.ledger.record import INTENT, VOID, Record, digest, record_key
from prefect_replicate.ledger.scope import root_of
from prefect_replicate.ledger.store import (
    Entry,
    add_record,
    records_with_key,
    update_record,
)
from prefect_replicate.lifecycle.adoption import look_for_lost, take
from prefect_replicate.lifecycle.bookkeeping import remember
from prefect_replicate.lifecycle.cancellation import stop
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import Prediction

_LOST_REPLIES = 3


@dataclass(frozen=True)
class Request:
    """What a user asks to be generated."""

    model: str
    input: Mapping[str, Any]
    cancel_after: float
    replaces: str | None = None
    """The failed prediction that this one is to make up for, which makes it the same call."""


@dataclass(frozen=True)
class _Create:
    """A request that is ready to be sent."""

    model: ResolvedModel
    input: dict[str, Any]
    record: Record


class _Keys(dict[str, str]):
    """Record keys by prediction id, for a new attempt at the same call."""


async def create(run: Run, request: Request) -> Prediction:
    """Return the prediction of this call: the one it made before, or a new one.

    Interrupted in the middle, it learns the new prediction's id first and then cancels it.

    Raises:
        InvalidInputError: Nothing was paid; the message says what to correct.
        LedgerError: Prefect's API could not be read or written, and nothing was paid.
        UncertainCreateError: Replies were lost, and no prediction of this call was found.
    """
    files = await read_files(request.input)
    model = await resolve_model(run.connection, request.model)
    key = await _key_of(run, request, digest(without_content(files)))
    earlier = await _resume(run, model, key) if key else None
    if earlier is not None:
        return earlier
    sent = await send_files(run.connection, files)
    record = Record(
        key=key or "",
        model=str(model.reference),
        input_digest=digest(sent),
        intent_at=datetime.now(timezone.utc),
        cancel_after=request.cancel_after,
        base_url=run.connection.address.base_url,
        credentials_block=run.credentials_block,
    )
    return await _uninterrupted(run, _Create(model, sent, record))


async def _key_of(run: Run, request: Request, input_digest: str) -> str | None:
    if not run.scope.is_recorded:
        return None
    keys = process_state("keys", _Keys)
    if request.replaces is not None and request.replaces in keys:
        return keys[request.replaces]
    root = await root_of(run.scope)
    assert root is not None
    call = digest([request.model, input_digest])
    return record_key(root, request.model, input_digest, occurrence_of(run.scope, call))


async def _resume(run: Run, model: ResolvedModel, key: str) -> Prediction | None:
    for entry in await records_with_key(key):
        prediction = await _prediction_of(run, model, entry)
        if prediction is None:
            continue
        process_state("keys", _Keys)[prediction.id] = key
        if prediction.is_succeeded or not prediction.is_terminal:
            run.say(
                "Continuing with prediction %s (%s), which this run started before: %s",
                prediction.id, prediction.status, prediction.web_url,
            )  # fmt: skip
            return prediction
    return None


async def _prediction_of(run: Run, model: ResolvedModel, entry: Entry) -> Prediction | None:
    record = entry.record
    if record.prediction_id is not None:
        remember(run, record.prediction_id, entry)
        return await get_prediction(run.connection, record.prediction_id)
    if record.status != INTENT:
        return None
    found = await look_for_lost(run, model.reference, record.input_digest, record.intent_at)
    if found is None:
        await update_record(entry, record.model_copy(update={"status": VOID}))
        return None
    run.say("Found prediction %s, whose id an earlier attempt could not record", found.id)
    await _record_id(run, entry, found)
    return found


async def _uninterrupted(run: Run, create: _Create) -> Prediction:
    """Send, and record the id, to the end, whatever becomes of the caller."""
    work = asyncio.create_task(_send_and_record(run, create))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        prediction = await work
        if not run.caller.keeps_predictions:
            await stop(run, prediction.id)
        raise


async def _send_and_record(run: Run, create: _Create) -> Prediction:
    entry = await add_record(create.record, run.scope) if run.scope.is_recorded else None
    attempts = AsyncRetrying(
        retry=retry_if_exception_type(LostReplyError),
        stop=stop_after_attempt(_LOST_REPLIES),
        reraise=True,
    )
    try:
        prediction: Prediction = await attempts(_send_or_adopt, run, create, entry)
    except LostReplyError as lost:
        raise UncertainCreateError(
            f"Creating a prediction of {create.record.model} was tried {_LOST_REPLIES} times, each"
            f" reply was lost ({lost}), and no such prediction is listed. If one was made after"
            f" all, Replicate ends it within {create.record.cancel_after:.0f} s."
        ) from lost
    if entry is not None:
        await _record_id(run, entry, prediction)
        process_state("keys", _Keys)[prediction.id] = create.record.key
    run.say("Prediction %s of %s: %s", prediction.id, create.record.model, prediction.web_url)
    return prediction


async def _send_or_adopt(run: Run, create: _Create, entry: Entry | None) -> Prediction:
    sent_at = datetime.now(timezone.utc)
    try:
        return take(
            await post_prediction(
                run.connection,
                create.model,
                create.input,
                create.record.cancel_after,
                run.caller.interrupted,
            )
        )
    except ReplicateError:
        await _void(run, entry)
        raise
    except LostReplyError as lost:
        run.say("A create's reply was lost (%s); looking for it", lost, level=logging.WARNING)
        found = await _look_for(run, create, sent_at, lost)
        if found is None:
            raise
        return found


async def _look_for(
    run: Run, create: _Create, sent_at: datetime, lost: LostReplyError
) -> Prediction | None:
    record = create.record
    try:
        return await look_for_lost(run, create.model.reference, record.input_digest, sent_at)
    except ReplicateError as exc:
        raise UncertainCreateError(
            f"A create of {record.model} was sent, its reply was lost ({lost}), and it can't be"
            f" looked for: {exc} If a prediction was made, Replicate ends it within"
            f" {record.cancel_after:.0f} s."
        ) from exc


async def _void(run: Run, entry: Entry | None) -> None:
    """Note that nothing was started, or a retry would search for it."""
    if entry is None:
        return
    try:
        await update_record(entry, entry.record.model_copy(update={"status": VOID}))
    except LedgerError as exc:
        run.say("%s", exc, level=logging.WARNING)


async def _record_id(run: Run, entry: Entry, prediction: Prediction) -> None:
    updated = entry._replace(record=entry.record.showing(prediction))
    remember(run, prediction.id, updated)
    try:
        await update_record(entry, updated.record)
    except LedgerError as exc:
        # The intent is recorded, so that a retry finds the prediction by its input.
        run.say("%s", exc, level=logging.WARNING)
