"""A prediction, and its state at any moment: a pure function, with no task behind it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

from prefect_replicate.emulator.plans import Plan

Status = Literal["starting", "processing", "succeeded", "failed", "canceled", "aborted"]
WebhookEvent = Literal["start", "output", "logs", "completed"]

_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)[^,]*;base64,")
_GO_WRITES_AN_EXPONENT_FROM = 1e21

# Differences of times since the epoch are exact to a microsecond only.
_TIME_ERROR = 1e-6

# A prediction that was canceled before it ran was recorded with this `predict_time`.
_NEVER_RAN = 3e-06


@dataclass
class Record:
    """Everything that was requested of one prediction; only a cancel changes it afterward.

    Args:
        version: The version as replies name it: `hidden` for official models.
        secrets: The names of the inputs that replies don't show.
        deadline: When `Cancel-After` ends it, in seconds since the epoch.
        stop_at: When a cancel takes effect.
    """

    id: str
    model: str
    version: str
    input: Mapping[str, Any]
    plan: Plan
    created_at: float
    deployment: str | None = None
    deadline: float | None = None
    webhook: str | None = None
    webhook_events: tuple[WebhookEvent, ...] | None = None
    stop_at: float | None = None
    cancel_requests: int = 0
    secrets: frozenset[str] = frozenset()

    @cached_property
    def shown_input(self) -> Mapping[str, Any]:
        """The input as replies show it: without secrets and the content of inline files.

        Recorded replies have sorted keys, as Go writes JSON, so this assumes that numbers are also
        written as Go writes them, and that null values are left out.
        """
        given = {name: value for name, value in sorted(self.input.items()) if value is not None}
        return {
            name: "[REDACTED]" if name in self.secrets else _shown(value)
            for name, value in given.items()
        }


@dataclass(frozen=True)
class Ending:
    """How a prediction ends if nobody interferes from now on."""

    status: Status
    started_at: float | None
    completed_at: float


@dataclass(frozen=True)
class State:
    """The state of a prediction at one moment."""

    status: Status
    moment: float
    started_at: float | None = None
    completed_at: float | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether nothing will change anymore."""
        return self.completed_at is not None

    @property
    def run_seconds(self) -> float:
        """Seconds that the model has run."""
        if self.started_at is None:
            return 0.0
        until = self.moment if self.completed_at is None else self.completed_at
        return until - self.started_at


def ending_of(record: Record) -> Ending:
    """Return how `record` ends: as planned, by a cancel, or at its deadline."""
    started = record.created_at + record.plan.queue
    finished = started + record.plan.run
    stop, by_deadline = _stop(record)
    if stop is None or stop >= finished:
        return Ending(record.plan.outcome, started, finished)
    if stop >= started:
        return Ending("canceled", started, stop)
    if by_deadline:
        return Ending("aborted", None, stop)
    return Ending("canceled", stop - _NEVER_RAN, stop)


def state_at(record: Record, now: float) -> State:
    """Return the state of `record` at `now`."""
    ending = ending_of(record)
    if now >= ending.completed_at:
        return State(ending.status, now, ending.started_at, ending.completed_at)
    if now >= (started := record.created_at + record.plan.queue):
        return State("processing", now, started)
    return State("starting", now)


def logs_at(record: Record, state: State) -> str:
    """Return what the model has printed."""
    if state.started_at is None:
        return ""
    until = state.run_seconds + _TIME_ERROR
    return "".join(line.text for line in record.plan.logs if line.at <= until)


def output_at(record: Record, state: State) -> Any:
    """Return the output so far: all of it once succeeded, before that the items that arrived."""
    if state.status == "succeeded":
        return record.plan.output
    if state.started_at is None:
        return None
    count = bisect_right(record.plan.arrivals, state.run_seconds + _TIME_ERROR)
    return record.plan.output[:count] if count else None


def removed_at(record: Record, retention: float) -> float:
    """Return when the data of `record` is removed."""
    return ending_of(record).completed_at + retention


def _stop(record: Record) -> tuple[float | None, bool]:
    if record.deadline is None:
        return record.stop_at, False
    if record.stop_at is None or record.deadline < record.stop_at:
        return record.deadline, True
    return record.stop_at, False


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value).items()
        return {name: _shown(one) for name, one in sorted(fields)}
    if isinstance(value, list):
        return [_shown(one) for one in cast("list[Any]", value)]
    if isinstance(value, str) and (inline := _DATA_URI.match(value)):
        return f"data:{inline[1]};base64,..."
    if isinstance(value, float) and abs(value) < _GO_WRITES_AN_EXPONENT_FROM:
        return int(value) if value.is_integer() else value
    return value
