"""Rounds of fresh processes, taken in turn so that a busy machine slows all of them alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from prefect_replicate.demo import prefect_server

T = TypeVar("T")


def interleaved(
    variants: Sequence[str], rounds: int, once: Callable[[str], T]
) -> dict[str, list[T]]:
    """Take each variant once a round, in an order that turns from round to round."""
    taken: dict[str, list[T]] = {variant: [] for variant in variants}
    for number in range(rounds):
        first = number % len(variants)
        for variant in (*variants[first:], *variants[:first]):
            taken[variant].append(once(variant))
    return taken


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios within each round."""
    return statistics.median(
        above / below for above, below in zip(numerators, denominators, strict=True)
    )


def fresh_python(*arguments: str, env: Mapping[str, str]) -> Any:
    """Run a new interpreter, and read the JSON that it prints last."""
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{arguments} failed:\n{done.stderr.decode()}")
    return json.loads(done.stdout.splitlines()[-1])


def without_prefect_settings(**more: str) -> dict[str, str]:
    """The environment, in which no setting of the user's Prefect is left."""
    return prefect_server.without_prefect_settings() | more
