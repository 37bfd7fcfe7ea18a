"""Ending the predictions that no flow run waits for any more.

Only what a record of ours names is ever canceled, or what the create of one must have made: all
other predictions of the account are left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from prefect_replicate.api.connection import connection_to
from prefect_replicate.api.predictions import get_prediction, list_predictions
from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.engine import Caller
from prefect_replicate.exceptions import LedgerError, ReplicateError
from prefect_replicate.flows.account import address_for
from prefect_replicate.ledger.flow_runs import FlowRunSeen, flow_runs_seen, time_there
from prefect_replicate.ledger.record import Record
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.ledger.store import (
    Entry,
    Found,
    records_since,
    update_record,
    void_record,
)
from prefect_replicate.lifecycle.adoption import (
    CLOCK_SLACK,
    HELD_UP,
    Sought,
    match,
    open_creates,
)
from prefect_replicate.lifecycle.bookkeeping import record_outcome, remember
from prefect_replicate.lifecycle.cancellation import cancel
from prefect_replicate.lifecycle.heartbeats import silent_runs
from prefect_replicate.lifecycle.orphans import Orphaned, Patience, orphaned
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import Orphan, Prediction
from prefect_replicate.values.moments import as_utc
from prefect_replicate.values.orphan import Outcome

AT_ONCE = 20
"""How many are looked at and canceled at the same time."""

_LOOK_BACK = timedelta(hours=25)
"""No prediction lives longer than a day: that is the longest deadline."""


class _View(NamedTuple):
    """The ledger at one moment."""

    orphans: list[Orphaned]
    runs: dict[UUID, FlowRunSeen]

    def has(self, one: Orphaned) -> bool:
        """Whether it is an orphan still, and all that was known of it is so still."""
        return any(one.entries == other.entries for other in self.orphans)

    def has_other_maker(self, found: Prediction, base_url: str, entries: Iterable[Entry]) -> bool:
        """Whether a create of a call that goes on may have made a prediction."""
        orphans = {entry.artifact_id for other in self.orphans for entry in other.entries}
        others = [one for one in open_creates(entries) if one.artifact_id not in orphans]
        return any(
            entry.record.base_url == base_url and Sought.by(entry).may_have_made(found)
            for entry in others
        )


@dataclass(frozen=True)
class _Case:
    """An orphan, and what Replicate says of it."""

    orphaned: Orphaned
    run: Run
    prediction: Prediction | None
    is_contested: bool = False
    """Whether the prediction may be that of another call, whose id is not recorded yet."""


@dataclass(frozen=True)
class Sweep:
    """What to do about orphans, and on whose behalf. Lives on the engine's loop."""

    caller: Caller
    scope: RunScope
    logger: Any
    credentials: ReplicateCredentials | None
    dry_run: bool
    grace: float
    silence: float
    _adopted: set[str] = field(default_factory=set[str])
    _strange: set[UUID] = field(default_factory=set[UUID])
    """Records that it has told of."""

    async def orphans(self) -> list[Orphan]:
        """Find the orphans, and end them unless it is a dry run.

        Raises:
            LedgerError: Prefect's API could not be read.
        """
        view, shown = await self._look(), list[Orphan]()
        found = view.orphans
        for start in range(0, len(found), AT_ONCE):
            batch = found[start : start + AT_ONCE]
            cases = await asyncio.gather(*(self._case_of(one, view) for one in batch))
            # Replicate may have taken long to answer, and somebody may be waiting again by now.
            view = await self._look()
            shown += await asyncio.gather(
                *(self._handled(*case, view) for case in zip(batch, cases, strict=True))
            )
        return shown

    async def _look(self) -> _View:
        now = await time_there(self.scope.flow_run_id)
        patience = Patience(now, self.grace, self.silence)
        found = await records_since(now - _LOOK_BACK)
        self._tell_of_strange(found)
        entries = [one for one in found.entries if one.record.is_open]
        runs = await flow_runs_seen({run for one in entries for run in one.record.flow_runs})
        runs |= await self._silent(runs, patience)
        strange = found.strange_ids  # somebody may wait for those
        orphans = orphaned(entries, runs, patience)
        return _View([one for one in orphans if one.record.prediction_id not in strange], runs)

    def _tell_of_strange(self, found: Found) -> None:
        new = {one.id for one in found.unreadable} - self._strange
        if new:
            self._strange.update(new)
            message = found.what_is_skipped
            self.caller.tell(lambda: self.logger.warning("%s", message))

    async def _silent(
        self, runs: dict[UUID, FlowRunSeen], patience: Patience
    ) -> dict[UUID, FlowRunSeen]:
        try:
            return await silent_runs(runs, patience)
        except LedgerError as exc:
            message, reason = "Flow runs that may be dead are left alone: %s", str(exc)
            self.caller.tell(lambda: self.logger.warning(message, reason))
            return {}

    async def _case_of(self, one: Orphaned, view: _View) -> _Case | ReplicateError:
        record = one.record
        try:
            connection = connection_to(await address_for(record, self.credentials))
            run = Run(connection, record.credentials_block, self.scope, self.caller, self.logger)
            if record.prediction_id is not None:
                return _Case(one, run, await get_prediction(connection, record.prediction_id))
            return await self._look_for_lost(one, run, view)
        except ReplicateError as exc:
            return exc

    async def _look_for_lost(self, one: Orphaned, run: Run, view: _View) -> _Case:
        """Find the prediction of a create that was interrupted before its id was recorded."""
        [entry] = one.entries
        if entry.record.input_digest is None:
            return _Case(one, run, None)  # its files were still being sent
        sought = Sought.by(entry)
        since = sought.since - CLOCK_SLACK
        everyones = [each async for each in list_predictions(run.connection, since)]
        listed = [each for each in everyones if sought.is_in_time(each)]
        # Read after the listing: whatever is listed was announced in the ledger before it was made.
        recorded = await records_since(entry.created - HELD_UP)
        found = match(listed, sought, self._adopted | recorded.ids)
        if found is not None:
            self._adopted.add(found.id)
        is_contested = found is not None and view.has_other_maker(
            found, sought.base_url, recorded.entries
        )
        return _Case(one, run, found, is_contested)

    async def _handled(self, one: Orphaned, case: _Case | ReplicateError, view: _View) -> Orphan:
        try:
            if isinstance(case, ReplicateError):
                raise case
            outcome, prediction = await self._outcome(case, view)
            return _shown(one, view, outcome, prediction, case.run.connection.clock.now())
        except ReplicateError as exc:
            return _shown(one, view, "failed", error=str(exc))

    async def _outcome(self, case: _Case, view: _View) -> tuple[Outcome, Prediction | None]:
        entries, prediction = case.orphaned.entries, case.prediction
        if case.is_contested or not view.has(case.orphaned):
            return "left", prediction
        if prediction is None:
            if not self.dry_run:
                await void_record(*entries)
            return "void", None
        if not prediction.is_terminal:
            return await self._end(case, prediction)
        if not self.dry_run:
            for entry in entries:
                remember(case.run, prediction.id, entry)
            await record_outcome(case.run, prediction)
        return "ended", prediction

    async def _end(self, case: _Case, prediction: Prediction) -> tuple[Outcome, Prediction]:
        if self.dry_run:
            return "found", prediction
        for entry in case.orphaned.entries:
            if entry.record.prediction_id is None:
                entry = await update_record(entry, entry.record.showing(prediction))
            remember(case.run, prediction.id, entry)
        ended = await cancel(case.run, prediction.id, is_known=True)
        return ("ended" if ended.is_succeeded else "canceled"), ended


def _shown(
    one: Orphaned,
    view: _View,
    outcome: Outcome,
    prediction: Prediction | None = None,
    now: datetime | None = None,
    error: str | None = None,
) -> Orphan:
    record, flow_run_id = one.record, one.record.flow_runs[0]
    saves = outcome in ("canceled", "found")
    return Orphan(
        prediction_id=prediction.id if prediction else record.prediction_id,
        web_url=prediction.web_url if prediction else record.web_url,
        model=record.model,
        flow_run_id=flow_run_id,
        flow_run_name=view.runs[flow_run_id].name if flow_run_id in view.runs else None,
        why=one.why,
        outcome=outcome,
        error=error,
        seconds_run=_seconds_run(prediction, now) if prediction and now else None,
        seconds_saved=_seconds_left(prediction, record, now) if prediction and now and saves else 0,
    )


def _seconds_run(prediction: Prediction, now: datetime) -> float | None:
    if prediction.is_terminal or prediction.started_at is None:
        return prediction.predict_time
    return (now - as_utc(prediction.started_at)).total_seconds()


def _seconds_left(prediction: Prediction, record: Record, now: datetime) -> float:
    """Until the deadline that would have ended it."""
    created = prediction.created_at or record.intent_at
    deadline = prediction.deadline or created + timedelta(seconds=record.cancel_after)
    return max(0.0, (as_utc(deadline) - now).total_seconds())
