"""A program: have a number of predictions in one way, and print what that took.

Time is virtual and chance has a seed, so that it says the same whenever and wherever it runs.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict

from benchmarks.chaos.faults import add_faults
from benchmarks.local_account import LocalAccount, as_a_new_process
from benchmarks.scale_outcome import Outcome, joined
from benchmarks.scale_sides import SIDES, Item
from benchmarks.virtual_time import VirtualTimeLoop
from prefect_replicate.emulator.limits import STANDARD
from prefect_replicate.emulator.predictions import ending_of

_MEDIAN, _P95 = 60.0, 300.0
_SIGMA = math.log(_P95 / _MEDIAN) / 1.6449
_QUEUE_SHARE = (0.05, 0.15)


def items_of(count: int, seed: int) -> list[Item]:
    """Predictions whose durations are log-normal."""
    chance = random.Random(seed)
    items: list[Item] = []
    for number in range(count):
        seconds = chance.lognormvariate(math.log(_MEDIAN), _SIGMA)
        queue = seconds * chance.uniform(*_QUEUE_SHARE)
        items.append(Item(f"item {number}", queue, seconds - queue))
    return items


def ideal_of(items: Sequence[Item]) -> float:
    """Seconds until the last is done if each is created as soon as the limit allows."""
    limit = STANDARD["create"]
    apart = 60 / limit.per_minute
    created = (max(0, number + 1 - limit.burst) * apart for number in range(len(items)))
    return max(at + item.duration for at, item in zip(created, items, strict=True))


def outcome_of(side: str, count: int, seed: int, *, with_faults: bool) -> Outcome:
    """Have `count` predictions at a time, as a new process would."""
    items = items_of(count, seed)
    with closing(VirtualTimeLoop()) as loop, as_a_new_process(loop, seed):
        account = LocalAccount()
        if with_faults:
            add_faults(account.platform.faults, seed)
        began = account.platform.clock.now()
        ends = loop.run_until_complete(SIDES[side](account, items, seed))
    completed = {name: at - began for name, at in _completions(account).items()}
    has_result = [(end, item) for end, item in zip(ends, items, strict=True) if end.instead is None]
    return Outcome(
        asked=count,
        made=len(account.platform.history),
        delays=[end.at - completed[item.name] for end, item in has_result],
        durations=[item.duration for _, item in has_result],
        wall=max(end.at for end in ends),
        ideal=ideal_of(items),
        requests=dict(account.requests),
        losses=dict(Counter(end.instead for end in ends if end.instead is not None)),
    )


def _completions(account: LocalAccount) -> dict[str, float]:
    """When the first prediction of each item was done, by the account's clock."""
    done: dict[str, float] = {}
    for record in account.platform.history.records():
        name = str(record.input["prompt"])
        done[name] = min(ending_of(record).completed_at, done.get(name, math.inf))
    return done


def main(side: str, count: int, rounds: int, *, with_faults: bool) -> None:
    """Print the outcome as JSON."""
    outcomes = [
        outcome_of(side, count, seed, with_faults=with_faults) for seed in range(1, rounds + 1)
    ]
    print(json.dumps(asdict(joined(outcomes))))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), with_faults=sys.argv[4] == "faults")
