"""Which predictions are orphaned, and which flow runs are dead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from prefect.client.schemas.objects import StateType

from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.facts import Generation
from prefect_replicate.ledger.flow_runs import (
    CANCELED,
    FlowRunSeen,
    last_heartbeats,
    was_listening,
)
from prefect_replicate.ledger.log import OwnLog
from prefect_replicate.lifecycle.creation import ABANDONED_SECONDS

SILENT_HEARTBEATS = 3
"""A running flow run that has missed this many counts as dead."""

_LOOK_BACK = timedelta(hours=25)
_COMING_BACK = {StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED}
_ENDED = {
    StateType.FAILED: "failed",
    StateType.CRASHED: "crashed",
    StateType.CANCELLED: "was canceled",
    StateType.CANCELLING: "was asked to cancel",
}


@dataclass(frozen=True)
class Thresholds:
    """The current time, and how long a state may have lasted, in seconds."""

    now: datetime
    grace: float
    """For a flow run that has ended: its hooks may still be running."""
    silence: float
    """For a running flow run without a heartbeat."""

    def since(self, moment: datetime) -> float:
        return (self.now - moment).total_seconds()

    def is_silent(self, run: FlowRunSeen) -> bool:
        """Whether a flow run has stopped sending heartbeats."""
        sign = last_sign(run)
        return sign is not None and self.since(sign) > self.silence


def last_sign(run: FlowRunSeen) -> datetime | None:
    """Return when a flow run in a running state was last alive; `None` if that is unknown."""
    if run.state is not StateType.RUNNING or run.last_heartbeat is None:
        return None
    # A run that was suspended, or waited for a retry, sent no heartbeat in all that time.
    return max(run.last_heartbeat, run.since)


class Orphaned(NamedTuple):
    """An orphaned prediction, or a create that may have made one."""

    logs: tuple[OwnLog, ...]
    """All logs in which it is open."""
    generation: Generation
    """As recorded by the call that started it."""
    why: str


def orphaned(
    logs: Iterable[OwnLog], runs: Mapping[UUID, FlowRunSeen], thresholds: Thresholds
) -> list[Orphaned]:
    """Choose the predictions that are orphaned according to every log that has them open.

    Args:
        logs: Logs of any flow runs.
        runs: The flow runs that are named in the logs, if they exist.
        thresholds: The thresholds to apply.
    """
    groups: dict[object, list[tuple[OwnLog, Generation]]] = {}
    for log in logs:
        if log.generation is not None and log.generation.is_open:
            id = log.generation.prediction_id or log
            groups.setdefault(id, []).append((log, log.generation))
    found: list[Orphaned] = []
    for group in groups.values():
        reasons = [why_orphaned(one, runs, thresholds) for _, one in group]
        # A call that waits for another run's prediction knows no deadline for it.
        started, reason = max(
            zip([one for _, one in group], reasons, strict=True),
            key=lambda pair: pair[0].intent.cancel_after,
        )
        if reason is not None and None not in reasons:
            found.append(Orphaned(tuple([log for log, _ in group]), started, reason))
    return found


def open_in_running_runs(
    logs: Iterable[OwnLog], runs: Mapping[UUID, FlowRunSeen], found: Iterable[Orphaned]
) -> int:
    """Count the predictions that are left alone because a running flow run waits for them."""
    orphans = {one.generation.prediction_id for one in found}
    waited_for = {
        log.generation.prediction_id
        for log in logs
        if log.generation is not None and log.generation.is_open
        for around in log.generation.awaited_by
        if any(run.state is StateType.RUNNING for one in around if (run := runs.get(one.id)))
    }
    return len(waited_for - orphans - {None})


def why_orphaned(
    known: Generation, runs: Mapping[UUID, FlowRunSeen], thresholds: Thresholds
) -> str | None:
    """Return why no flow run waits for a prediction; `None` if one may."""
    if known.is_unknown and thresholds.since(known.written_at) < ABANDONED_SECONDS:
        return None
    reasons = [
        _why_unwanted(known, [one.id for one in around], runs, thresholds)
        for around in known.awaited_by
    ]
    return None if None in reasons or not reasons else reasons[0]


def _why_unwanted(
    known: Generation,
    flow_runs: Sequence[UUID],
    runs: Mapping[UUID, FlowRunSeen],
    thresholds: Thresholds,
) -> str | None:
    """Return why a flow run does not wait; `None` if it may.

    The flow runs are checked from the root down to that of the call: a run's parents decide whether
    it comes back. A deployment's run that is alive continues by itself, unless a parent was
    canceled.
    """
    for run_id in reversed(_that_count(flow_runs, runs, thresholds)):
        run = runs.get(run_id)
        if run is not None and run.state in _COMING_BACK:
            return None
        what = _what_became_of(run, known.outlives_crash_of(run_id), thresholds)
        if what is not None:
            return f"{_which(run_id, flow_runs)} {what}"
    return _why_if_all_completed(flow_runs, runs, thresholds)


def _that_count(
    flow_runs: Sequence[UUID], runs: Mapping[UUID, FlowRunSeen], thresholds: Thresholds
) -> list[UUID]:
    counting: list[UUID] = []
    is_left_to_itself = False
    for run_id in flow_runs:
        run = runs.get(run_id)
        if not is_left_to_itself or (run is not None and run.state in CANCELED):
            counting.append(run_id)
        if run is not None and run.lives_by_itself and _is_alive(run, thresholds):
            is_left_to_itself = True
    return counting


def _is_alive(run: FlowRunSeen, thresholds: Thresholds) -> bool:
    if run.state in _COMING_BACK:
        return True
    return run.state is StateType.RUNNING and not thresholds.is_silent(run)


def _which(run_id: UUID, flow_runs: Sequence[UUID]) -> str:
    return "its flow run" if run_id == flow_runs[0] else "a parent flow run"


def _what_became_of(run: FlowRunSeen | None, outlives: bool, thresholds: Thresholds) -> str | None:
    """Return what ended a flow run; `None` if nothing has."""
    if run is None:
        return "was deleted"
    if thresholds.is_silent(run):
        return None if outlives else _silent(run, thresholds)
    if run.state is StateType.CRASHED and outlives:
        return None
    return _ended(run, thresholds) if run.state in _ENDED else None


def _why_if_all_completed(
    flow_runs: Sequence[UUID], runs: Mapping[UUID, FlowRunSeen], thresholds: Thresholds
) -> str | None:
    # Another run may wait for it then: the parent of a subflow that has returned its prediction, or
    # a deployment's run that the completed one has started without waiting for it.
    found = [runs.get(one) for one in flow_runs]
    if {run and run.state for run in found} != {StateType.COMPLETED}:
        return None
    last = max(reversed(flow_runs), key=lambda one: runs[one].since)
    what = _ended(runs[last], thresholds)
    return what and f"{_which(last, flow_runs)} {what}"


def _ended(run: FlowRunSeen, thresholds: Thresholds) -> str | None:
    ago = thresholds.since(run.since)
    word = _ENDED.get(run.state, "completed")
    return f"{word} {for_people(ago)} ago" if ago > thresholds.grace else None


def _silent(run: FlowRunSeen, thresholds: Thresholds) -> str:
    assert run.last_heartbeat is not None
    ago = for_people(thresholds.since(run.last_heartbeat))
    return f"sent its last heartbeat {ago} ago"


def for_people(seconds: float) -> str:
    """Return a duration in words, rounded."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


async def silent_runs(
    runs: Mapping[UUID, FlowRunSeen], thresholds: Thresholds
) -> dict[UUID, FlowRunSeen]:
    """Return the flow runs whose heartbeats have stopped, with their last ones.

    After an outage of Prefect's server, all flow runs look silent until their next heartbeat. So
    the server must have received other events in the time in which theirs are missing.

    Raises:
        LedgerError: The server received nothing in that time, or can't be read.
    """
    running = [one for one, run in runs.items() if run.state is StateType.RUNNING]
    heard = await last_heartbeats(running, thresholds.now - _LOOK_BACK)
    beating = {one: runs[one]._replace(last_heartbeat=last) for one, last in heard.items()}
    silent = {one: run for one, run in beating.items() if thresholds.is_silent(run)}
    if silent:
        interval = timedelta(seconds=thresholds.silence / SILENT_HEARTBEATS)
        since = max(sign for run in silent.values() if (sign := last_sign(run)))
        if not await was_listening(since + interval, thresholds.now - interval):
            many = "flow run has" if len(silent) == 1 else "flow runs have"
            raise LedgerError(
                f"{len(silent)} {many} sent no heartbeat for {for_people(thresholds.silence)}, but"
                " Prefect's server received nothing else in that time either, so it may have been"
                " down."
            )
    return silent
