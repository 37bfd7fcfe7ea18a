"""Storage blocks of any make: loaded by reference, and called without blocking."""

from __future__ import annotations

import inspect
from typing import Any

import anyio.to_thread
import httpx
from prefect.blocks.core import Block, UnknownBlockType
from prefect.exceptions import PrefectException

from prefect_replicate.exceptions import ConfigurationError
from prefect_replicate.outputs.failure import one_line


async def load_block(slug_and_name: str, what: str) -> Block:
    """Load a saved block, of whatever type.

    Args:
        slug_and_name: Such as `s3-bucket/videos`.
        what: What it is loaded for, as the message begins.

    Raises:
        ConfigurationError: There is none, or its type is not installed here.
    """
    try:
        return await Block.aload(slug_and_name)
    except (ValueError, RuntimeError, UnknownBlockType, PrefectException, httpx.HTTPError) as exc:
        raise ConfigurationError(f"{what} can't be loaded: {one_line(exc)}") from exc


async def call_block(block: Block, name: str, *args: Any) -> Any:
    """Call a method of a block without blocking the event loop.

    Blocks declare theirs as async, as sync, with an `a`-twin, or with Prefect's `sync_compatible`
    and `async_dispatch`, of which only the call itself shows whether it gives an awaitable.
    """
    method = getattr(block, f"a{name}", None) or getattr(block, name)
    if inspect.iscoroutinefunction(method):
        return await method(*args)
    result = await anyio.to_thread.run_sync(method, *args)
    return await result if inspect.isawaitable(result) else result
