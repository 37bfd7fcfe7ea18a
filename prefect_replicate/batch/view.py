"""What is shown of a batch while it runs: a table, and one progress bar."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from pydantic import ValidationError

from prefect_replicate.batch.plan import Item, Part, merged
from prefect_replicate.engine import Caller, in_thread
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.ledger import Ledger
from prefect_replicate.ledger.log import BatchLog, Standing
from prefect_replicate.ledger.prefect_api import create_artifact, update_artifact
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.lifecycle.delivery import previews_of
from prefect_replicate.outputs import is_there
from prefect_replicate.presentation import cell
from prefect_replicate.previews import Preview
from prefect_replicate.text import in_line
from prefect_replicate.values import ItemOutcome
from prefect_replicate.values.batch import counts_of

_PROMPT_LENGTH = 60
_RESULT_LENGTH = 300
_TABLE_BYTES = 280_000
_LOOK_ALIKE = str.maketrans("<>`", "‹›'")
_GALLERY_COLUMNS = 3

IN_GALLERY = 40
"""How many of a batch's items are drawn: the first ones."""


def rows(outcomes: Sequence[ItemOutcome]) -> list[dict[str, Any]]:
    """Return the table's rows as plain text.

    What matters comes first, because the table may be wider than a screen. If the
    rows don't all fit in an artifact, those that have succeeded are left out first.
    """
    shown = [_row(one) for one in outcomes]
    sizes = [len(json.dumps(row)) + 2 for row in shown]
    if sum(sizes) <= _TABLE_BYTES:
        return shown
    order = sorted(range(len(shown)), key=lambda index: outcomes[index].state == "succeeded")
    size, kept = 0, set[int]()
    for index in order:
        size += sizes[index]
        if size > _TABLE_BYTES:
            break
        kept.add(index)
    more = {**dict.fromkeys(shown[0], ""), "item": "…", "result": f"{len(shown) - len(kept)} more"}
    return [*(row for index, row in enumerate(shown) if index in kept), more]


def _row(one: ItemOutcome) -> dict[str, Any]:
    return {
        "item": one.number if one.id is None else f"{one.number} ({one.id})",
        "state": one.state,
        "prompt": _plain(one.prompt or "", _PROMPT_LENGTH),
        "result": _plain(_result(one), _RESULT_LENGTH),
        "seconds": None if one.seconds is None else round(one.seconds, 1),
        "prediction": one.prediction_id or "",
    }


def _plain(text: str, most: int) -> str:
    """Return a text that reads the same in both UIs.

    V1 interprets a cell as Markdown and HTML, and V2 shows any characters that would escape them.
    """
    return in_line(text, most).translate(_LOOK_ALIKE).replace("](", "] (")


def _result(one: ItemOutcome) -> str:
    """Return the text, where the files are, or why there is no output."""
    if one.error is not None:
        return one.error
    if one.output is not None:
        return one.output if isinstance(one.output, str) else json.dumps(one.output)
    return ", ".join(file.location for file in one.files)


def gallery(outcomes: Sequence[ItemOutcome], previews: Mapping[int, Preview]) -> str:
    """Return pictures of the output as a Markdown table.

    Args:
        outcomes: All outcomes, in order.
        previews: Previews by the number of the item.
    """
    shown = [one for one in outcomes if previews.get(one.number, Preview()).still]
    if not shown:
        return ""
    lines = ["|" + " |" * _GALLERY_COLUMNS, "|" + " --- |" * _GALLERY_COLUMNS]
    for start in range(0, len(shown), _GALLERY_COLUMNS):
        row = shown[start : start + _GALLERY_COLUMNS]
        images = [f'<img src="{previews[one.number].still}" width="160">' for one in row]
        titles = [f"{one.number}: {cell(one.prompt or one.id or '', 24)}" for one in row]
        lines += [f"| {' | '.join(images)} |", f"| {' | '.join(titles)} |"]
    left = sum(one.state == "succeeded" for one in outcomes) - len(shown)
    return "\n".join(lines) + (f"\n\nand {left:,} more, without a picture" if left else "")


def percent_over(outcomes: Sequence[ItemOutcome]) -> float:
    """Return the percentage of items that are done or given up."""
    return round(100.0 * sum(one.is_over for one in outcomes) / len(outcomes), 1)


def _outcome(item: Item, changes: Mapping[str, Any]) -> ItemOutcome:
    begun = item.outcome
    try:
        return ItemOutcome.model_validate({**dict(begun), **changes, "number": begun.number})
    except ValidationError:  # of another version; the ledger says the same in more detail
        return begun


_ACTION = "show the progress of a batch"
LOOK_SECONDS = 2.0
"""Shortest time between two updates of a batch's progress."""

_LAST_SECONDS = 3.0

_SHARE_OF_TIME = 0.05
"""The share of a process's time that these updates may take, however large the batch."""


class BatchView:
    """What is known about a batch, and its artifacts. Lives on the engine's event loop.

    Args:
        parts: Its parts, with all its items.
        ledger: The ledger in which these are recorded.
        scope: The run that shows it.
        logger: The logger of that run.
        key: The key of the table, and the start of the gallery's.
        is_elsewhere: Whether other processes work on it.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        ledger: Ledger,
        scope: RunScope,
        logger: Any,
        *,
        key: str,
        is_elsewhere: bool,
    ) -> None:
        self._parts = parts
        self._items = [item for part in parts for item in part.items]
        self._ledger = ledger
        self._scope = scope
        self._logger = logger
        self._key = key
        self._is_elsewhere = is_elsewhere
        self.workers = {part.key: part.by for part in parts}
        """By key of a part: what works on it now, as a flow run or a `Part.by`."""
        self._told: dict[int, ItemOutcome] = {}
        self._seen: dict[int, tuple[Standing, ItemOutcome]] = {}
        self._lost: dict[int, str] = {}
        self._shown: list[ItemOutcome] = []
        self._artifacts: dict[str, UUID] = {}
        self.looked_at = time.monotonic()
        """When what is known here was last updated, by our own clock."""
        self._next_look = 0.0

    @property
    def outcomes(self) -> list[ItemOutcome]:
        """The latest known outcomes of all items, in order."""
        return [
            one
            if one.is_over or one.number not in self._lost
            else one.failed(self._lost[one.number])
            for one in merged(self._items, self._written, self._told)
        ]

    @property
    def _written(self) -> dict[int, ItemOutcome]:
        """The recorded outcomes, by item number.

        A success always counts; anything else only if what works on the part now recorded it.
        """
        found: dict[int, ItemOutcome] = {}
        for part, _, item, one in self._standings():
            if self.workers[part.key] in (one.by, one.flow_run) or one.is_succeeded:
                seen = self._seen.get(item.number)
                if seen is None or seen[0] is not one:
                    seen = self._seen[item.number] = one, _outcome(item, one.changes)
                found[item.number] = seen[1]
        return found

    def _standings(self) -> Iterator[tuple[Part, int, Item, Standing]]:
        """Yield what is recorded about items, and their numbers in their parts."""
        for part in self._parts:
            written = self.log_of(part).items[part.key]
            for number, item in enumerate(part.items, 1):
                if (one := written.get(number)) is not None:
                    yield part, number, item, one

    def log_of(self, part: Part) -> BatchLog:
        return self._ledger.batch(part.log)

    def tell(self, outcomes: Sequence[ItemOutcome]) -> None:
        """Note the outcomes of items, which may not be recorded yet."""
        self._told |= {one.number: one for one in outcomes}

    def lose(self, part: Part, why: str) -> None:
        """Note that nothing works on the unfinished items of a part any longer."""
        self._lost |= {item.number: why for item in part.items}

    async def begin(self) -> None:
        """Find what earlier attempts have done, and show the table.

        Raises:
            LedgerError: Prefect's API could not be read or written.
        """
        await self.read()
        if not self._is_elsewhere:  # else the files may be on other machines
            await in_thread(self._forget_what_is_gone)
        await self._show()

    def _forget_what_is_gone(self) -> None:
        """Don't count an item as done if its files are not where they were stored.

        They are fetched again, while Replicate has them.
        """
        for part, number, item, one in list(self._standings()):
            files = _outcome(item, one.changes).files
            if one.is_succeeded and not (files and all(map(is_there, files))):
                del self.log_of(part).items[part.key][number]

    async def read(self) -> None:
        """Read what others have recorded.

        Raises:
            LedgerError: The ledger can't be read.
        """
        for start in {part.log.rpartition("-b")[0] for part in self._parts}:
            await self._ledger.read(f"{start}-b")

    def keep_done(self, attempt: str) -> None:
        """Reserve what has succeeded, so that equal calls of an attempt don't take it."""
        for part, _, item, one in self._standings():
            if one.is_succeeded:
                for log in self._ledger.of(str(one.changes.get("prediction_id"))):
                    log.reserved.setdefault(attempt, part.place_of(item))

    async def look(self, caller: Caller) -> None:
        """Read and show the batch's progress, if it is time to. Never raises."""
        began = time.monotonic()
        if began < self._next_look:
            return
        try:
            if self._is_elsewhere:
                await self.read()
                await self._stop_if_too_many_failed()
            self.looked_at = began
            await self._show()
        except LedgerError as exc:
            self._warn(caller, exc)
        now = time.monotonic()
        self._next_look = now + max(LOOK_SECONDS, (now - began) / _SHARE_OF_TIME)

    async def show_last(self) -> None:
        """Show what is known when the batch is cut off; the state hook adds how it ended.

        Never raises, and takes a moment at most, because the process may be about to be killed.
        """
        with contextlib.suppress(LedgerError, asyncio.TimeoutError):
            await asyncio.wait_for(self._show(), _LAST_SECONDS)

    async def finish(self, caller: Caller) -> list[ItemOutcome]:
        """Show the final outcomes, and return them. Never raises."""
        try:
            if self._lost:
                await self.read()
            await self._show()
            await self._show_gallery()
        except LedgerError as exc:
            self._warn(caller, exc)
        return self.outcomes

    def _warn(self, caller: Caller, error: LedgerError) -> None:
        message = str(error)
        caller.tell(lambda: self._logger.warning("%s", message))

    async def _stop_if_too_many_failed(self) -> None:
        limit = self._parts[0].max_failures
        failed = sum(one.state == "failed" for one in self.outcomes)
        if limit is None or failed <= limit:
            return
        for part in self._parts:
            log, worker = self.log_of(part), self.workers[part.key]
            if worker not in log.stopped:
                await log.stop(worker)

    async def _show(self) -> None:
        outcomes = self.outcomes
        if outcomes == self._shown:
            return
        words = counts_of(outcomes)
        await self._write("table", self._key, data=json.dumps(rows(outcomes)), description=words)
        await self._write("progress", None, data=percent_over(outcomes), description=words)
        self._shown = outcomes

    async def _show_gallery(self) -> None:
        outcomes = self.outcomes
        first = [one for one in outcomes[:IN_GALLERY] if one.state == "succeeded" and one.files]
        drawn = await previews_of([one.files[0] for one in first], "gallery")
        page = gallery(
            outcomes, {one.number: shown for one, shown in zip(first, drawn, strict=True)}
        )
        if page:
            words = counts_of(outcomes)
            await self._write("markdown", f"{self._key}-gallery", data=page, description=words)

    async def _write(self, type: str, key: str | None, **content: Any) -> None:
        if type in self._artifacts:
            await update_artifact(self._artifacts[type], ArtifactUpdate(**content), _ACTION)
            return
        artifact = ArtifactCreate(
            key=key, type=type, flow_run_id=self._scope.flow_run_id, **content
        )
        self._artifacts[type] = await create_artifact(artifact, _ACTION)
