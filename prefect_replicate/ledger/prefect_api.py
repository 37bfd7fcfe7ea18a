"""The engine's way to Prefect's API, and the one place where its errors become ours."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError


class _Clients(dict["str | None", PrefectClient]):
    """By API address."""


async def prefect_client() -> PrefectClient:
    """The engine's client for the API that the caller's settings name."""
    clients = process_state("prefect clients", _Clients)
    address = PREFECT_API_URL.value()
    if address not in clients:
        with as_ledger_error("be reached"):
            clients[address] = await get_client().__aenter__()
    return clients[address]


@contextmanager
def as_ledger_error(action: str) -> Generator[None, None, None]:
    """Turn what Prefect's client raises into a `LedgerError`: Prefect's API could not `action`."""
    try:
        yield
    # The last two are what `get_client` raises, when no address is set or its own server won't
    # start, and what a block that is not there does.
    except (httpx.HTTPError, PrefectException, RuntimeError, ValueError) as exc:
        raise LedgerError(f"Prefect's API could not {action}: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    if isinstance(exc, httpx.HTTPStatusError):
        reply = exc.response
        return f"{reply.status_code} {reply.reason_phrase} for {exc.request.url}"
    return f"{type(exc).__name__}: {exc}".splitlines()[0]
