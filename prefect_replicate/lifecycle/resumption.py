"""Going on with what a call has started before: in an earlier attempt, or in another process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from uuid import UUID

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random

from prefect_replicate.api.predictions import get_prediction
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError, ReplicateError
from prefect_replicate.ledger.record import INTENT, Claim, Record
from prefect_replicate.ledger.store import (
    Entry,
    add_record,
    delete_record,
    read_record,
    records_with_key,
    update_record,
    void_record,
)
from prefect_replicate.lifecycle.adoption import LOOKS, look_for_recorded
from prefect_replicate.lifecycle.bookkeeping import id_made_for, record_outcome, remember
from prefect_replicate.lifecycle.claiming import (
    ABANDONED_SECONDS,
    SEND_SECONDS,
    earlier_of,
    is_fresh,
    seconds_between,
)
from prefect_replicate.lifecycle.intent import Intent, is_settled, record_id
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import Prediction

PAUSE = 1.0
"""Seconds between two looks at another process's intent."""


class _Withdrawn(Exception):
    """Another process was at this call; it has come to an end, or has withdrawn too."""


class _Calls(dict[str, Claim]):
    """By prediction id: whose it is, for a new attempt at the same call."""


class _Claims(dict[tuple[UUID, str], str]):
    """By record and attempt: the call of this process that has it, or is about to."""


def call_of(prediction_id: str | None) -> Claim | None:
    """The call of this process that a prediction belongs to."""
    return process_state("calls", _Calls).get(prediction_id or "")


def belongs_to(prediction: Prediction, claim: Claim) -> None:
    process_state("calls", _Calls)[prediction.id] = claim


@dataclass(frozen=True)
class Resumption:
    """A call that may have been made before."""

    run: Run
    claim: Claim
    regenerate_expired: bool
    """Whether a result that Replicate has deleted is to be paid for again."""

    async def start(self, record: Record) -> Intent | Prediction:
        """Write the intent, and return it, or the prediction of this call that there is already.

        Raises:
            LedgerError: Prefect's API could not be read or written.
        """
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_Withdrawn), wait=wait_random(0.1, 1.0)
        )
        return await attempts(self._start, record.claimed_by(self.claim))

    async def _start(self, record: Record) -> Intent | Prediction:
        written_at = time.monotonic()
        own = await add_record(record, self.run.scope)
        try:
            prediction = await self._earlier(own)
        except (ReplicateError, _Withdrawn):
            await delete_record(own)
            raise
        if prediction is None:
            return Intent(self.run, own, self.claim, written_at)
        await delete_record(own)
        return prediction

    async def _earlier(self, own: Entry) -> Prediction | None:
        passed: set[UUID] = set()
        key = own.record.key
        while entry := earlier_of(own, await records_with_key(key), self.claim, passed):
            if is_fresh(entry, own) and not is_settled(entry):
                await delete_record(own)  # the other may be about to withdraw for its sake
                await self._await_end_of(entry, seconds_between(entry, own))
                raise _Withdrawn
            claimed = await self._claimed(entry)
            if claimed is None:
                continue
            prediction = await self._take(claimed)
            if prediction is not None:
                return prediction
            passed.add(entry.artifact_id)
        return None

    async def _await_end_of(self, entry: Entry, age: float) -> None:
        self.run.say("Another process of this run is starting this; waiting for it")
        written_at = time.monotonic() - age
        while (age := time.monotonic() - written_at) < ABANDONED_SECONDS:
            await self._pause()
            now = await read_record(entry)
            if now is None or now.record.status != INTENT:
                return
            if now.updated > entry.updated:
                entry, written_at = now, time.monotonic()
            elif age > SEND_SECONDS and await self._adopt(entry, looks=1):
                return

    async def _pause(self) -> None:
        interrupted = self.run.caller.interrupted
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(interrupted.wait(), PAUSE)
            raise ReplicateError("Nothing was started: nobody waits for it any more.")

    async def _claimed(self, entry: Entry) -> Entry | None:
        """The record as this call's, or `None` where another of this process was faster.

        Their intents were not read in the order in which they were written, and of two claims that
        are written the later would replace the earlier.
        """
        claims = process_state("claims", _Claims)
        slot = entry.artifact_id, self.claim.attempt
        if claims.setdefault(slot, self.claim.call) != self.claim.call:
            return None
        record = entry.record.claimed_by(self.claim)
        if record == entry.record:
            return entry
        try:
            return await update_record(entry, record)
        except LedgerError:
            del claims[slot]
            raise

    async def _take(self, entry: Entry) -> Prediction | None:
        """Return a record's prediction if that is of use."""
        prediction = await self._prediction_of(entry)
        if prediction is None:
            return None
        belongs_to(prediction, self.claim)
        if not self._is_useful(prediction):
            await record_outcome(self.run, prediction)
            return None
        self.run.say(
            "Continuing with prediction %s (%s), which this run started before: %s",
            prediction.id, prediction.status, prediction.web_url,
        )  # fmt: skip
        return prediction

    async def _prediction_of(self, entry: Entry) -> Prediction | None:
        prediction_id = entry.record.prediction_id or id_made_for(entry)
        if prediction_id is not None:
            remember(self.run, prediction_id, entry)
            return await get_prediction(self.run.connection, prediction_id)
        found = await self._adopt(entry)
        if found is None:
            await void_record(entry)
        return found

    async def _adopt(self, entry: Entry, looks: int = LOOKS) -> Prediction | None:
        found = await look_for_recorded(self.run, entry, looks)
        if found is not None:
            self.run.say(
                "Found prediction %s, whose id an earlier attempt did not record", found.id
            )
            await record_id(self.run, entry, found)
        return found

    def _is_useful(self, prediction: Prediction) -> bool:
        """Whether a retry has more of it than of a new one, which is paid."""
        if prediction.is_succeeded:
            return not (prediction.data_removed and self.regenerate_expired)
        if prediction.status == "failed":
            return not prediction.is_transient_failure  # it would fail again, and be paid again
        return not prediction.is_terminal
