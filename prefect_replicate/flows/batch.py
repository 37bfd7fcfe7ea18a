"""What all batches do: read, check, work on, and show the items."""

# No `from __future__ import annotations` in modules with flows and tasks: Prefect loads a served
# flow from its file, where Pydantic could not resolve string annotations.

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import Abort, Pause
from prefect.futures import PrefectFuture
from prefect.logging.loggers import get_run_logger

from prefect_replicate.batch.fan_out import handing_out
from prefect_replicate.batch.plan import Batch as Asked
from prefect_replicate.batch.prepared import Batch, OpaquePart, for_task_runner, prepare
from prefect_replicate.batch.view import LOOK_SECONDS
from prefect_replicate.batch.work import work_on
from prefect_replicate.blocks.credentials import call_as
from prefect_replicate.engine import Caller, acall, call
from prefect_replicate.exceptions import ConfigurationError, RunEndedError
from prefect_replicate.ledger.scope import RunScope, keep_result_if_deployed
from prefect_replicate.values import ItemOutcome, ModelOutputs


@task(name="generate-videos-part", task_run_name="generate {part}", cache_policy=NO_CACHE)
def _generate_part(part: OpaquePart) -> list[ItemOutcome]:
    credentials = call(lambda _: part.content.options.credentials.get())
    return call_as(credentials, work_on, part.content)


def _preparing(asked: Asked) -> Callable[[Caller], Coroutine[Any, Any, Batch]]:
    scope, logger = RunScope.current(), get_run_logger()
    return lambda caller: prepare(asked, scope, logger, caller)


class _Submitted:
    """The parts of a batch that a task runner works on."""

    def __init__(self, batch: Batch) -> None:
        parts = for_task_runner(batch.asked, batch.parts)
        submit = cast("Callable[..., PrefectFuture[list[ItemOutcome]]]", _generate_part.submit)  # pyright: ignore[reportUnknownMemberType]
        self._running = [(part, submit(OpaquePart(part))) for part in parts]
        self._batch = batch

    def __enter__(self) -> "_Submitted":
        return self

    def __exit__(self, reason: type[BaseException] | None, *_: object) -> None:
        if reason is not None and not issubclass(reason, Pause | Abort):
            # Blocks, because an event loop whose flow was canceled would cancel an await, too.
            call(self._batch.leave)

    def are_done(self, seconds: float) -> bool:
        """Wait for them for up to `seconds`, and note the outcomes of their items.

        Raises:
            RunEndedError: Prefect has ended the flow run.
            ConfigurationError: No item can be made: no usable token, or nowhere to store a file.
        """
        while self._running:
            part, future = self._running[0]
            try:
                # As a value, because a failure may be a `TimeoutError` too.
                made: Any = future.result(timeout=seconds, raise_on_failure=False)
            except TimeoutError:
                return False
            except Exception as exc:  # noqa: BLE001 - whatever a task runner fails with
                made = exc
            if isinstance(made, RunEndedError | ConfigurationError):
                raise made
            if isinstance(made, list):
                self._batch.view.tell(cast("list[ItemOutcome]", made))
            else:
                self._batch.view.lose(part, f"the task that worked on it has ended: {made!r}")
            del self._running[0]
        return True


def made(asked: Asked) -> ModelOutputs:
    """Make all items of a batch."""
    keep_result_if_deployed()
    batch = call(_preparing(asked))
    if batch.asked.is_handed_out:
        call(handing_out(batch))
    else:
        with _Submitted(batch) as submitted:
            while not submitted.are_done(LOOK_SECONDS):
                call(batch.look)
    return call(batch.result)


async def amade(asked: Asked) -> ModelOutputs:
    """Async version of `made`."""
    keep_result_if_deployed()
    batch = await acall(_preparing(asked))
    if batch.asked.is_handed_out:
        await acall(handing_out(batch))
    else:
        with _Submitted(batch) as submitted:
            while not await asyncio.to_thread(submitted.are_done, LOOK_SECONDS):
                await acall(batch.look)
    return await acall(batch.result)
