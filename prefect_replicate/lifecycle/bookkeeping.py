"""Keeping the ledger true to what Replicate says."""

from __future__ import annotations

import logging
from uuid import UUID

from prefect_replicate.api.connection import Address
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.history import expectation_for, note_timing
from prefect_replicate.ledger.record import Record, input_digest, record_key
from prefect_replicate.ledger.scope import ancestry_of
from prefect_replicate.ledger.store import Entry, add_record, records_of_runs, update_record
from prefect_replicate.lifecycle.limits import UNWATCHED_SECONDS
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import Prediction
from prefect_replicate.values.expectation import Expectation


class _Entries(dict[str, dict[UUID, Entry]]):
    """By prediction id and artifact: those that this process has seen.

    A prediction has one of the run that has started it, and one of each other that waits for it.
    """


def known_ids() -> set[str]:
    """The predictions that a record of this process owns."""
    return set(process_state("entries", _Entries))


def id_made_for(entry: Entry) -> str | None:
    """The prediction of a record, if this process made it and may not have written that yet."""
    known = process_state("entries", _Entries).items()
    return next((made for made, entries in known if entry.artifact_id in entries), None)


def keeps_on_crash(prediction_id: str) -> bool:
    """Whether a crash of its run is to leave a prediction running, as far as this process knows."""
    return any(entry.record.keep_on_crash for entry in _known(prediction_id))


def is_kept_for_parent(prediction_id: str) -> bool:
    """Whether the run around its own has another one go on with a prediction, when that crashes."""
    return any(entry.record.keep_for_parent for entry in _known(prediction_id))


def _known(prediction_id: str) -> list[Entry]:
    return list(process_state("entries", _Entries).get(prediction_id, {}).values())


class _Addresses(dict[str, Address]):
    """By prediction id: the accounts that this process has used."""


def remember(run: Run, prediction_id: str, entry: Entry) -> None:
    entries = process_state("entries", _Entries)
    entries.setdefault(prediction_id, {})[entry.artifact_id] = entry
    process_state("addresses", _Addresses)[prediction_id] = run.connection.address


def address_of(prediction_id: str | None) -> Address | None:
    """As whom this process has made a prediction, if it was this process."""
    return process_state("addresses", _Addresses).get(prediction_id or "")


async def expectation_of(run: Run, prediction: Prediction) -> Expectation | None:
    """How long a prediction may take, if enough is known of others like it. Never raises."""
    return await expectation_for(prediction, run.connection.address.base_url, run.scope)


async def record_outcome(run: Run, prediction: Prediction) -> None:
    """Bring the prediction's records up to date. Never raises.

    A record that is behind costs one look at Replicate later; a lost result would cost money.
    """
    note_timing(run.connection.address.base_url, prediction)
    try:
        for entry in await _entries_of(run, prediction.id):
            if entry.record.status != prediction.status:
                entry = await update_record(entry, entry.record.showing(prediction))
                remember(run, prediction.id, entry)
    except LedgerError as exc:
        run.say("%s", exc, level=logging.WARNING)


async def _entries_of(run: Run, prediction_id: str) -> list[Entry]:
    ancestry = None if _known(prediction_id) else await ancestry_of(run.scope)
    for entry in (await records_of_runs(ancestry.flow_runs)).entries if ancestry else ():
        if entry.record.prediction_id == prediction_id:
            remember(run, prediction_id, entry)
    return _known(prediction_id)


async def record_interest(run: Run, prediction: Prediction) -> None:
    """Have a prediction belong to this run too, if it was not started by it or by one around it.

    Its hooks then cancel it, and the sweep for orphans leaves it alone while this run goes on,
    although the one that has started it may have ended. Never raises.
    """
    try:
        ancestry = await ancestry_of(run.scope)
        if ancestry is None:
            return
        known = [entry.record for entry in await _entries_of(run, prediction.id)]
        if any(record.is_of_one_of(ancestry.flow_runs) for record in known):
            return
        record = Record(
            key=record_key(ancestry.root, prediction.id),
            call=prediction.id,
            model=prediction.model or "unknown model",
            input_digest=input_digest(prediction.input),
            intent_at=prediction.created_at or run.connection.clock.now(),
            cancel_after=UNWATCHED_SECONDS,
            base_url=run.connection.address.base_url,
            credentials_block=run.credentials_block,
            flow_runs=ancestry.flow_runs,
            keep_on_crash=any(record.keep_on_crash for record in known),
            keep_for_parent=any(record.keep_for_parent for record in known),
        )
        entry = await add_record(record.showing(prediction), run.scope)
        remember(run, prediction.id, entry)
    except LedgerError as exc:
        run.say("%s", exc, level=logging.WARNING)
