"""Which records are of predictions that no flow run waits for any more; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from prefect.client.schemas.objects import StateType

from prefect_replicate.ledger.flow_runs import CANCELED, FlowRunSeen
from prefect_replicate.ledger.record import Record
from prefect_replicate.ledger.store import Entry
from prefect_replicate.lifecycle.claiming import ABANDONED_SECONDS

_COMING_BACK = {StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED}
_ENDED = {
    StateType.FAILED: "failed",
    StateType.CRASHED: "crashed",
    StateType.CANCELLED: "was canceled",
    StateType.CANCELLING: "was told to cancel",
}


@dataclass(frozen=True)
class Patience:
    """When, and how long things may have stood as they stand; in seconds."""

    now: datetime
    grace: float
    """For a flow run that has ended: its hooks may still be at work."""
    silence: float
    """For a flow run that is said to be running, without a heartbeat."""

    def since(self, moment: datetime) -> float:
        return (self.now - moment).total_seconds()

    def is_silent(self, run: FlowRunSeen) -> bool:
        """Whether a flow run that has given heartbeats gives none any more."""
        sign = last_sign(run)
        return sign is not None and self.since(sign) > self.silence


def last_sign(run: FlowRunSeen) -> datetime | None:
    """When a flow run that is said to be running was last alive; `None` where that is unknown."""
    if run.state is not StateType.RUNNING or run.last_heartbeat is None:
        return None
    # A run that was suspended, or waited for a retry, gave no heartbeat in all that time.
    return max(run.last_heartbeat, run.since)


class Orphaned(NamedTuple):
    """A prediction that nobody waits for, or a create that may have made one."""

    entries: tuple[Entry, ...]
    """All its open records, the newest first."""
    why: str

    @property
    def record(self) -> Record:
        """The record of the call that started it."""
        return self.entries[-1].record


def orphaned(
    entries: Iterable[Entry], runs: Mapping[UUID, FlowRunSeen], patience: Patience
) -> list[Orphaned]:
    """Choose the predictions of which every record says that nobody waits.

    Args:
        entries: Newest first.
        runs: The flow runs of the records, as far as they exist.
        patience: With which they are judged.
    """
    found: list[Orphaned] = []
    for group in _by_prediction(entries):
        reasons = [_why_orphaned(entry, runs, patience) for entry in group]
        reason = reasons[-1]
        if reason is not None and None not in reasons:
            found.append(Orphaned(tuple(group), reason))
    return found


def _by_prediction(entries: Iterable[Entry]) -> Iterable[list[Entry]]:
    groups: dict[str, dict[UUID, Entry]] = {}
    for entry in entries:
        if entry.record.is_open:
            key = entry.record.prediction_id or str(entry.artifact_id)
            # A page that is read while a record is added repeats the last one of the page before.
            groups.setdefault(key, {})[entry.artifact_id] = entry
    return [list(group.values()) for group in groups.values()]


def _why_orphaned(entry: Entry, runs: Mapping[UUID, FlowRunSeen], patience: Patience) -> str | None:
    if entry.record.prediction_id is None and patience.since(entry.updated) < ABANDONED_SECONDS:
        return None
    return why_orphaned(entry.record, runs, patience)


def why_orphaned(
    record: Record, runs: Mapping[UUID, FlowRunSeen], patience: Patience
) -> str | None:
    """Say why nobody waits for what is recorded; `None` where somebody may.

    The flow runs are judged from the one at the top to that of the call: what is around a run
    decides whether it comes back. A deployment's run that is alive lives on by itself, unless a run
    around it was canceled.
    """
    for run_id in reversed(_that_count(record.flow_runs, runs, patience)):
        run = runs.get(run_id)
        if run is not None and run.state in _COMING_BACK:
            return None
        what = _what_became_of(run, record.outlives_crash_of(run_id), patience)
        if what is not None:
            return f"{_which(run_id, record)} {what}"
    return _why_if_all_completed(record, runs, patience)


def _that_count(
    flow_runs: Sequence[UUID], runs: Mapping[UUID, FlowRunSeen], patience: Patience
) -> list[UUID]:
    counting: list[UUID] = []
    is_left_to_itself = False
    for run_id in flow_runs:
        run = runs.get(run_id)
        if not is_left_to_itself or (run is not None and run.state in CANCELED):
            counting.append(run_id)
        if run is not None and run.lives_by_itself and _is_alive(run, patience):
            is_left_to_itself = True
    return counting


def _is_alive(run: FlowRunSeen, patience: Patience) -> bool:
    if run.state in _COMING_BACK:
        return True
    return run.state is StateType.RUNNING and not patience.is_silent(run)


def _which(run_id: UUID, record: Record) -> str:
    return "its flow run" if run_id == record.flow_runs[0] else "a flow run around it"


def _what_became_of(run: FlowRunSeen | None, outlives: bool, patience: Patience) -> str | None:
    """Say what ended a flow run and all that it stood for; `None` where nothing has."""
    if run is None:
        return "was deleted"
    if patience.is_silent(run):
        return None if outlives else _silent(run, patience)
    if run.state is StateType.CRASHED and outlives:
        return None
    return _ended(run, patience) if run.state in _ENDED else None


def _why_if_all_completed(
    record: Record, runs: Mapping[UUID, FlowRunSeen], patience: Patience
) -> str | None:
    # Others may wait for it then: the run around a subflow that has returned its prediction, or a
    # deployment's run that the completed one has started without waiting for it.
    found = [runs.get(one) for one in record.flow_runs]
    if {run and run.state for run in found} != {StateType.COMPLETED}:
        return None
    last = max(reversed(record.flow_runs), key=lambda one: runs[one].since)
    what = _ended(runs[last], patience)
    return what and f"{_which(last, record)} {what}"


def _ended(run: FlowRunSeen, patience: Patience) -> str | None:
    ago = patience.since(run.since)
    word = _ENDED.get(run.state, "completed")
    return f"{word} {_for_people(ago)} ago" if ago > patience.grace else None


def _silent(run: FlowRunSeen, patience: Patience) -> str:
    assert run.last_heartbeat is not None
    ago = _for_people(patience.since(run.last_heartbeat))
    return f"gave its last heartbeat {ago} ago"


def _for_people(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
