"""The whole course: many runs at once, the sweep, and the accounts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from benchmarks.chaos.accounting import Account, Asked, Paid, account
from benchmarks.chaos.lives import Fates, Life
from benchmarks.chaos.place import DOOMED, FILE_SIZE, SAFE, Place, Worker, chaotic_place
from benchmarks.chaos.plan import PlannedRun
from benchmarks.chaos.timeline import timeline_of
from benchmarks.chaos.waiting import NeverHappenedError, until
from benchmarks.chaos.witness import Witness
from prefect_replicate.emulator.artifacts import NoiseFile
from prefect_replicate.lifecycle.creation import ABANDONED_SECONDS

_AT_ONCE = 8
BOUND = 10.0
"""Seconds after the last run has ended, hooks and all, in which its predictions must have, too."""


@dataclass(frozen=True)
class Outcome:
    """What became of a run and of the calls of one of its prompts.

    Args:
        live_before_sweep: Predictions that neither the run nor a hook has ended.
        timeline: What happened, line by line; empty where there is nothing to explain.
    """

    life: Life
    asked: Asked
    account: Account
    live_before_sweep: int
    timeline: Sequence[str]


def run_chaos(
    folder: Path,
    plan: Sequence[PlannedRun],
    seed: int,
    on_end: Callable[[Life], None] = lambda life: None,
) -> list[Outcome]:
    """Carry out a plan, and account for each of its prompts."""
    with chaotic_place(folder, seed) as place:
        witness = Witness(place)
        with Worker(place, SAFE), Worker(place, DOOMED) as doomed:
            lives = _all_lives(Fates(place, witness, doomed), plan, on_end)
        live_before = _live_after_the_bound(place)
        if live_before:  # perhaps by a create that until then counts as under way
            time.sleep(ABANDONED_SECONDS)
        _sweep(place)
        return [
            _outcome(place, witness, life, prompt, live_before)
            for life in lives
            for prompt in life.planned.prompts
        ]


def _all_lives(
    fates: Fates, plan: Sequence[PlannedRun], on_end: Callable[[Life], None]
) -> list[Life]:
    lives: list[Life] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for future in as_completed([pool.submit(fates.live, planned) for planned in plan]):
            lives.append(future.result())
            on_end(lives[-1])
    return sorted(lives, key=lambda life: life.planned.name)


def _live_after_the_bound(place: Place) -> set[str]:
    with suppress(NeverHappenedError):
        until(lambda: not place.emulator.predictions.live(), BOUND, "no prediction is live")
    return {one.id for one in place.emulator.predictions.live()}


def _sweep(place: Place) -> None:
    with place.log("sweep") as log:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.chaos.sweep"],
            env=place.env,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )


def _outcome(
    place: Place, witness: Witness, life: Life, prompt: str, live_before: set[str]
) -> Outcome:
    seen = witness.predictions_of([prompt])
    stored = [one.id for one in seen if _is_whole(place.videos / f"{one.id}.bin")]
    asked = Asked(
        prompt=prompt,
        group=life.planned.fate,
        calls=life.planned.prompts[prompt],
        is_due=life.planned.is_due or life.is_completed,
        stored=stored,
    )
    paid = [Paid(one.id, prompt, one.status, one.created_at, one.completed_at) for one in seen]
    result = account(asked, paid)
    left = sum(one.id in live_before for one in paid)
    explained = not result.is_clean or left or life.problem
    return Outcome(
        life, asked, result, left, timeline_of(place, witness, life, prompt) if explained else ()
    )


def _is_whole(path: Path) -> bool:
    return path.exists() and path.read_bytes() == _content()


@lru_cache(maxsize=1)
def _content() -> bytes:
    return b"".join(NoiseFile("output.bin", FILE_SIZE, 0).chunks(0, FILE_SIZE))
