"""Starting a prediction exactly once for a call, whatever happens on the way."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from prefect_replicate.api.connection import LostReplyError, Permit
from prefect_replicate.api.input_files import (
    needs_upload,
    read_files,
    send_files,
    without_content,
)
from prefect_replicate.api.models import ResolvedModel, resolve_model
from prefect_replicate.api.predictions import post_prediction
from prefect_replicate.exceptions import ReplicateError, UncertainCreateError
from prefect_replicate.ledger.occurrences import claim_of
from prefect_replicate.ledger.record import (
    Claim,
    Record,
    call_digest,
    input_digest,
    record_key,
)
from prefect_replicate.ledger.scope import Ancestry, ancestry_of
from prefect_replicate.lifecycle.admission import Admission, admit
from prefect_replicate.lifecycle.adoption import Sought, look_for_lost, take, under_way
from prefect_replicate.lifecycle.cancellation import outlives_end_of_run, stop, stop_unless_kept
from prefect_replicate.lifecycle.intent import Intent
from prefect_replicate.lifecycle.resumption import Resumption, belongs_to, call_of
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.run_watch import (
    has_ended,
    look_for_end_elsewhere,
    refuse_if_ended,
    refuse_if_known_to_have_ended,
)
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
    keep_on_crash: bool = False
    regenerate_expired: bool = False
    place: str = ""
    """Where it stands among the equal items of a batch."""
    keep_for_parent: bool = False


@dataclass(frozen=True)
class _Create:
    """A request that is ready to be sent."""

    call: str
    model: ResolvedModel
    input: dict[str, Any]
    input_digest: dict[str, str]
    cancel_after: float
    intent: Intent | None
    """`None` outside of flow and task runs."""
    admission: Admission

    def sought(self, run: Run) -> Sought:
        """What to look for if its reply is lost; to be called before it is sent."""
        return Sought(
            call=self.call,
            base_url=run.connection.address.base_url,
            model=self.model.reference,
            input_digest=self.input_digest,
            since=run.connection.clock.now(),
        )

    def permit(self, run: Run) -> Permit:
        confirm = functools.partial(self.confirm, run)
        return Permit(self.admission.turn, run.caller.interrupted, confirm)

    async def confirm(self, run: Run) -> None:
        await look_for_end_elsewhere(run)
        refuse_if_known_to_have_ended(run)
        if self.intent is not None:
            await self.intent.confirm(self.input_digest)


async def create(run: Run, request: Request) -> Prediction:
    """Return the prediction of this call: the one it made before, or a new one.

    Interrupted in the middle, it learns the prediction's id first and then cancels it.

    Raises:
        InvalidInputError: Nothing was paid; the message says what to correct.
        LedgerError: Prefect's API could not be read or written, and nothing was paid.
        RunEndedError: Prefect has ended the flow run; nothing was paid.
        UncertainCreateError: Replies were lost, and no prediction of this call was found.
    """
    files = await read_files(request.input)
    model = await resolve_model(run.connection, request.model)
    await run.connection.learn_time()
    if run.scope.is_recorded:
        await refuse_if_ended(run)
    admission = await admit(run)
    work = asyncio.create_task(_create_once(run, request, model, files, admission))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        prediction = await work
        await stop_unless_kept(run, prediction.id)
        raise


async def _create_once(
    run: Run, request: Request, model: ResolvedModel, files: Any, admission: Admission
) -> Prediction:
    try:
        return await _resume_or_send(run, request, model, files, admission)
    finally:
        admission.give_back()


async def _resume_or_send(
    run: Run, request: Request, model: ResolvedModel, files: Any, admission: Admission
) -> Prediction:
    content = input_digest(without_content(files))
    call = call_digest(_account(run), request.model, content, request.place)
    intent = await _start(run, request, model, files, call) if run.scope.is_recorded else None
    if isinstance(intent, Prediction):
        return intent
    try:
        sent = await send_files(run.connection, files)
    except ReplicateError:
        await _void(intent)
        raise
    sent_digest = input_digest(sent, model.schema.secrets)
    ready = _Create(call, model, sent, sent_digest, request.cancel_after, intent, admission)
    return await _send_and_record(run, ready)


async def _start(
    run: Run, request: Request, model: ResolvedModel, files: Any, call: str
) -> Intent | Prediction:
    ancestry = await ancestry_of(run.scope)
    root = ancestry.root if ancestry else run.scope.own_id
    assert root is not None
    key = record_key(root, call)
    claim = call_of(request.replaces) or _claim(run, request, ancestry, key)
    record = Record(
        key=key,
        call=call,
        model=str(model.reference),
        input_digest=None if needs_upload(files) else input_digest(files, model.schema.secrets),
        intent_at=run.connection.clock.now(),
        cancel_after=request.cancel_after,
        base_url=run.connection.address.base_url,
        credentials_block=run.credentials_block,
        flow_runs=ancestry.flow_runs if ancestry else (),
        keep_on_crash=request.keep_on_crash,
        keep_for_parent=request.keep_for_parent,
    )
    return await Resumption(run, claim, request.regenerate_expired).start(record)


def _claim(run: Run, request: Request, ancestry: Ancestry | None, key: str) -> Claim:
    if request.keep_for_parent and ancestry is not None:
        # Whichever of the flow runs that take one another's place makes the call, it is the same.
        return Claim(str(ancestry.attempt), request.place)
    return claim_of(run.scope, ancestry, key)


def _account(run: Run) -> str:
    """Who pays, by what stays the same when a token is replaced: the block, or the environment."""
    address = run.connection.address
    if run.credentials_block is not None:
        return str(run.credentials_block)
    token = address.token.get_secret_value()
    if token == os.environ.get("REPLICATE_API_TOKEN", "").strip():
        return address.base_url
    return f"{address.base_url} {hashlib.sha256(token.encode()).hexdigest()}"


async def _send_and_record(run: Run, create: _Create) -> Prediction:
    try:
        prediction = await _send(run, create)
    finally:
        if create.intent is not None:
            create.intent.settle()
    if create.intent is not None:
        await create.intent.fulfil(prediction)
        belongs_to(prediction, create.intent.claim)
    run.say("Prediction %s of %s: %s", prediction.id, create.model.reference, prediction.web_url)
    # Its hook may have looked for predictions to cancel before this one was there.
    if has_ended(run) and not await outlives_end_of_run(run, prediction.id):
        await stop(run, prediction.id)
        refuse_if_known_to_have_ended(run)
    return prediction


async def _send(run: Run, create: _Create) -> Prediction:
    attempts = AsyncRetrying(
        retry=retry_if_exception_type(LostReplyError),
        stop=stop_after_attempt(_LOST_REPLIES),
        reraise=True,
    )
    try:
        is_recorded = create.intent is not None
        with under_way(run, create.sought(run), is_recorded=is_recorded) as sought:
            return await attempts(_send_or_adopt, run, create, sought)
    except LostReplyError as lost:
        raise UncertainCreateError(
            f"Creating a prediction of {create.model.reference} was tried {_LOST_REPLIES} times,"
            f" each reply was lost ({lost}), and no such prediction is listed. If one was made"
            f" after all, Replicate ends it within {create.cancel_after:.0f} s; a retry looks for"
            " it before it pays for another."
        ) from lost


async def _send_or_adopt(run: Run, create: _Create, sought: Sought) -> Prediction:
    try:
        return take(
            await post_prediction(
                run.connection,
                create.model,
                create.input,
                create.cancel_after,
                create.permit(run),
            )
        )
    except ReplicateError:
        await _void(create.intent)
        raise
    except LostReplyError as lost:
        if create.intent is not None:
            create.intent.doubt()
        run.say("A create's reply was lost (%s); looking for it", lost, level=logging.WARNING)
        found = await _look_for(run, create, sought, lost)
        if found is None:
            raise
        return found


async def _look_for(
    run: Run, create: _Create, sought: Sought, lost: LostReplyError
) -> Prediction | None:
    try:
        return await look_for_lost(run, sought, create.intent and create.intent.entry)
    except ReplicateError as exc:
        raise UncertainCreateError(
            f"A create of {create.model.reference} was sent, its reply was lost ({lost}), and it"
            f" can't be looked for: {exc} If a prediction was made, Replicate ends it within"
            f" {create.cancel_after:.0f} s; a retry looks for it before it pays for another."
        ) from exc


async def _void(intent: Intent | None) -> None:
    if intent is not None:
        await intent.void()
