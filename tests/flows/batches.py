"""Items of batches, and what has become of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio


def failing(error: str = "NSFW content detected", **input: Any) -> dict[str, Any]:
    return {"prompt": "a wolf", "input": {"outcome": "failed", "error": error, **input}}


def states(videos: Any) -> list[str]:
    return [one.state for one in videos.outcomes]


async def soon(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 it comes to hold in another thread
            await asyncio.sleep(0.005)
