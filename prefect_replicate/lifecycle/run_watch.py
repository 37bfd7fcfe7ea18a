"""Noticing that a flow run was ended when no signal says so.

Submitted tasks, and scripts that Prefect did not start, learn of a cancel only through the run's
state. A signal does not reach submitted tasks: it interrupts only the flow's own function, and the
flow then waits for their threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext

from prefect_replicate.engine import Recent, process_state
from prefect_replicate.exceptions import LedgerError, RunEndedError
from prefect_replicate.ledger.facts import Ancestor
from prefect_replicate.ledger.flow_runs import CANCELED, flow_runs_seen
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client
from prefect_replicate.ledger.scope import Level, RunScope, ancestry_of
from prefect_replicate.lifecycle.run import Run

INTERVAL = 5.0
"""Seconds between two reads of a flow run's state, however many predictions it waits for."""

_TICK = 0.25
"""Seconds between two checks of what this process itself knows."""

_PATIENCE = 5.0
"""Seconds to wait for Prefect's API, whose client retries for minutes while it is unreachable."""

_DOUBT_SECONDS = 1.0
"""After this, a flow that has returned has also left its submitted tasks, if it leaves any."""

_ENDED = CANCELED | {StateType.CRASHED, StateType.FAILED}
_logger = logging.getLogger(__name__)


class _Watch:
    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.waits = 0
        self.task: asyncio.Task[None] | None = None


class _Watches(dict[UUID, _Watch]):
    """By flow run."""


class _EndedRuns(Recent[UUID, bool]):
    """Flow runs that this process knows to have ended, and whether all below them have, too."""


class _Crashes(Recent[UUID, set[UUID]]):
    """By flow run: the crashed runs around it that ended it, which a retry may hide soon."""


class _CheckedAttempts(Recent[tuple[Level, ...], None]):
    """Attempts whose runs have already been checked."""


@contextlib.asynccontextmanager
async def end_of_run(run: Run) -> AsyncGenerator[asyncio.Event, None]:
    """Yield an event that is set when Prefect has ended the flow run, or one around it."""
    flow_run_id = run.scope.flow_run_id
    if flow_run_id is None:
        yield asyncio.Event()
        return
    watches = process_state("watches", _Watches)
    watch = watches.setdefault(flow_run_id, _Watch())
    watch.waits += 1
    if watch.task is None:
        flow = FlowRunContext.get()
        submitted = _Submitted(flow.task_runner if flow else None)
        watch.task = asyncio.create_task(_look_on(run, flow_run_id, submitted, watch.ended))
    try:
        yield watch.ended
    finally:
        watch.waits -= 1
        if watch.waits == 0:
            watch.task.cancel()
            del watches[flow_run_id]


class _Submitted:
    """The tasks that a flow has submitted to threads."""

    def __init__(self, task_runner: Any) -> None:
        # Prefect sets these when the flow's function has exited, for tasks that have not started
        # yet; they have no public name (`ThreadPoolTaskRunner.cancel_all`).
        self._events: dict[Any, Any] = getattr(task_runner, "_cancel_events", {})

    @property
    def are_left(self) -> bool:
        """Whether the flow's function has exited, in any way, while they still run."""
        return any(event.is_set() for event in list(self._events.values()))


async def _look_on(
    run: Run, flow_run_id: UUID, submitted: _Submitted, ended: asyncio.Event
) -> None:
    were_left = False
    while not ended.is_set():
        await _until_next_look(submitted, were_left)
        were_left = submitted.are_left
        if await _has_ended(run, flow_run_id, submitted, were_left):
            note_end(flow_run_id)
            ended.set()


async def _until_next_look(submitted: _Submitted, were_left: bool) -> None:
    next_look = time.monotonic() + INTERVAL
    while time.monotonic() < next_look and submitted.are_left == were_left:  # noqa: ASYNC110 - Prefect's events are those of threads
        await asyncio.sleep(min(_TICK, INTERVAL))


async def _has_ended(run: Run, flow_run_id: UUID, submitted: _Submitted, were_left: bool) -> bool:
    try:
        around = await asyncio.wait_for(_standing_around(run.scope), _PATIENCE)
        if _is_completed(around) and not (run.scope.is_away or submitted.are_left):
            # Somebody else completed it, since this process still waits; or it is just about to
            # leave its tasks.
            await asyncio.sleep(_DOUBT_SECONDS)
            return not submitted.are_left
    except (LedgerError, asyncio.TimeoutError) as exc:
        _logger.debug("The state of flow run %s could not be read: %r", flow_run_id, exc)
        return were_left
    # A flow that returns, fails or suspends itself sets its state before it waits for its tasks.
    is_interrupted = were_left and all(one.state is StateType.RUNNING for one in around)
    if not is_over(around):
        return is_interrupted
    ancestry = await ancestry_of(run.scope)
    crashed = {
        ancestor.id
        for ancestor, one in zip(ancestry.flow_runs if ancestry else (), around, strict=True)
        if one.state is StateType.CRASHED
    }
    process_state("crashes", _Crashes)[flow_run_id] = crashed
    return True


class Standing(NamedTuple):
    """The state of a flow run."""

    state: StateType | None
    """`None` if it has been deleted."""
    lives_by_itself: bool = False


def is_over(around: Sequence[Standing]) -> bool:
    """Whether nobody wants what a flow run starts anymore; pure.

    Args:
        around: The run itself and those around it, innermost first.
    """
    own = _that_count(around)
    return any(one.state is None or one.state in _ENDED for one in own) or any(
        one.state in CANCELED for one in around
    )


def _is_completed(around: Sequence[Standing]) -> bool:
    return any(one.state is StateType.COMPLETED for one in _that_count(around))


def _that_count(around: Sequence[Standing]) -> Sequence[Standing]:
    count = next((n for n, one in enumerate(around, 1) if one.lives_by_itself), len(around))
    return around[:count]


async def _standing_around(scope: RunScope) -> list[Standing]:
    """Return the current states of the flow run and those around it."""
    ancestry = await ancestry_of(scope)
    return await _standing_of(ancestry.flow_runs if ancestry else ())


async def _standing_of(runs: Sequence[Ancestor]) -> list[Standing]:
    found = await flow_runs_seen([one.id for one in runs])
    return [Standing(found[id].state if id in found else None, alone) for id, alone in runs]


async def crashed_around(flow_run_id: UUID) -> set[UUID]:
    """Return which runs count as crashed, of an ended flow run and those around it.

    A run that was taken for dead, and notices that, turns its crash into a failure.

    Raises:
        LedgerError: Prefect's API could not be read.
    """
    ancestry = await ancestry_of(RunScope(flow_run_id))
    found = await flow_runs_seen([one.id for one in ancestry.flow_runs] if ancestry else ())
    crashed = {one for one, run in found.items() if run.state is StateType.CRASHED}
    if StateType.CRASHED in since_scheduled(await _history(flow_run_id)):
        crashed.add(flow_run_id)
    return crashed | process_state("crashes", _Crashes).get(flow_run_id, set())


async def is_being_canceled(run: Run) -> bool:
    """Whether somebody has canceled the flow run, as far as Prefect's API can be read."""
    with contextlib.suppress(LedgerError):
        return any(one.state in CANCELED for one in await _standing_around(run.scope))
    return False


async def is_wholly_ended(run: Run) -> bool:
    """Whether the flow run was canceled, or a run around it has ended, as far as can be read."""
    with contextlib.suppress(LedgerError):
        ancestry = await ancestry_of(run.scope)
        around = await _standing_of(ancestry.flow_runs[1:] if ancestry else ())
        return any(one.state in _ENDED for one in around) or await is_being_canceled(run)
    return False


async def refuse_if_ended(run: Run) -> None:
    """Stop a run that continues although Prefect has ended it, before it pays for anything.

    A first attempt checks only what this process has noticed. Later attempts read the states once:
    `serve` revives a run that is canceled while it waits for its retry, and a subflow may be
    retried after the run around it has ended. An attempt whose root runs in another process reads
    them once, too: the root may have ended before a worker picked the attempt up.

    Raises:
        RunEndedError: It has been ended.
        LedgerError: Prefect's API could not be read.
    """
    flow_run_id = run.scope.flow_run_id
    if flow_run_id is None:
        return
    checked = process_state("checked attempts", _CheckedAttempts)
    retried = tuple([one for one in run.scope.levels if one.attempt > 1])
    # A check of a flow run's attempt holds for all its tasks.
    attempt = retried or (run.scope.levels if run.scope.ancestry is None else ())
    if attempt and attempt not in checked:
        if is_over(await _standing_around(run.scope)) or await _was_revived(flow_run_id):
            note_end(flow_run_id)
        checked[attempt] = None
    refuse_if_known_to_have_ended(run)


async def look_for_end_elsewhere(run: Run) -> None:
    """Read the flow run's state if it runs in another process, whose end this one does not see.

    Call it when the intent is written and the create is not sent yet: if a hook has run before, the
    state was set before; a hook that runs later sees the intent.

    Raises:
        LedgerError: Prefect's API could not be read.
    """
    flow_run_id = run.scope.flow_run_id
    if flow_run_id is None or not run.scope.is_away:
        return
    if is_over(await _standing_around(run.scope)):
        note_end(flow_run_id)


def refuse_if_known_to_have_ended(run: Run) -> None:
    """`refuse_if_ended`, using only what this process has noticed."""
    if has_ended(run):
        raise RunEndedError(
            f"Flow run {run.scope.flow_run_id} is still running although it, or the run around it,"
            " has been ended; nothing more is started for it. Retry the run to continue."
        )


def has_ended(run: Run) -> bool:
    """Whether this process has noticed that Prefect has ended the flow run."""
    ended = process_state("ended runs", _EndedRuns)
    if not ended or run.scope.flow_run_id in ended:
        return bool(ended)
    is_left_to_itself = False
    for ancestor in run.scope.ancestry.flow_runs if run.scope.ancestry else ():
        if ended.get(ancestor.id, False) or (ancestor.id in ended and not is_left_to_itself):
            return True
        is_left_to_itself = is_left_to_itself or ancestor.lives_by_itself
    return False


def note_end(flow_run_id: UUID, *, of_deployments: bool = False) -> None:
    """Record that a flow run has ended, for creates in this process to see.

    Args:
        flow_run_id: The run; those below it have ended, too.
        of_deployments: Whether this includes runs below it that live by themselves.
    """
    process_state("ended runs", _EndedRuns)[flow_run_id] = of_deployments


async def _was_revived(flow_run_id: UUID) -> bool:
    return is_revived(await _history(flow_run_id))


async def _history(flow_run_id: UUID) -> list[StateType]:
    client = await prefect_client()
    with as_ledger_error("read a flow run's states"):
        history = await client.read_flow_run_states(flow_run_id)
    return [state.type for state in sorted(history, key=lambda one: one.timestamp)]


def is_revived(history: Sequence[StateType]) -> bool:
    """Whether a run continues after a cancel without having been rescheduled; pure.

    Args:
        history: Its states, oldest first.
    """
    return StateType.CANCELLED in since_scheduled(history)


def since_scheduled(history: Sequence[StateType]) -> list[StateType]:
    """Return the states since a run was last scheduled; pure."""
    since_schedule = list(history)
    while StateType.SCHEDULED in since_schedule:
        del since_schedule[: since_schedule.index(StateType.SCHEDULED) + 1]
    return since_schedule
