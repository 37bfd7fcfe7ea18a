"""Canceling orphaned predictions.

A prediction is canceled only if a fact of ours names it, or if a create that a fact records must
have made it: all other predictions of the account are left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, FlowRunInput

from prefect_replicate.api.connection import connection_to
from prefect_replicate.api.predictions import get_prediction, list_predictions
from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.cleanup.hook import address_for, check_is_of, what_is_skipped
from prefect_replicate.cleanup.orphans import (
    Orphaned,
    Thresholds,
    open_in_running_runs,
    orphaned,
    silent_runs,
)
from prefect_replicate.engine import Caller
from prefect_replicate.exceptions import LedgerError, ReplicateError
from prefect_replicate.ledger.facts import Intent, ended, made
from prefect_replicate.ledger.flow_runs import OPEN_TAG, FlowRunSeen, flow_runs_seen, set_tags
from prefect_replicate.ledger.ledger import Ledger, ledgers_since
from prefect_replicate.ledger.log import OwnLog, named_in
from prefect_replicate.ledger.prefect_api import request, server_clock
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.lifecycle.adoption import CLOCK_SLACK, Sought, match, recorded_since
from prefect_replicate.lifecycle.bookkeeping import announce
from prefect_replicate.lifecycle.cancellation import end
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import Orphan, Prediction
from prefect_replicate.values.orphan import Outcome

AT_ONCE = 20
"""How many are checked and canceled at the same time."""

_LOOK_BACK = timedelta(hours=25)
"""No prediction lives longer than a day: that is the longest deadline."""


class Swept(NamedTuple):
    """What a sweep has found."""

    orphans: list[Orphan]
    running: int
    """How many predictions it left alone because a flow run that waits for them is running."""
    silence: float
    """Seconds without a heartbeat after which such a run counts as dead."""


class _View(NamedTuple):
    """The ledgers of many flow runs at one moment."""

    orphans: list[Orphaned]
    logs: list[OwnLog]
    runs: dict[UUID, FlowRunSeen]
    closed: list[FlowRun]
    """Those in which nothing is open."""
    running: int
    """How many predictions are open in flow runs that are running."""

    def has(self, one: Orphaned) -> bool:
        """Whether it is still an orphan, and its facts are unchanged."""
        known = [(_key(log), log.generation) for log in one.logs]
        return any(
            known == [(_key(log), log.generation) for log in other.logs] for other in self.orphans
        )

    def has_other_maker(self, found: Prediction, sought: Sought) -> bool:
        """Whether a create of a call that is still running may have made a prediction."""
        orphans = {_key(log) for other in self.orphans for log in other.logs}
        return any(
            log.generation.origin.base_url == sought.base_url
            and Sought.by(log.generation).may_have_made(found)
            for log in self.logs
            if log.generation and log.generation.is_unknown and _key(log) not in orphans
        )


def _key(log: OwnLog) -> tuple[UUID | None, str, int]:
    return log.ledger.root, log.name, log.next


@dataclass(frozen=True)
class _Case:
    """An orphan, and what Replicate says about it."""

    orphaned: Orphaned
    run: Run
    prediction: Prediction | None
    is_contested: bool = False
    """Whether the prediction may belong to another call, which has not recorded its id yet."""


@dataclass(frozen=True)
class Sweep:
    """One sweep: what to do about orphans, and for which run. Lives on the engine's event loop."""

    caller: Caller
    scope: RunScope
    logger: Any
    credentials: ReplicateCredentials | None
    dry_run: bool
    grace: float
    silence: float
    _adopted: set[str] = field(default_factory=set[str])
    _skipped: set[UUID] = field(default_factory=set[UUID])
    """Facts that it has already reported."""

    async def orphans(self) -> Swept:
        """Find the orphans, and end them unless it is a dry run.

        Raises:
            LedgerError: Prefect's API could not be read.
        """
        view, shown = await self._look(), list[Orphan]()
        found = view.orphans
        for start in range(0, len(found), AT_ONCE):
            batch = found[start : start + AT_ONCE]
            cases = await asyncio.gather(*(self._case_of(one, view) for one in batch))
            # Replicate may have taken long to answer, and a run may be waiting again by now.
            view = await self._look()
            shown += await asyncio.gather(
                *(self._handled(*case, view) for case in zip(batch, cases, strict=True))
            )
        if not self.dry_run:
            await self._take_off_the_list(view.closed)
        return Swept(shown, view.running, self.silence)

    async def _take_off_the_list(self, closed: Iterable[FlowRun]) -> None:
        """Exclude finished runs from later sweeps; one that can't be excluded is read again."""
        for one in await asyncio.gather(*map(_untag, closed), return_exceptions=True):
            if isinstance(one, LedgerError):
                message = str(one)
                self.caller.tell(lambda message=message: self.logger.warning("%s", message))
            elif one is not None:
                raise one

    async def _look(self) -> _View:
        now = await self._now()
        thresholds = Thresholds(now, self.grace, self.silence)
        ledgers = await ledgers_since(now - _LOOK_BACK, OPEN_TAG)
        logs = [log for _, ledger in ledgers for log in ledger.all]
        unreadable = [one for _, ledger in ledgers for one in ledger.unreadable]
        self._tell_of(unreadable)
        named = [
            one.id
            for log in logs
            if log.generation is not None and log.generation.is_open
            for around in log.generation.awaited_by
            for one in around
        ]
        runs = await flow_runs_seen(set(named))
        runs |= await self._silent(runs, thresholds)
        strange = named_in(unreadable)  # a flow run may wait for them
        orphans = [
            one
            for one in orphaned(logs, runs, thresholds)
            if one.generation.prediction_id not in strange
            and not any(log.row.unreadable for log in one.logs)
        ]
        closed = [run for run, ledger in ledgers if _is_closed(run, ledger, thresholds)]
        return _View(orphans, logs, runs, closed, open_in_running_runs(logs, runs, orphans))

    async def _now(self) -> datetime:
        """Return the latest possible time at Prefect's server: replies state it 1 to 2 s late."""
        clock = await server_clock()
        if not clock.is_known:
            await request("be reached", "GET", "/health")
        return clock.now() + timedelta(seconds=2)

    def _tell_of(self, unreadable: Iterable[FlowRunInput]) -> None:
        new = [one for one in unreadable if one.id not in self._skipped]
        if new:
            self._skipped.update([one.id for one in new])
            message = what_is_skipped(new)
            self.caller.tell(lambda: self.logger.warning("%s", message))

    async def _silent(
        self, runs: dict[UUID, FlowRunSeen], thresholds: Thresholds
    ) -> dict[UUID, FlowRunSeen]:
        try:
            return await silent_runs(runs, thresholds)
        except LedgerError as exc:
            message, reason = "This sweep treats no running flow run as dead: %s", str(exc)
            self.caller.tell(lambda: self.logger.warning(message, reason))
            return {}

    async def _case_of(self, one: Orphaned, view: _View) -> _Case | ReplicateError:
        known = one.generation
        try:
            connection = connection_to(await address_for(known, self.credentials))
            block = known.origin.credentials_block
            run = Run(connection, block, self.scope, self.caller, self.logger)
            if known.prediction_id is not None:
                prediction = await get_prediction(connection, known.prediction_id)
                check_is_of(known, prediction)
                return _Case(one, run, prediction)
            return await self._look_for_lost(one, run, view)
        except ReplicateError as exc:
            return exc

    async def _look_for_lost(self, one: Orphaned, run: Run, view: _View) -> _Case:
        """Find the prediction of a create that was interrupted before its id was recorded."""
        sought = Sought.by(one.generation)
        since = sought.intent.at - CLOCK_SLACK
        everyones = [each async for each in list_predictions(run.connection, since)]
        listed = [each for each in everyones if sought.is_in_time(each)]
        # Read after the listing: whatever is listed was announced in the ledger before it was made.
        recorded = await recorded_since(sought.announced_at)
        found = match(listed, sought, self._adopted | recorded.ids)
        if found is None:
            return _Case(one, run, None)
        self._adopted.add(found.id)
        return _Case(one, run, found, view.has_other_maker(found, sought))

    async def _handled(self, one: Orphaned, case: _Case | ReplicateError, view: _View) -> Orphan:
        try:
            if isinstance(case, ReplicateError):
                raise case
            outcome, prediction = await self._outcome(case, view)
            return _shown(one, view, outcome, prediction, case.run.connection.clock.now())
        except ReplicateError as exc:
            return _shown(one, view, "failed", error=str(exc))

    async def _outcome(self, case: _Case, view: _View) -> tuple[Outcome, Prediction | None]:
        logs, prediction = case.orphaned.logs, case.prediction
        if case.is_contested or not view.has(case.orphaned):
            return "left", prediction
        if self.dry_run:
            if prediction is None:
                return "void", None
            return ("ended" if prediction.is_terminal else "found"), prediction
        if prediction is None:
            await logs[0].note(is_void=True)
            return "void", None
        origin = case.orphaned.generation.origin
        if case.orphaned.generation.prediction_id is None:
            await logs[0].note(made=made(prediction))
            announce(case.run, prediction, "created", origin)
        outcome: Outcome = "ended"
        if not prediction.is_terminal:
            prediction = await end(case.run, prediction.id, is_known=True)
            outcome = "ended" if prediction.is_succeeded else "canceled"
        announce(case.run, prediction, prediction.status, origin)
        for log in logs:
            await log.note(ended=ended(prediction))
        return outcome, prediction


def _is_closed(run: FlowRun, ledger: Ledger, thresholds: Thresholds) -> bool:
    """Whether a flow run has ended, and nothing in it is left to handle."""
    state = run.state
    if (
        state is None
        or not state.is_final()
        or thresholds.since(state.timestamp) <= thresholds.grace
    ):
        return False
    return not any(log.generation and log.generation.is_open for log in ledger.all)


async def _untag(run: FlowRun) -> None:
    """Remove a flow run from the list that sweeps read; a retry puts it back."""
    await set_tags(run.id, {*run.tags} - {OPEN_TAG})
    now = (await flow_runs_seen([run.id])).get(run.id)
    if now is not None and run.state is not None and now.state is not run.state.type:
        await set_tags(run.id, run.tags)


def _shown(
    one: Orphaned,
    view: _View,
    outcome: Outcome,
    prediction: Prediction | None = None,
    now: datetime | None = None,
    error: str | None = None,
) -> Orphan:
    known = one.generation
    flow_run_id = known.origin.flow_runs[0].id
    saves = outcome in ("canceled", "found")
    return Orphan(
        prediction_id=prediction.id if prediction else known.prediction_id,
        web_url=prediction.web_url if prediction else known.web_url,
        model=known.intent.model,
        flow_run_id=flow_run_id,
        flow_run_name=view.runs[flow_run_id].name if flow_run_id in view.runs else None,
        why=one.why,
        outcome=outcome,
        error=error,
        seconds_run=_seconds_run(prediction, now) if prediction and now else None,
        seconds_saved=_seconds_left(prediction, known.intent, now)
        if prediction and now and saves
        else 0,
    )


def _seconds_run(prediction: Prediction, now: datetime) -> float | None:
    if prediction.is_terminal or prediction.started_at is None:
        return prediction.predict_time
    return (now - prediction.started_at).total_seconds()


def _seconds_left(prediction: Prediction, intent: Intent, now: datetime) -> float:
    """Return the seconds until the deadline that would have ended it."""
    created = prediction.created_at or intent.at
    deadline = prediction.deadline or created + timedelta(seconds=intent.cancel_after)
    return max(0.0, (deadline - now).total_seconds())
