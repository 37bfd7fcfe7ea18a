"""Letting creates go as fast as Replicate allows it, to this process and to all workers together.

A create is let in before its intent is written, since it is to be sent soon after that.
"""

from __future__ import annotations

import asyncio
from typing import Any

from prefect_replicate.engine import process_state
from prefect_replicate.ledger.global_limits import AHEAD_SECONDS, NAME, slots
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.run_watch import end_of_run, refuse_if_known_to_have_ended

SILENT_SECONDS = 3.0
"""A wait that is longer than this is told, and looks out for the end of its flow run."""


class _Told(set[Any]):
    """Runs, or accounts outside of runs, that know that they have to wait."""


class Admission:
    """The place of a create in the queues."""

    def __init__(self, run: Run) -> None:
        self._gate = run.connection.gates.creates
        self._slots = slots() if run.scope.is_recorded else None
        self._has_slot = False
        self.turn = self._gate.turn()

    async def come(self) -> None:
        """Wait until the create may be sent."""
        await self.turn.come()
        if self._slots is not None:
            self._has_slot = await self._slots.take(self._about_to_come)

    def give_back(self) -> None:
        """Leave the place to the next, if nothing was sent."""
        was_unused = self.turn.give_back()
        if was_unused and self._has_slot and self._slots is not None:
            self._slots.give_back()

    def reason(self) -> str:
        """What it waits for."""
        if not self.turn.is_held or self._slots is None:
            limit = self._gate.budget.limit
            allowed = _allowed(limit.per_second * 60, self._gate.waiting)
            return f"Replicate lets this account create {allowed}"
        shared = self._slots.limit
        if shared is None:
            return f"Waiting for Prefect's API to answer about the limit {NAME}"
        allowed = _allowed(shared.per_second * 60, self._slots.waiting)
        return f"Prefect's limit {NAME} lets all workers together create {allowed}"

    def _about_to_come(self) -> int:
        return self._gate.soon(AHEAD_SECONDS)


def _allowed(per_minute: float, waiting: int) -> str:
    minutes = waiting / per_minute
    about = f"{minutes:.0f} min" if minutes >= 1 else f"{minutes * 60:.0f} s"
    return f"{per_minute:.0f} predictions a minute: {waiting} wait, about {about}"


async def admit(run: Run) -> Admission:
    """Wait until a create may be sent. Whoever is interrupted then has taken nothing.

    Raises:
        RunEndedError: Prefect has ended the flow run meanwhile.
        ConfigurationError: The limit in Prefect would never let anything pass.
        LedgerError: Prefect's API could not be asked for it.
    """
    admission = Admission(run)
    coming = asyncio.create_task(admission.come())
    try:
        await asyncio.wait({coming}, timeout=SILENT_SECONDS)
        if not coming.done():
            _tell_once(run, admission.reason())
            await _unless_run_ends(run, coming)
        await coming
    except BaseException:
        coming.cancel()
        admission.give_back()
        raise
    return admission


async def _unless_run_ends(run: Run, waiting: asyncio.Task[Any]) -> None:
    async with end_of_run(run) as ended:
        end = asyncio.create_task(ended.wait())
        try:
            await asyncio.wait({waiting, end}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            end.cancel()
    refuse_if_known_to_have_ended(run)


def _tell_once(run: Run, what: str) -> None:
    told = process_state("told to wait", _Told)
    who = run.scope.own_id or run.connection.address
    if who not in told:
        told.add(who)
        run.say("%s", what)
