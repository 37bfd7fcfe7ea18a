"""Ways to have many predictions at a time: ours, and those of the official client."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr
from replicate.client import Client
from sqlalchemy.util import await_only, greenlet_spawn

from benchmarks.local_account import TOKEN, URL, LocalAccount, Network
from prefect_replicate import PollPolicy
from prefect_replicate.api.connection import Address, Connection
from prefect_replicate.engine import Caller
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.lifecycle.creation import Request, create
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.waiting import wait

MODEL = "emulator/timer"
LIFETIME = 6 * 3600.0


@dataclass(frozen=True)
class Item:
    """A prediction to be had."""

    name: str
    queue: float
    run: float

    @property
    def input(self) -> dict[str, Any]:
        """What the model is told; the name tells the prediction apart."""
        return {"prompt": self.name, "queue_seconds": self.queue, "seconds": self.run}

    @property
    def duration(self) -> float:
        """Seconds from creation to completion."""
        return self.queue + self.run


@dataclass(frozen=True)
class End:
    """How a call for an item ended."""

    at: float
    """Seconds from the start of all."""
    instead: str | None
    """What came in the place of a result."""


async def ours(account: LocalAccount, items: Sequence[Item], seed: int) -> list[End]:
    """As our tasks do it on the engine: create, then wait."""
    run = run_on(account, seed)

    async def one(item: Item) -> Any:
        made = await create(run, Request(MODEL, item.input, LIFETIME))
        return (await wait(run, made, None, PollPolicy(), None)).output

    return await _gathered(items, one)


def run_on(account: LocalAccount, seed: int, url: str = URL) -> Run:
    """Outside of flow runs, with a connection of its own."""
    connection = Connection(Address(url, SecretStr(TOKEN)))
    transport: Any = connection._http._transport  # pyright: ignore[reportPrivateUsage]
    transport._wrapped_transport = Network(account, seed)
    nobody = Caller(lambda notice: None)
    return Run(connection, None, RunScope(), nobody, logging.getLogger(__name__))


async def gathered(account: LocalAccount, items: Sequence[Item], seed: int) -> list[End]:
    """`replicate.async_run` for each, all gathered, as the client's README has it."""
    client = Client(api_token=TOKEN, base_url=URL, transport=Network(account, seed))

    async def one(item: Item) -> Any:
        return await client.async_run(MODEL, input=item.input)

    return await _gathered(items, one)


async def in_threads(account: LocalAccount, items: Sequence[Item], seed: int) -> list[End]:
    """`predictions.create` and `wait()` for each in a thread, as the client's README has it.

    The threads are greenlets, since threads can't jump to the next timer.
    """
    transport = _Blocking(Network(account, seed))
    client = Client(api_token=TOKEN, base_url=URL, transport=transport)

    def create_and_wait(item: Item) -> Any:
        made = client.predictions.create(model=MODEL, input=item.input)
        made.wait()
        return made.output

    with _sleep_in_greenlets():
        return await _gathered(items, lambda item: greenlet_spawn(create_and_wait, item))


class _Blocking(httpx.BaseTransport):
    def __init__(self, network: Network) -> None:
        self._network = network

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return await_only(self._network.handle_async_request(request))


@contextmanager
def _sleep_in_greenlets() -> Generator[None]:
    def sleep_on_the_loop(seconds: Any) -> None:
        await_only(asyncio.sleep(seconds))

    sleep, time.sleep = time.sleep, sleep_on_the_loop
    try:
        yield
    finally:
        time.sleep = sleep


async def _gathered(items: Sequence[Item], one: Callable[[Item], Awaitable[Any]]) -> list[End]:
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def ending(item: Item) -> End:
        try:
            instead = None if await one(item) else "no output"
        except Exception as exc:  # noqa: BLE001 - whatever it is, there is no result
            instead = _name_of(exc)
        return End(loop.time() - started, instead)

    return await asyncio.gather(*map(ending, items))


def _name_of(exc: Exception) -> str:
    status = getattr(exc, "status", None)
    return type(exc).__name__ if status is None else f"{type(exc).__name__} {status}"


SIDES = {"ours": ours, "gathered": gathered, "threads": in_threads}
