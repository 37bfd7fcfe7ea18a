"""What to do about the flow run that a part of a batch was handed to; pure."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto

from prefect.client.schemas.objects import StateType

from prefect_replicate.flows.batch_part import SIGN_SECONDS

DEAD_SECONDS = 6 * SIGN_SECONDS
"""A run that is said to be running, and shows nothing new for so long, counts as dead."""

REPLACEMENTS = 3
"""How many more runs a part gets when its run crashes."""

WAITING = {StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED}
ENDED = {StateType.CANCELLED, StateType.CANCELLING, StateType.CRASHED, StateType.FAILED}


class Step(Enum):
    """What is next for a part."""

    WAIT = auto()
    COLLECT = auto()
    """Its run has done what it could."""
    RESTART = auto()
    """Another run does what is left, as for a part that nobody has begun."""
    REPLACE = auto()
    """Another run takes the place of one that crashed."""
    DECLARE_DEAD = auto()
    """Its run is to count as crashed."""
    GIVE_UP = auto()


def next_step(
    state: StateType, silent_seconds: float, *, is_inherited: bool, worker_timeout: float | None
) -> Step:
    """Decide by how the run stands, and for how long it has shown nothing new.

    Args:
        state: Of the run.
        silent_seconds: Since its state or its board has changed.
        is_inherited: Whether an earlier attempt of the batch has started it. It may have lost items
            to the end of that attempt, which this one is to do.
        worker_timeout: How long a worker may take to get it to run; `None`: any time.
    """
    if state is StateType.CRASHED:
        return Step.REPLACE
    if state is StateType.COMPLETED:
        return Step.RESTART if is_inherited else Step.COLLECT
    if state in (StateType.FAILED, StateType.CANCELLED):
        return Step.RESTART if is_inherited else Step.GIVE_UP
    # A worker that dies right after it has taken a run leaves it pending for ever.
    limits = {StateType.RUNNING: DEAD_SECONDS, StateType.PENDING: worker_timeout}
    limit = limits.get(state)
    return Step.DECLARE_DEAD if limit is not None and silent_seconds > limit else Step.WAIT


def are_without_worker(states: Collection[StateType]) -> bool:
    """Whether none of the runs that are not over has anybody who works on it."""
    return bool(states) and all(one in WAITING for one in states)
