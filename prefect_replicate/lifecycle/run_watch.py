"""Noticing that a flow run was canceled where no signal says so.

Prefect tells submitted tasks, and scripts that it did not start, of a cancel in no other way than
through the run's state.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from uuid import UUID

from prefect.client.schemas.objects import StateType

from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client
from prefect_replicate.ledger.scope import root_of
from prefect_replicate.lifecycle.run import Run

INTERVAL = 5.0
"""Seconds between two looks at a flow run, however many predictions it waits for."""

_ENDED = {StateType.CANCELLING, StateType.CANCELLED, StateType.CRASHED, StateType.FAILED}
_logger = logging.getLogger(__name__)


class _Watch:
    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.waits = 0
        self.task: asyncio.Task[None] | None = None


class _Watches(dict[UUID, _Watch]):
    """By flow run."""


@contextlib.asynccontextmanager
async def end_of_run(run: Run) -> AsyncGenerator[asyncio.Event, None]:
    """An event that is set when Prefect has ended the flow run, or the one at its top."""
    flow_run_id = run.scope.flow_run_id
    if flow_run_id is None:
        yield asyncio.Event()
        return
    watches = process_state("watches", _Watches)
    watch = watches.setdefault(flow_run_id, _Watch())
    watch.waits += 1
    if watch.task is None:
        watch.task = asyncio.create_task(_look_on(run, flow_run_id, watch.ended))
    try:
        yield watch.ended
    finally:
        watch.waits -= 1
        if watch.waits == 0:
            watch.task.cancel()
            del watches[flow_run_id]


async def _look_on(run: Run, flow_run_id: UUID, ended: asyncio.Event) -> None:
    watched = {flow_run_id}
    while not ended.is_set():
        await asyncio.sleep(INTERVAL)
        try:
            client = await prefect_client()
            watched.add(await root_of(run.scope) or flow_run_id)
            for one in watched:
                with as_ledger_error("read a flow run's state"):
                    state = (await client.read_flow_run(one)).state
                if state is not None and state.type in _ENDED:
                    ended.set()
        except LedgerError as exc:
            _logger.debug("The state of flow run %s could not be read: %s", flow_run_id, exc)
