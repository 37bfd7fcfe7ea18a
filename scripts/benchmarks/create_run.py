"""A program: send more creates than an account's limit allows at once, and print what came of it.

In virtual time, as `scale_run` is.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, cast

from replicate.client import Client

from benchmarks.local_account import TOKEN, URL, LocalAccount, Network, as_a_new_process
from benchmarks.scale_sides import LIFETIME, MODEL, Item, run_on
from benchmarks.virtual_time import VirtualTimeLoop
from prefect_replicate.emulator.behaviour import RateLimits
from prefect_replicate.emulator.limits import LOW_CREDIT, STANDARD
from prefect_replicate.lifecycle.creation import Request, create

ONE, THREE, CLIENT = "one", "three", "client"
TALLY_TITLES = {
    ONE: "this package, one process",
    THREE: "this package, three processes",
    CLIENT: "`predictions.async_create`, gathered",
}
_SEED = 1
_Create = Callable[[Item], Awaitable[Any]]


@dataclass(frozen=True)
class Tally:
    """What came of a number of creates."""

    made: int
    lost: int
    """Calls that have no prediction to show."""
    refused: int
    """Creates that were answered with 429."""
    excess: float
    """Wall time over that of who sends each create at the moment when the limit allows it."""


def tally_of(way: str, limits: RateLimits, count: int) -> Tally:
    """Send the creates all at once."""
    items = [Item(f"item {number}", 1.0, 10.0) for number in range(count)]
    with closing(VirtualTimeLoop()) as loop, as_a_new_process(loop, _SEED):
        account = LocalAccount(limits)
        done = loop.run_until_complete(_all(_WAYS[way](account), items))
    limit = (LOW_CREDIT if limits == "low-credit" else STANDARD)["create"]
    return Tally(
        made=len(account.platform.history),
        lost=count - sum(done),
        refused=account.requests["create 429"],
        excess=loop.time() / ((count - limit.burst) * 60 / limit.per_minute),
    )


async def _all(creates: Sequence[_Create], items: Sequence[Item]) -> list[bool]:
    shared = zip(items, itertools.cycle(creates), strict=False)
    return await asyncio.gather(*(_is_made(create(item)) for item, create in shared))


async def _is_made(call: Awaitable[Any]) -> bool:
    try:
        await call
    except Exception:  # noqa: BLE001 - whatever it is, there is no prediction
        return False
    return True


def _ours(account: LocalAccount, processes: int) -> Sequence[_Create]:
    # What a process knows of a limit is kept by address, so that each has another name for it.
    names = [URL.replace("//", f"//{number}.") for number in range(processes)]
    runs = [run_on(account, seed, name) for seed, name in enumerate(names)]
    return [lambda item, run=run: create(run, Request(MODEL, item.input, LIFETIME)) for run in runs]


def _client(account: LocalAccount) -> Sequence[_Create]:
    client = Client(api_token=TOKEN, base_url=URL, transport=Network(account, _SEED))
    return [lambda item: client.predictions.async_create(model=MODEL, input=item.input)]


_WAYS: dict[str, Callable[[LocalAccount], Sequence[_Create]]] = {
    ONE: lambda account: _ours(account, 1),
    THREE: lambda account: _ours(account, 3),
    CLIENT: _client,
}


def main(way: str, limits: str, count: str) -> None:
    """Print the tally as JSON."""
    print(json.dumps(asdict(tally_of(way, cast("RateLimits", limits), int(count)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
