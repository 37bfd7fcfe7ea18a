"""The run on whose behalf something is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from prefect.exceptions import MissingContextError
from prefect.logging.loggers import get_run_logger

from prefect_replicate.api.connection import Address, Connection, connection_to
from prefect_replicate.engine import Caller, Work
from prefect_replicate.ledger.scope import RunScope

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """Who is asking, as whom, and where the answers and the log lines go."""

    connection: Connection
    credentials_block: UUID | None
    scope: RunScope
    caller: Caller
    logger: Any

    def say(self, message: str, *values: Any, level: int = logging.INFO) -> None:
        """Log in the caller's run."""
        self.caller.tell(lambda: self.logger.log(level, message, *values))


def on_behalf(
    address: Address, credentials_block: UUID | None, do: Callable[[Run], Coroutine[Any, Any, T]]
) -> Work[T]:
    """Bind `do` to the Prefect run that we are in, as work for the engine."""
    scope, logger = RunScope.current(), _current_logger()

    async def work(caller: Caller) -> T:
        connection = connection_to(address)
        return await do(Run(connection, credentials_block, scope, caller, logger))

    return work


def _current_logger() -> Any:
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("prefect_replicate")
