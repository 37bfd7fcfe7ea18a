"""What a run of `generate_videos` was asked for, made ready to be worked on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.blocks.core import Block
from prefect.logging.loggers import get_run_logger

from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.cleanup.hook import cancel_all
from prefect_replicate.engine import Caller, Work
from prefect_replicate.exceptions import (
    BatchError,
    ConfigurationError,
    InvalidInputError,
    LedgerError,
)
from prefect_replicate.flows.batch import (
    Item,
    ItemOptions,
    Part,
    check_positive,
    failures_allowed,
    fingerprint,
    in_parts,
    items_of,
)
from prefect_replicate.flows.batch_input import duplicates, requests_from
from prefect_replicate.flows.batch_part import Shared, shared_by
from prefect_replicate.flows.batch_view import BatchView
from prefect_replicate.flows.lent_credentials import LentCredentials
from prefect_replicate.flows.video_wish import VideoDefaults
from prefect_replicate.ledger.facts import digest
from prefect_replicate.ledger.log import Ledger, ledger_of
from prefect_replicate.ledger.scope import RunScope, ancestry_of
from prefect_replicate.lifecycle.creation import keeps
from prefect_replicate.values import GeneratedVideos, PollPolicy, VideoRequest

_DEFAULTS = tuple(VideoDefaults.__annotations__)
_PASSED_ON = (
    "timeout",
    "retries",
    "on_crash",
    "regenerate_expired",
    "concurrency",
    "on_item_failure",
    "max_failures",
    "chunk_size",
)
_MOST_DUPLICATES = 5


@dataclass(frozen=True)
class Order:
    """The parameters of `generate_videos`, which documents them."""

    requests: Sequence[VideoRequest | Mapping[str, Any] | str] | None
    prompt: str | None
    variations: Sequence[Mapping[str, Any]] | None
    path: str | Path | None
    model: str
    input: Mapping[str, Any] | None
    credentials: ReplicateCredentials | None
    image: str | Path | None
    duration: float | None
    aspect_ratio: str | None
    resolution: str | None
    seed: int | None
    negative_prompt: str | None
    destination: Any
    timeout: float | None
    retries: int
    policy: PollPolicy
    on_crash: str
    regenerate_expired: bool
    concurrency: int
    on_item_failure: str
    max_failures: int | None
    raise_on_failure: bool
    chunk_size: int
    fan_out: str
    deployment: str
    worker_timeout: float | None
    part: str

    def prepared(self) -> Work[Batch]:
        """Read and check the batch, and find what earlier attempts of the run have done of it."""
        scope, logger = RunScope.current(), get_run_logger()
        return lambda caller: _prepared(self, scope, logger, caller)

    @property
    def lent(self) -> LentCredentials:
        return LentCredentials(self.credentials)

    @property
    def is_handed_out(self) -> bool:
        return self.fan_out == "deployment"

    def check(self) -> None:
        """Refuse parameters that make no sense.

        Raises:
            InvalidInputError: It names the first of them.
        """
        check_positive(concurrency=self.concurrency, chunk_size=self.chunk_size)
        if self.fan_out not in ("tasks", "deployment"):
            raise InvalidInputError(f"fan_out is 'tasks' or 'deployment', not {self.fan_out!r}.")

    def whole(self, requests: Sequence[VideoRequest], scope: RunScope, ledger: Ledger) -> Part:
        """All of the batch as one part, without its key yet."""
        defaults = {name: getattr(self, name) for name in _DEFAULTS}
        options = ItemOptions(
            credentials=self.lent,
            destination=self.destination,
            timeout=self.timeout,
            retries=self.retries,
            policy=self.policy,
            keep_on_crash=keeps(self.on_crash),
            keep_for_parent=bool(self.part),
            regenerate_expired=self.regenerate_expired,
        )
        number = partial(ledger.occurrences.number, scope.levels)
        items = items_of(requests, self.model, self.input, defaults, self.part, number)
        allowed = failures_allowed(self.on_item_failure, self.max_failures)
        return Part("", tuple(items), options, self.concurrency, allowed)


@dataclass(frozen=True)
class Batch:
    """A batch that is ready to be worked on."""

    order: Order
    parts: list[Part]
    """What is left to be done of it."""
    shared: Shared | None
    """Kept for parts that this process works on one after the other."""
    view: BatchView
    scope: RunScope
    logger: Any
    began: float

    async def look(self, caller: Caller) -> None:
        """Show how it stands; for `engine.call`."""
        await self.view.look(caller)

    async def leave(self, caller: Caller) -> None:
        """Have those who work on it in this process come to an end; for `engine.call`.

        Prefect interrupts the flow's function alone: it waits for the tasks that it has submitted,
        or begins its next attempt beside them.
        """
        if self.shared is not None:
            self.shared.left.set()

    async def result(self, caller: Caller) -> GeneratedVideos:
        """Show how it has ended; for `engine.call`.

        Raises:
            BatchError: Not all have succeeded, and that counts.
        """
        outcomes = await self.view.finish(caller)
        videos = GeneratedVideos(outcomes=outcomes, wall_seconds=time.monotonic() - self.began)
        summary = videos.summary
        caller.tell(lambda: self.logger.info("%s", summary))
        if self.order.raise_on_failure and len(videos.succeeded) < len(outcomes):
            raise BatchError(_complaint(videos), videos)
        if videos.failed:
            await self._leave_nothing_running(caller)
        return videos

    async def _leave_nothing_running(self, caller: Caller) -> None:
        # As the hook does when the run fails: an item may have failed because its prediction could
        # not be looked at any more.
        assert self.scope.flow_run_id is not None
        try:
            await cancel_all(caller, self.scope.flow_run_id, self.logger)
        except LedgerError as exc:
            message = str(exc)
            caller.tell(lambda: self.logger.warning("%s", message))


def _complaint(videos: GeneratedVideos) -> str:
    first = next(one for one in videos.outcomes if one.state != "succeeded")
    return (
        f"{videos.summary}. The first is item {first.number}: {first.error} A retry of the run"
        " redoes only what has not succeeded."
    )


async def _prepared(order: Order, scope: RunScope, logger: Any, caller: Caller) -> Batch:
    began = time.monotonic()
    order.check()
    requests = await requests_from(order.requests, order.prompt, order.variations, order.path)
    _tell_duplicates(caller, logger, requests)
    ancestry = await ancestry_of(scope)
    assert ancestry is not None  # this is a flow
    ledger = await ledger_of(scope)
    whole = order.whole(requests, scope, ledger)
    key = key_of_part(ancestry.root, "", whole.items)
    if order.is_handed_out:
        equal = ledger.occurrences.number(scope.levels, key)
        parts = handed_out(whole, order.chunk_size, ancestry.root, equal)
    elif order.part:
        key = key_of_part(ancestry.root, order.part, whole.items)
        parts = [replace(whole, key=key)]
    else:
        # Equal batches of one run are told apart as equal predictions are, by their order.
        call = ledger.occurrences.claim(scope, ancestry.attempt, key).name
        parts = [replace(whole, key=key_of_part(ancestry.root, call, whole.items))]
    keys = {one.key: one.items[0].number - 1 for one in parts}
    view = BatchView(whole.items, keys, whole.max_failures, scope, logger)
    await view.begin()
    left = _left(parts, view, order)
    count = len(requests) - sum(len(part.items) for part in left)
    if count:
        caller.tell(lambda: logger.info("%d of %d items are done already", count, len(requests)))
    shared = None if order.is_handed_out or not left else shared_by(left[0])
    return Batch(order, left, shared, view, scope, logger, began)


def _tell_duplicates(caller: Caller, logger: Any, requests: Sequence[VideoRequest]) -> None:
    groups = duplicates(requests)
    for numbers in groups[:_MOST_DUPLICATES]:
        shown = ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "")
        message = f"Items {shown} are equal: each is generated, and paid for"
        caller.tell(partial(logger.warning, message))
    if len(groups) > _MOST_DUPLICATES:
        more = f"So are items in {len(groups) - _MOST_DUPLICATES} more groups"
        caller.tell(partial(logger.warning, more))


def handed_out(whole: Part, size: int, root: UUID, equal: int) -> list[Part]:
    """Cut a batch into parts, with the keys that they have in the runs that get them; pure.

    Args:
        whole: The batch.
        size: Of a part.
        root: The run at the top.
        equal: Which of several equal batches of that run it is.
    """
    parts = in_parts(whole, size)
    names = [f"{equal}.{number}" for number in range(1, len(parts) + 1)]
    return [
        replace(part, name=name, key=key_of_part(root, name, part.items))
        for name, part in zip(names, parts, strict=True)
    ]


def key_of_part(root: UUID, name: str, items: Sequence[Item]) -> str:
    """Name what is to be made, in which run, as which of its batches or parts."""
    wishes = fingerprint([item.wish for item in items])
    return f"replicate-{digest([str(root), name, wishes])[:16]}"


def _left(parts: Sequence[Part], view: BatchView, order: Order) -> list[Part]:
    done = {one.number for one in view.outcomes if one.state == "succeeded"}
    if order.is_handed_out:  # whole, as they are known by all of their items
        return [one for one in parts if not done.issuperset(item.number for item in one.items)]
    [whole] = parts
    items = tuple(item for item in whole.items if item.number not in done)
    return in_parts(replace(whole, items=items, began=view.began), order.chunk_size)


def parameters_for(order: Order, part: Part) -> dict[str, Any]:
    """The parameters of the flow run that a part is handed to, as JSON.

    Raises:
        ConfigurationError: A block among them is not saved, and can't be handed over.
        InvalidInputError: An input is nothing that could be sent.
    """
    credentials = order.lent.reference()
    own = {
        **({"credentials": credentials} if credentials else {}),
        "requests": [item.request.model_dump(exclude_defaults=True) for item in part.items],
        "destination": destination_reference(order.destination),
        "policy": order.policy.model_dump(),
        "raise_on_failure": False,
        "part": part.name,
    }
    names = ("model", "input", *_DEFAULTS, *_PASSED_ON)
    parameters = {name: getattr(order, name) for name in names} | own
    try:
        return json.loads(json.dumps(parameters))
    except TypeError as exc:
        raise InvalidInputError(
            f"The batch can't be handed to other runs: {exc}. Give files as URLs. Nothing was paid."
        ) from exc


def destination_reference(destination: Any) -> str:
    """The destination as other processes are told of it.

    Raises:
        ConfigurationError: It is a block that is not saved.
    """
    if isinstance(destination, Block):
        name = destination._block_document_name  # pyright: ignore[reportPrivateUsage] no public way
        if name is None:
            raise ConfigurationError(
                f"The {type(destination).__name__} block given as destination is not saved, and"
                " can't be handed to other processes. Save it with `.save(NAME)`. Nothing was paid."
            )
        return f"block:{destination.get_block_type_slug()}/{name}"
    return str(destination)
