"""A prepared batch, from its start to its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

from prefect.context import FlowRunContext
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_replicate.batch.plan import Batch as Asked
from prefect_replicate.batch.plan import (
    Part,
    destination_reference,
    handed_out,
    in_parts,
    key_of_part,
    log_of,
)
from prefect_replicate.batch.requests import duplicates
from prefect_replicate.batch.view import BatchView
from prefect_replicate.batch.work import Shared, shared_by
from prefect_replicate.cleanup.hook import cancel_all
from prefect_replicate.engine import Caller
from prefect_replicate.exceptions import BatchError, LedgerError
from prefect_replicate.ledger.ledger import ledger_of
from prefect_replicate.ledger.scope import RunScope, ancestry_of
from prefect_replicate.settings import check_input_file
from prefect_replicate.values import ModelOutputs, ModelRequest, VideoRequest

_MOST_DUPLICATES = 5


@dataclass(frozen=True)
class Batch:
    """A batch that is ready to be worked on."""

    asked: Asked
    parts: list[Part]
    """What is left to do."""
    shared: Shared | None
    """Kept for parts that this process works on one after the other."""
    view: BatchView
    scope: RunScope
    logger: Any
    began: float

    async def look(self, caller: Caller) -> None:
        """Show its progress; for `engine.call`."""
        await self.view.look(caller)

    async def leave(self, caller: Caller) -> None:
        """Stop the work on it in this process; for `engine.call`.

        Prefect interrupts only the flow's function: it waits for the tasks that it has submitted,
        or begins its next attempt while they run.
        """
        if self.shared is not None:
            self.shared.left.set()
        await self.view.show_last()

    async def result(self, caller: Caller) -> ModelOutputs:
        """Show how it has ended; for `engine.call`.

        Raises:
            BatchError: Not all items succeeded, and `raise_on_failure` is set.
        """
        outcomes = await self.view.finish(caller)
        videos = self.asked.result(outcomes, time.monotonic() - self.began)
        summary = videos.summary
        caller.tell(lambda: self.logger.info("%s", summary))
        if self.asked.raise_on_failure and len(videos.succeeded) < len(outcomes):
            raise BatchError(_complaint(videos), videos)
        if videos.failed:
            await self._leave_nothing_running(caller)
        return videos

    async def _leave_nothing_running(self, caller: Caller) -> None:
        # As the hook does when the run fails: an item may have failed because its prediction could
        # no longer be polled.
        assert self.scope.flow_run_id is not None
        try:
            await cancel_all(caller, self.scope.flow_run_id, self.logger)
        except LedgerError as exc:
            message = str(exc)
            caller.tell(lambda: self.logger.warning("%s", message))


def _complaint(videos: ModelOutputs) -> str:
    first = next(one for one in videos.outcomes if one.state != "succeeded")
    return (
        f"{videos.summary}. The first is item {first.number}: {first.error} A retry of the run"
        " redoes only the items that have not succeeded."
    )


async def prepare(asked: Asked, scope: RunScope, logger: Any, caller: Caller) -> Batch:
    """Read and check the batch, and find which items earlier attempts of the run have done.

    Raises:
        InvalidInputError: The batch is invalid; nothing was paid.
        LedgerError: Prefect's API could not be read or written.
    """
    began = time.monotonic()
    asked.check()
    if isinstance(asked.path, str) and not asked.path.startswith("block:"):
        check_input_file(asked.path, "path", is_deployed=scope.is_deployed)
    items = await asked.items()
    _tell_duplicates(caller, logger, [item.request for item in items])
    ancestry = await ancestry_of(scope)
    assert ancestry is not None  # this is a flow
    ledger = await ledger_of(scope)
    whole = asked.whole(items)
    key = key_of_part(ancestry.root, "", whole.items)
    whole = replace(whole, by=f"{scope.flow_run_id}/{uuid4().hex[:8]}")
    if asked.is_handed_out:
        equal = ledger.occurrences.number(scope.levels, key)
        parts = handed_out(whole, asked.chunk_size, ancestry.root, equal)
    elif asked.part:
        key = key_of_part(ancestry.root, asked.part, whole.items)
        parts = [replace(whole, key=key, log=log_of(ancestry.root, asked.part))]
    else:
        # Equal batches of one run are told apart as equal predictions are.
        call = ledger.occurrences.claim(scope, ancestry.attempt, key).name
        key = key_of_part(ancestry.root, call, whole.items)
        parts = [replace(whole, key=key, log=log_of(scope.levels[-1].run_id, ""))]
    is_elsewhere = asked.is_handed_out or task_runner_elsewhere() is not None
    view = BatchView(parts, ledger, scope, logger, key=asked.ARTIFACT, is_elsewhere=is_elsewhere)
    await view.begin()
    view.keep_done(str(ancestry.attempt))
    left = _left(parts, view, asked)
    count = len(items) - sum(len(part.items) for part in left)
    if count:
        caller.tell(lambda: logger.info("%d of %d items are already done", count, len(items)))
    shared = None if asked.is_handed_out or not left else shared_by(left[0])
    return Batch(asked, left, shared, view, scope, logger, began)


def _tell_duplicates(
    caller: Caller, logger: Any, requests: Sequence[VideoRequest | ModelRequest]
) -> None:
    groups = duplicates(requests)
    for numbers in groups[:_MOST_DUPLICATES]:
        shown = ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "")
        message = f"Items {shown} are equal: each is generated and paid for"
        caller.tell(partial(logger.warning, message))
    if len(groups) > _MOST_DUPLICATES:
        more = f"So are items in {len(groups) - _MOST_DUPLICATES} more groups"
        caller.tell(partial(logger.warning, more))


def _left(parts: Sequence[Part], view: BatchView, asked: Asked) -> list[Part]:
    done = {one.number for one in view.outcomes if one.state == "succeeded"}
    if asked.is_handed_out:  # whole, because all items of a part identify it
        return [one for one in parts if not done.issuperset(item.number for item in one.items)]
    [whole] = parts
    items = tuple(item for item in whole.items if item.number not in done)
    return in_parts(replace(whole, items=items), asked.chunk_size)


class OpaquePart:
    """A part as a task's parameter, which Prefect does not search for futures.

    Prefect would visit each of thousands of items, and its own `quote` arrives as a tuple on Dask
    and Ray.
    """

    def __init__(self, content: Part) -> None:
        self.content = content

    def __str__(self) -> str:
        return str(self.content)


def task_runner_elsewhere() -> FlowRunContext | None:
    """Return the context of the flow if its tasks run in other processes, else `None`."""
    context = FlowRunContext.get()
    is_here = context is None or isinstance(context.task_runner, ThreadPoolTaskRunner)
    return None if is_here else context


def for_task_runner(asked: Asked, parts: Sequence[Part]) -> list[Part]:
    """Return the parts, with references in place of blocks if the tasks run in other processes.

    Raises:
        ConfigurationError: A block is not saved, and its secrets must not be sent.
    """
    context = task_runner_elsewhere()
    if context is None:
        return list(parts)
    asked.lent.reference()  # raises if they are not saved
    destination = destination_reference(asked.destination)
    # Prefect sends these along with each task: the secrets of blocks, and thousands of items.
    context.parameters = {}
    return [replace(part, options=replace(part.options, destination=destination)) for part in parts]
