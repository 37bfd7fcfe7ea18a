"""The run on whose behalf the engine works."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar
from uuid import UUID

from prefect.exceptions import MissingContextError
from prefect.logging.loggers import get_run_logger

from prefect_replicate.api.connection import Address, Connection, connection_to
from prefect_replicate.engine import Caller
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.text import printable

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Run:
    """The run of a call, its account, and where its results and log lines go."""

    connection: Connection
    credentials_block: UUID | None
    scope: RunScope
    caller: Caller
    logger: Any
    file_hosts: frozenset[str] = frozenset()
    """Hosts of the files of the account's predictions, in addition to Replicate's own."""

    def say(self, message: str, *values: Any, level: int = logging.INFO) -> None:
        """Log in the caller's run."""
        shown = [printable(value) if isinstance(value, str) else value for value in values]
        self.caller.tell(lambda: self.logger.log(level, message, *shown))


class Account(NamedTuple):
    """The credentials of a call."""

    address: Address
    block: UUID | None
    """The saved block of the credentials, if they are in one."""
    file_hosts: frozenset[str]


def bound(
    account: Account,
    do: Callable[Concatenate[Run, P], Coroutine[Any, Any, T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Callable[[Caller], Coroutine[Any, Any, T]]:
    """Bind `do` to an account and to the current Prefect run, as work for the engine."""
    scope = RunScope.current()
    try:
        logger: Any = get_run_logger()
    except MissingContextError:
        logger = logging.getLogger("prefect_replicate")

    def work(caller: Caller) -> Coroutine[Any, Any, T]:
        connection = connection_to(account.address)
        run = Run(connection, account.block, scope, caller, logger, account.file_hosts)
        return do(run, *args, **kwargs)

    return work
