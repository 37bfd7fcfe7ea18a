"""The intent to make a paid call, from its writing to what became of it."""

from __future__ import annotations

import logging
import time
from uuid import UUID

from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.record import INTENT, Claim
from prefect_replicate.ledger.store import Entry, read_record, update_record, void_record
from prefect_replicate.lifecycle.bookkeeping import remember
from prefect_replicate.lifecycle.claiming import SEND_SECONDS
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import Prediction


class _Settled(set[UUID]):
    """Intents of this process whose create is not under way any more."""


def is_settled(entry: Entry) -> bool:
    """Whether this process knows that nothing more is sent for an intent."""
    return entry.artifact_id in process_state("settled", _Settled)


class Intent:
    """A record without a prediction, whose create this process is about to send.

    Others wait for what becomes of it, but not for ever.
    """

    def __init__(self, run: Run, entry: Entry, claim: Claim, written_at: float) -> None:
        self._run = run
        self.entry = entry
        self._written_at = written_at
        self._may_be_void = True
        self.claim = claim

    async def confirm(self, input_digest: dict[str, str]) -> None:
        """Make sure, right before a create is sent, that the call is still this process's.

        Raises:
            LedgerError: Another process has taken it over, or the ledger can't be reached.
        """
        digest_known = self.entry.record.input_digest == input_digest
        if digest_known and time.monotonic() - self._written_at < SEND_SECONDS:
            return
        self._written_at = time.monotonic()
        now = await read_record(self.entry)
        if now is None or now.record.status != INTENT or now.record.prediction_id is not None:
            self._may_be_void = False
            raise LedgerError(
                f"The create of {self.entry.record.model} was not sent: while it was held up,"
                " another process has taken this call of the flow run over."
            )
        record = now.record.model_copy(update={"input_digest": input_digest})
        self.entry = await update_record(now, record)

    async def fulfil(self, prediction: Prediction) -> None:
        """Record the prediction that was made."""
        await record_id(self._run, self.entry, prediction)

    async def void(self) -> None:
        """Record that none was made, or a retry would look for it."""
        if not self._may_be_void:
            return
        try:
            await void_record(self.entry)
        except LedgerError as exc:
            self._run.say("%s", exc, level=logging.WARNING)

    def doubt(self) -> None:
        """A reply was lost: whatever comes of further attempts, a retry is to look first."""
        self._may_be_void = False

    def settle(self) -> None:
        """Let a retry in this process know that nothing is on its way any more."""
        process_state("settled", _Settled).add(self.entry.artifact_id)


async def record_id(run: Run, entry: Entry, prediction: Prediction) -> None:
    """Complete a record with its prediction. Never raises."""
    updated = entry._replace(record=entry.record.showing(prediction))
    remember(run, prediction.id, updated)
    try:
        await update_record(entry, updated.record)
    except LedgerError as exc:
        # The intent is recorded, so that a retry finds the prediction by its input.
        run.say("%s", exc, level=logging.WARNING)
