"""The only access to Prefect's API, and the one place where its errors become ours."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.objects import Artifact
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from prefect_replicate.api.clock import Clock
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.text import all_printable


class _Servers(dict["str | None", "tuple[PrefectClient, Clock]"]):
    """By API address: the engine's client, and the server's clock."""


async def prefect_client() -> PrefectClient:
    """Return the engine's client for the API that the caller's settings name."""
    return (await _server())[0]


async def server_clock() -> Clock:
    """Return the clock of Prefect's server, as its replies state it."""
    return (await _server())[1]


async def _server() -> tuple[PrefectClient, Clock]:
    servers = process_state("prefect servers", _Servers)
    address = PREFECT_API_URL.value()
    if address not in servers:
        with as_ledger_error("be reached"):
            servers[address] = await get_client().__aenter__(), Clock()
    return servers[address]


async def request(
    action: str, method: Any, path: Any, expected: int = 200, **options: Any
) -> httpx.Response:
    """Send a request, and return its reply.

    Args:
        action: What Prefect's API could not do if it fails, for the message.
        method: The HTTP method.
        path: Below the API's address.
        expected: Status of the reply; another 2xx comes from something in between.
        options: Of `PrefectClient.request`.

    Raises:
        LedgerError: It failed; `__cause__` is the reason.
    """
    client, clock = await _server()
    sent_at = time.monotonic()
    with as_ledger_error(action):
        reply = await client.request(method, path, **options)
        if reply.status_code != expected:
            raise ValueError(
                f"HTTP {reply.status_code} from {reply.url}, which is not Prefect's reply"
            )
    clock.heard(reply.headers.get("date"), sent_at, time.monotonic())
    return reply


async def create_artifact(artifact: ArtifactCreate, action: str) -> UUID:
    """Write a new artifact, without the event that Prefect's own client emits for each.

    Raises:
        LedgerError: It could not be written.
    """
    content = _fit_for_json(artifact)
    reply = await request(action, "POST", "/artifacts/", 201, json=content)
    with as_ledger_error(action):
        return Artifact.model_validate(reply.json()).id


async def update_artifact(artifact_id: UUID, update: ArtifactUpdate, action: str) -> None:
    """Update an artifact; events and errors as for `create_artifact`."""
    content = _fit_for_json(update)
    await request(action, "PATCH", f"/artifacts/{artifact_id}", 204, json=content)


def _fit_for_json(content: BaseModel) -> Any:
    return to_jsonable_python(all_printable(content.model_dump(exclude_unset=True)))


@contextmanager
def as_ledger_error(action: str) -> Generator[None, None, None]:
    """Turn what Prefect's client raises into a `LedgerError`: Prefect's API could not `action`."""
    try:
        yield
    # `get_client` raises the last two if no address is set or its own server won't start, and
    # loading a block that does not exist raises a `ValueError`.
    except (httpx.HTTPError, PrefectException, RuntimeError, ValueError) as exc:
        raise LedgerError(f"Prefect's API could not {action}: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    if isinstance(exc, httpx.HTTPStatusError):
        reply = exc.response
        return f"{reply.status_code} {reply.reason_phrase} for {exc.request.url}"
    reason = f"{type(exc).__name__}: {exc}".splitlines()[0]
    if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout) and PREFECT_API_URL.value():
        return f"{reason}; {next_step()}"
    return reason


def next_step() -> str:
    """Return what to check if Prefect's server can't be reached."""
    address = PREFECT_API_URL.value()
    return f"check that the server is running, and that PREFECT_API_URL is its address ({address})"
