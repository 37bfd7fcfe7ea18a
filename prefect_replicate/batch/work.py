"""Working on a part of a batch: all its items side by side, on the engine's loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from tenacity import AsyncRetrying

from prefect_replicate.batch.plan import Item, Part
from prefect_replicate.batch.progress import add_progress, is_to_stop, update_progress
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import (
    APIError,
    ConfigurationError,
    LedgerError,
    ReplicateError,
    RunEndedError,
)
from prefect_replicate.ledger.log import ledger_of
from prefect_replicate.lifecycle.creation import Request, create, deadline_for
from prefect_replicate.lifecycle.delivery import deliver
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.run_watch import has_ended, refuse_if_known_to_have_ended
from prefect_replicate.lifecycle.waiting import wait
from prefect_replicate.outputs import check_destination
from prefect_replicate.values import Prediction, VideoOutcome
from prefect_replicate.video.options import attempts

PROGRESS_SECONDS = 2.0
"""Shortest time between two changes of a report."""

SIGN_SECONDS = 15.0
"""Longest time between two: whoever shows the batch takes a part that gives no sign for dead."""

_DELIVERIES_AT_ONCE = 8


class Shared:
    """What the parts of a batch in this process share."""

    def __init__(self, part: Part) -> None:
        self.places = asyncio.Semaphore(part.concurrency)
        self.deliveries = asyncio.Semaphore(_DELIVERIES_AT_ONCE)
        self.failures = 0
        self.obstacle: str | None = None
        """Why nothing more is started."""
        self.left = asyncio.Event()
        """Set when the flow's function was left before its parts were done."""


class _AllShared(WeakValueDictionary["tuple[str, datetime | None]", Shared]):
    """By the batch and its attempt, for as long as somebody works on it."""


def shared_by(part: Part) -> Shared:
    """What a part shares; to be called on the engine's loop."""
    known = process_state("batches", _AllShared)
    return known.setdefault((part.key, part.began), Shared(part))


def _is_obstacle(error: Exception) -> bool:
    """Whether all items would meet it: no usable token or storage, credit or right to create."""
    barred = isinstance(error, APIError) and error.status in (402, 403)
    return barred or isinstance(error, ConfigurationError)


class _ItemLog:
    """Says of which item it speaks, and leaves out what is said of every single step."""

    def __init__(self, logger: Any, number: int) -> None:
        self._logger = logger
        self._number = number

    def log(self, level: int, message: str, *values: Any) -> None:
        if level >= logging.WARNING:
            self._logger.log(level, f"Item %d: {message}", self._number, *values)


async def work_on(run: Run, part: Part) -> list[VideoOutcome]:
    """Make the items of a part, and return what became of each, in order.

    Raises:
        ConfigurationError: Nothing can be stored, or the token was rejected; nothing was paid.
        RunEndedError: Prefect has ended the flow run, or the one around it.
    """
    await check_destination(part.options.destination)
    work = _Work(run, part)
    showing = asyncio.create_task(work.keep_reporting())
    try:
        await work.all_items()
    finally:
        work.end()
        await asyncio.wait({showing})
        await _tell_now(run)
    refuse_if_known_to_have_ended(run)
    return work.outcomes


async def _tell_now(run: Run) -> None:
    """Write down what has become of the items. Never raises."""
    try:
        await (await ledger_of(run.scope)).tell_now()
    except LedgerError as exc:
        run.say("%s", exc, level=logging.WARNING)


class _Work:
    def __init__(self, run: Run, part: Part) -> None:
        self._run = run
        self._part = part
        self._shared = shared_by(part)
        self._outcomes = {item.number: item.outcome() for item in part.items}
        self._report: UUID | None = None
        self._changed = asyncio.Event()
        self._is_over = asyncio.Event()

    @property
    def outcomes(self) -> list[VideoOutcome]:
        return list(self._outcomes.values())

    async def all_items(self) -> None:
        # Side by side, so that a model that can't be looked up is asked for once.
        checks = await asyncio.gather(*map(self._checked, self._part.items))
        inputs = zip(self._part.items, checks, strict=True)
        items = [asyncio.create_task(self._item(item, input)) for item, input in inputs if input]
        if not items:
            return
        done = asyncio.create_task(asyncio.wait(items))
        left = asyncio.create_task(self._shared.left.wait())
        try:
            await asyncio.wait({done, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            for item in items:
                item.cancel()
            await done  # each cancels its prediction first

    async def _checked(self, item: Item) -> dict[str, Any] | None:
        """The model's input; all of them are checked before anything is paid."""
        try:
            return await item.options.whole_input(self._run)
        except ConfigurationError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it is, it must not cost the others
            self._failed(item, exc)
            return None

    async def _item(self, item: Item, input: dict[str, Any]) -> None:
        async with self._shared.places:
            if obstacle := self._obstacle():
                self._note(item, state="skipped", error=f"not started: {obstacle}")
                return
            try:
                await self._generate(item, input)
            except RunEndedError:
                return  # told once for all, at the end
            except Exception as exc:  # noqa: BLE001 - whatever it is, it must not cost the others
                if not has_ended(self._run):
                    self._failed(item, exc)

    def _obstacle(self) -> str | None:
        limit = self._part.max_failures
        if limit is not None and self._shared.failures > limit:
            return "too many items have failed"
        return self._shared.obstacle

    async def _generate(self, item: Item, input: dict[str, Any]) -> None:
        options, run = self._part.options, self._run_of(item)
        began = time.monotonic()
        prediction: Prediction | None = None
        async for attempt in AsyncRetrying(**attempts(options.retries)):
            with attempt:
                request = self._request(item, input, prediction)
                prediction = await create(run, request)
                self._note(
                    item, state="running",
                    prediction_id=prediction.id, web_url=prediction.web_url,
                )  # fmt: skip
                prediction = await wait(run, prediction, options.timeout, options.policy, None)
        assert prediction is not None
        async with self._shared.deliveries:
            files = await deliver(run, prediction, options.destination, ())
        seconds = _seconds_of(prediction, time.monotonic() - began)
        self._note(
            item, state="succeeded",
            files=files, seconds=seconds, seconds_billed=prediction.predict_time,
        )  # fmt: skip
        self._run.say("Item %d: %s, after %.0f s", item.number, files[0].location, seconds)

    def _run_of(self, item: Item) -> Run:
        return replace(self._run, logger=_ItemLog(self._run.logger, item.number))

    def _request(self, item: Item, input: dict[str, Any], failed: Prediction | None) -> Request:
        options = self._part.options
        return Request(
            item.options.model,
            input,
            deadline_for(options.timeout),
            failed and failed.id,
            options.keep_on_crash,
            options.regenerate_expired,
            item.place,
            options.keep_for_parent,
            is_of_batch=True,
        )

    def _failed(self, item: Item, error: Exception) -> None:
        why = str(error) if isinstance(error, ReplicateError) else repr(error)
        if _is_obstacle(error):
            if self._shared.obstacle is not None and not self._is_begun(item):
                self._note(item, state="skipped", error=f"not started: {self._shared.obstacle}")
                return
            self._shared.obstacle = why
        self._shared.failures += 1
        billed = getattr(getattr(error, "prediction", None), "predict_time", None)
        self._note(item, state="failed", error=why, seconds_billed=billed)
        message = "Item %d has failed: %s"
        self._run.say(message, item.number, why, level=logging.ERROR)

    def _is_begun(self, item: Item) -> bool:
        return self._outcomes[item.number].prediction_id is not None

    def _note(self, item: Item, **changes: Any) -> None:
        self._outcomes[item.number] = self._outcomes[item.number].model_copy(update=changes)
        self._changed.set()

    def end(self) -> None:
        """Have `keep_reporting` show how the items stand for the last time."""
        self._is_over.set()
        self._changed.set()

    async def keep_reporting(self) -> None:
        """Show how the items stand, and look whether others want this part to stop.

        Not to be canceled: a write that is broken off may reach the server after a later one.
        """
        is_last = False
        while not is_last:
            await _wait_for(self._changed, SIGN_SECONDS)
            self._changed.clear()
            is_last = self._is_over.is_set()
            await self._show()
            await self._look_for_stop()
            await _wait_for(self._is_over, PROGRESS_SECONDS)

    async def _show(self) -> None:
        """Bring the report up to date. Never raises: the ledger is what counts."""
        try:
            if self._report is None:
                self._report = await add_progress(self._part.key, self.outcomes, self._run.scope)
            else:
                await update_progress(self._report, self.outcomes)
        except LedgerError as exc:
            self._run.say("%s", exc, level=logging.WARNING)

    async def _look_for_stop(self) -> None:
        began = self._part.began
        if self._part.max_failures is None or self._shared.obstacle is not None or began is None:
            return
        with contextlib.suppress(LedgerError):
            if await is_to_stop(self._part.key, began):
                self._shared.obstacle = "too many items have failed"


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def _seconds_of(prediction: Prediction, since_start: float) -> float:
    """How long an item took; since its prediction was created, if another attempt did that."""
    if prediction.created_at is None or prediction.completed_at is None:
        return since_start
    return max(since_start, (prediction.completed_at - prediction.created_at).total_seconds())
