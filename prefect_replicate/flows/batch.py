"""A batch of videos: its items, how they are made, and its parts; pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.flows.lent_credentials import LentCredentials
from prefect_replicate.flows.video_wish import Wish
from prefect_replicate.ledger.facts import digest
from prefect_replicate.values import PollPolicy, VideoOutcome, VideoRequest

OnItemFailure = Literal["continue", "stop"]
FanOut = Literal["tasks", "deployment"]


@dataclass(frozen=True)
class Item:
    """One video of a batch."""

    number: int
    """From 1, in the order of the requests."""
    request: VideoRequest
    wish: Wish
    place: str
    """What tells it from equal items, wherever and however often it is worked on."""

    def outcome(self) -> VideoOutcome:
        """How it stands before anything is done about it."""
        return VideoOutcome(
            number=self.number, id=self.request.id, prompt=self.wish.prompt, model=self.wish.model
        )


@dataclass(frozen=True)
class ItemOptions:
    """How each item is made."""

    credentials: LentCredentials
    destination: Any
    timeout: float | None
    retries: int
    policy: PollPolicy
    keep_on_crash: bool
    keep_for_parent: bool
    regenerate_expired: bool


@dataclass(frozen=True)
class Part:
    """Some items of a batch, for one process to work on."""

    key: str
    """Of the batch."""
    items: tuple[Item, ...]
    options: ItemOptions
    concurrency: int
    max_failures: int | None
    began: datetime | None = None
    """When this attempt at the batch did, by the clock of Prefect's server."""
    name: str = ""
    """What the flow run is told that it is handed to."""

    def __str__(self) -> str:
        """Which items they are."""
        return f"items {self.items[0].number} to {self.items[-1].number}"


def items_of(
    requests: Sequence[VideoRequest],
    model: str,
    input: Mapping[str, Any] | None,
    defaults: Mapping[str, Any],
    part: str,
    number_of: Callable[[str], int],
) -> list[Item]:
    """Number the items, with those parameters of the batch that they leave out.

    Args:
        requests: In order.
        model: Of those that name none.
        input: What the requests' own inputs are written over.
        defaults: Further parameters of `Wish`.
        part: Names the part of a larger batch that the requests are; empty for a whole.
        number_of: Numbers what is equal in all batches of a run, from 1.
    """
    items: list[Item] = []
    for number, request in enumerate(requests, 1):
        wish = Wish.of(request, model, input, **defaults)  # pyright: ignore[reportArgumentType]
        items.append(Item(number, request, wish, _place(part, number_of(fingerprint([wish])))))
    return items


def fingerprint(wishes: Sequence[Wish]) -> str:
    """Name what is to be made."""
    return digest(json.dumps([asdict(one) for one in wishes], sort_keys=True, default=str))


def _place(part: str, number: int) -> str:
    # The first of a whole batch has none, so that it is the same call as that of `generate_video`.
    return f"{part}:{number}" if part or number > 1 else ""


def in_parts(whole: Part, size: int) -> list[Part]:
    """Cut a batch into parts of at most so many items."""
    starts = range(0, len(whole.items), size)
    return [replace(whole, items=whole.items[start : start + size]) for start in starts]


def failures_allowed(on_item_failure: str, max_failures: int | None) -> int | None:
    """How many items may fail before nothing more is started; `None`: all of them.

    Raises:
        InvalidInputError: One of the two is no such thing.
    """
    if on_item_failure not in ("continue", "stop"):
        raise InvalidInputError(
            f"on_item_failure is 'continue' or 'stop', not {on_item_failure!r}."
        )
    if max_failures is not None and max_failures < 0:
        raise InvalidInputError(f"max_failures is 0 or more, not {max_failures}.")
    return 0 if on_item_failure == "stop" else max_failures


def check_positive(**numbers: int) -> None:
    """Refuse a number of the flow's that is not at least 1.

    Raises:
        InvalidInputError: It names the first of them.
    """
    for name, number in numbers.items():
        if number < 1:
            raise InvalidInputError(f"{name} is at least 1, not {number}. Nothing was paid.")


def merged(items: Iterable[Item], *sources: Mapping[int, VideoOutcome]) -> list[VideoOutcome]:
    """How each item stands, in order; what succeeded in any source has."""
    return [_best([source[item.number] for source in sources if item.number in source], item)
            for item in items]  # fmt: skip


def _best(known: Sequence[VideoOutcome], item: Item) -> VideoOutcome:
    done = [one for one in known if one.state == "succeeded"]
    return (done or [*reversed(known)] or [item.outcome()])[0]
