"""Working on a part of a batch: all its items concurrently, on the engine's event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from tenacity import AsyncRetrying

from prefect_replicate.batch.plan import Item, Part
from prefect_replicate.batch.view import IN_GALLERY
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import (
    APIError,
    ConfigurationError,
    LedgerError,
    ReplicateError,
    RunEndedError,
)
from prefect_replicate.generation import attempts, check_place
from prefect_replicate.ledger.ledger import ledger_of
from prefect_replicate.ledger.log import BatchLog
from prefect_replicate.lifecycle.creation import Request, create, deadline_for
from prefect_replicate.lifecycle.delivery import store_whole
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.run_watch import has_ended, refuse_if_known_to_have_ended
from prefect_replicate.lifecycle.waiting import wait
from prefect_replicate.outputs import check_destination
from prefect_replicate.settings import or_default
from prefect_replicate.values import ItemOutcome, Prediction

SIGN_SECONDS = 15.0
"""The run that assigned a part counts it as dead if nothing is written for several of these."""

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
        """Set when the flow's function has been left before its parts are done."""


class _AllShared(WeakValueDictionary[str, Shared]):
    """What is shared, by `Part.by`, for as long as it is worked on."""


def shared_by(part: Part) -> Shared:
    """Return what a part shares; call it on the engine's event loop."""
    known = process_state("batches", _AllShared)
    return known.setdefault(part.by, Shared(part))


def _is_obstacle(error: Exception) -> bool:
    """Whether it would stop all items: no usable token or storage, no credit or right to create."""
    barred = isinstance(error, APIError) and error.status in (402, 403)
    return barred or isinstance(error, ConfigurationError)


class _ItemLog:
    """Names the item in each line, and leaves out everything below a warning."""

    def __init__(self, logger: Any, item: Item) -> None:
        self._logger = logger
        self._item = item

    def log(self, level: int, message: str, *values: Any) -> None:
        if level >= logging.WARNING:
            self._logger.log(level, f"Item %s: {message}", self._item.label, *values)


async def work_on(run: Run, part: Part) -> list[ItemOutcome]:
    """Make the items of a part, and return the outcome of each, in order.

    Raises:
        ConfigurationError: Nothing can be stored, or the token was rejected; nothing was paid.
        RunEndedError: Prefect has ended the flow run, or a parent.
    """
    destination = or_default(part.options.destination)
    await check_place(run, destination)
    part = replace(part, options=replace(part.options, destination=destination))
    await check_destination(destination)
    ledger = await ledger_of(run.scope)
    work = _Work(run, part, ledger.batch(part.log))
    with work.log.worked_on():
        signs = asyncio.create_task(work.give_signs())
        try:
            await work.all_items()
        finally:
            signs.cancel()
            await work.write_down(work.log.flush)
    refuse_if_known_to_have_ended(run)
    return work.outcomes


class _Work:
    def __init__(self, run: Run, part: Part, log: BatchLog) -> None:
        self.log = log
        self._run = run
        self._part = part
        self._shared = shared_by(part)
        self._outcomes = {item.number: item.outcome for item in part.items}

    @property
    def outcomes(self) -> list[ItemOutcome]:
        return list(self._outcomes.values())

    async def all_items(self) -> None:
        # Concurrently, so that a model that can't be looked up is requested once.
        checks = await asyncio.gather(*map(self._checked, self._part.items))
        inputs = zip(self._part.items, checks, strict=True)
        items = [
            asyncio.create_task(self._item(item, input))
            for item, input in inputs
            if input is not None
        ]
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
        """Return the model's input; all inputs are checked before anything is paid."""
        try:
            check = self._part.options.check_input
            return await item.options.whole_input(self._run, check=check)
        except ConfigurationError:
            raise
        except Exception as exc:  # noqa: BLE001 - no error may cost the others
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
                return  # reported once for all, at the end
            except Exception as exc:  # noqa: BLE001 - no error may cost the others
                if not has_ended(self._run):
                    self._failed(item, exc)

    def _obstacle(self) -> str | None:
        limit = self._part.max_failures
        by = self._part.by
        is_stopped = not self.log.stopped.isdisjoint({by, by.partition("/")[0]})
        if is_stopped or (limit is not None and self._shared.failures > limit):
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
            shown = "gallery" if self._part.number_of(item) <= IN_GALLERY else None
            files, output = await store_whole(run, prediction, options.destination, shown)
        seconds = _seconds_of(prediction, time.monotonic() - began)
        self._note(
            item, state="succeeded", prediction_id=prediction.id, web_url=prediction.web_url,
            files=files, output=output,
            seconds=seconds, predict_time=prediction.predict_time, metrics=prediction.metrics,
        )  # fmt: skip
        self._run.say("Item %s: %s, after %.0f s", item.label, files[0].location, seconds)

    def _run_of(self, item: Item) -> Run:
        return replace(self._run, logger=_ItemLog(self._run.logger, item))

    def _request(self, item: Item, input: dict[str, Any], failed: Prediction | None) -> Request:
        options = self._part.options
        return Request(
            item.options.model,
            input,
            deadline_for(options.timeout),
            failed and failed.id,
            options.keep_on_crash,
            options.regenerate_expired,
            self._part.place_of(item),
            options.keep_for_parent,
            self._part.log,
            check_input=False,  # it has been checked, with those of all other items
        )

    def _failed(self, item: Item, error: Exception) -> None:
        why = str(error) if isinstance(error, ReplicateError) else repr(error)
        if _is_obstacle(error):
            if self._shared.obstacle is not None and not self._is_begun(item):
                self._note(item, state="skipped", error=f"not started: {self._shared.obstacle}")
                return
            self._shared.obstacle = why
        self._shared.failures += 1
        ended = getattr(error, "prediction", None)
        known = (
            {} if ended is None else {"predict_time": ended.predict_time, "metrics": ended.metrics}
        )
        self._note(item, state="failed", error=why, **known)
        self._run.say("Item %s has failed: %s", item.label, why, level=logging.ERROR)

    def _is_begun(self, item: Item) -> bool:
        return self._outcomes[item.number].prediction_id is not None

    def _note(self, item: Item, **changes: Any) -> None:
        self._outcomes[item.number] = self._outcomes[item.number].model_copy(update=changes)
        self.log.tell(self._part.key, self._part.by, self._part.number_of(item), changes)

    async def give_signs(self) -> None:
        """Show the run that assigned the part that work on it continues."""
        while self._part.options.keep_for_parent:
            written = self.log.next
            await asyncio.sleep(SIGN_SECONDS)
            if self.log.next == written:
                await self.write_down(self.log.give_sign)

    async def write_down(self, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Write to the ledger. Never raises: a retry finds out what is missing."""
        try:
            await write()
        except LedgerError as exc:
            self._run.say("%s", exc, level=logging.WARNING)


def _seconds_of(prediction: Prediction, since_start: float) -> float:
    """Return how long an item took; from its prediction's creation, if another attempt made it."""
    if prediction.created_at is None or prediction.completed_at is None:
        return since_start
    return max(since_start, (prediction.completed_at - prediction.created_at).total_seconds())
