"""Keeping the ledger true to what Replicate says."""

from __future__ import annotations

import logging
from datetime import datetime, timezone

from prefect_replicate.api.connection import Address
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.record import Record, digest, record_key
from prefect_replicate.ledger.scope import ancestry_of
from prefect_replicate.ledger.store import Entry, add_record, records_of_runs, update_record
from prefect_replicate.lifecycle.limits import UNWATCHED_SECONDS
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import Prediction


class _Entries(dict[str, Entry]):
    """By prediction id: those that this process has seen."""


def known_ids() -> set[str]:
    """The predictions that a record of this process owns."""
    return set(process_state("entries", _Entries))


def keeps_on_crash(prediction_id: str) -> bool:
    """Whether a crash of its run is to leave a prediction running, as far as this process knows."""
    entry = process_state("entries", _Entries).get(prediction_id)
    return entry is not None and entry.record.keep_on_crash


class _Addresses(dict[str, Address]):
    """By prediction id: the accounts that this process has used."""


def remember(run: Run, prediction_id: str, entry: Entry) -> None:
    process_state("entries", _Entries)[prediction_id] = entry
    process_state("addresses", _Addresses)[prediction_id] = run.connection.address


def address_of(prediction_id: str | None) -> Address | None:
    """As whom this process has made a prediction, if it was this process."""
    return process_state("addresses", _Addresses).get(prediction_id or "")


async def record_outcome(run: Run, prediction: Prediction) -> None:
    """Bring the prediction's record up to date, if it has one. Never raises.

    A record that is behind costs one look at Replicate later; a lost result would cost money.
    """
    try:
        entry = await _entry_of(run, prediction.id)
        if entry is None or entry.record.status == prediction.status:
            return
        remember(run, prediction.id, await update_record(entry, entry.record.showing(prediction)))
    except LedgerError as exc:
        run.say("%s", exc, level=logging.WARNING)


async def _entry_of(run: Run, prediction_id: str) -> Entry | None:
    entries = process_state("entries", _Entries)
    ancestry = await ancestry_of(run.scope) if prediction_id not in entries else None
    if ancestry is not None:
        for entry in await records_of_runs(ancestry.flow_runs):
            if entry.record.prediction_id:
                entries.setdefault(entry.record.prediction_id, entry)
    return entries.get(prediction_id)


async def record_interest(run: Run, prediction: Prediction) -> None:
    """Have a prediction that another run has started belong to this one too. Never raises.

    Its hooks then cancel it, and the sweep for orphans leaves it alone while this run goes on.
    """
    try:
        ancestry = await ancestry_of(run.scope)
        known = await _entry_of(run, prediction.id)
        if ancestry is None or (known and ancestry.flow_runs[0] in known.record.flow_runs):
            return
        record = Record(
            key=record_key(ancestry.root, "", prediction.id, ""),
            model=prediction.model or "unknown model",
            input_digest=digest(prediction.input),
            intent_at=prediction.created_at or datetime.now(timezone.utc),
            cancel_after=UNWATCHED_SECONDS,
            base_url=run.connection.address.base_url,
            credentials_block=run.credentials_block,
            flow_runs=ancestry.flow_runs,
            keep_on_crash=known is not None and known.record.keep_on_crash,
        )
        entry = await add_record(record.showing(prediction), run.scope)
        remember(run, prediction.id, entry)
    except LedgerError as exc:
        run.say("%s", exc, level=logging.WARNING)
