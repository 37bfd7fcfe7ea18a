"""What is to happen to each flow run, decided up front from a seed; pure."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

T = TypeVar("T")

Fate = Literal[
    "left alone",
    "canceled",
    "canceled, retried",
    "flow killed",
    "flow killed, retried",
    "flow terminated",
    "flow terminated, retried",
    "run twice at once",
    "worker killed",
    "worker killed, retried",
]
Form = Literal["called", "mapped", "gathered", "video", "nested"]
Event = Literal["process", "intent", "create", "processing", "succeeded"]
OnCrash = Literal["cancel", "keep"]
Input = Literal["plain", "whole floats", "picture", "data URI", "secret"]
"""What is in a run's inputs, all but the first of which Replicate shows otherwise than sent."""

_WEIGHTS: dict[Fate, int] = {
    "left alone": 20,
    "canceled": 20,
    "canceled, retried": 6,
    "flow killed": 11,
    "flow killed, retried": 14,
    "flow terminated": 7,
    "flow terminated, retried": 5,
    "run twice at once": 10,
    "worker killed": 3,
    "worker killed, retried": 4,
}
FATES: tuple[Fate, ...] = tuple(_WEIGHTS)

CALLS: dict[Form, tuple[int, ...]] = {
    "called": (1,),
    "mapped": (3,),
    "gathered": (2, 1),
    "video": (1,),
    "nested": (1,),
}
"""How many equal calls a flow of each form makes, for each of its prompts."""

INPUTS: tuple[Input, ...] = get_args(Input)

REPLICATE_AHEAD = 3600.0
"""Seconds that Replicate's clock is ahead of this machine's."""

CLOCKS = (0.0, REPLICATE_AHEAD + 90.0, REPLICATE_AHEAD + 4000.0)
"""Seconds that the clock of a flow's process is ahead of this machine's, and of Prefect's."""

_FORMS: tuple[Form, ...] = tuple(CALLS)

_EVENTS: dict[Event, int] = {
    "process": 10,
    "intent": 20,
    "create": 30,
    "processing": 25,
    "succeeded": 15,
}
_DELAYS: dict[Event, float] = {
    "process": 5.0,
    "intent": 0.8,
    "create": 1.5,
    "processing": 3.0,
    "succeeded": 0.5,
}
"""The longest time from an event to the blow, in seconds."""

_HOUR = 3600.0
"""A prediction that a run must not leave running lasts longer than the benchmark."""


@dataclass(frozen=True)
class Moment:
    """So many seconds after the first of these events in the run's course."""

    event: Event
    delay: float


@dataclass(frozen=True)
class PlannedRun:
    """A flow run and what is to happen to it.

    Args:
        prompts: Each with the number of equal calls that the run makes.
        moment: When it is struck; `None` for a run that is left alone.
        seconds: How long its predictions last.
        pause: Seconds between the run's end and its retry.
        worker_signal: What a worker is killed with.
        input: What else is in its inputs.
        clock_ahead: Seconds that its process's clock is ahead.
    """

    name: str
    fate: Fate
    form: Form
    prompts: Mapping[str, int]
    moment: Moment | None
    seconds: float
    on_crash: OnCrash
    pause: float
    worker_signal: signal.Signals
    input: Input
    clock_ahead: float

    @property
    def is_due(self) -> bool:
        """Whether its results are to be there in the end."""
        return self.fate in ("left alone", "run twice at once") or self.is_retried

    @property
    def is_retried(self) -> bool:
        """Whether somebody retries it after it was struck."""
        return self.fate.endswith("retried")


def plan(runs: int, seed: int) -> list[PlannedRun]:
    """Plan some runs, the same for the same seed; each fate comes at least once, if it can."""
    chance = random.Random(seed)
    more = chance.choices(FATES, [*_WEIGHTS.values()], k=max(0, runs - len(FATES)))
    fates = _shuffled((*FATES, *more)[:runs], chance)
    forms = _shuffled((_FORMS * runs)[:runs], chance)
    return [
        _planned(f"chaos-{seed}-{number:04d}", fate, form, chance)
        for number, (fate, form) in enumerate(zip(fates, forms, strict=True))
    ]


def _planned(name: str, fate: Fate, form: Form, chance: random.Random) -> PlannedRun:
    moment = None if fate == "left alone" else _moment(fate, chance)
    retried = fate.endswith("retried")
    own_chance = random.Random(name)
    return PlannedRun(
        name=name,
        fate=fate,
        form=form,
        prompts={f"{name}-{index}": count for index, count in enumerate(CALLS[form])},
        moment=moment,
        seconds=_seconds(fate, moment, chance),
        # Kept without a retry, it would run on because that is what was asked for.
        on_crash=chance.choice(("cancel", "keep")) if retried else "cancel",
        pause=chance.uniform(0.0, 6.0),
        worker_signal=chance.choice((signal.SIGKILL, signal.SIGTERM)),
        input=own_chance.choice(INPUTS),
        clock_ahead=own_chance.choice(CLOCKS),
    )


def _moment(fate: Fate, chance: random.Random) -> Moment:
    events: list[Event] = [event for event in _EVENTS if _can_be(fate, event)]
    event = chance.choices(events, [_EVENTS[event] for event in events])[0]
    return Moment(event, round(chance.uniform(0.0, _DELAYS[event]), 2))


def _can_be(fate: Fate, event: Event) -> bool:
    # A second process takes seconds to start, and would find the run done.
    return fate != "run twice at once" or event != "succeeded"


def _seconds(fate: Fate, moment: Moment | None, chance: random.Random) -> float:
    short = round(chance.uniform(2.0, 6.0), 1)
    if moment is None or moment.event == "succeeded":
        return short
    if fate == "run twice at once" or fate.endswith("retried"):
        return round(chance.uniform(4.0, 18.0), 1)
    return _HOUR


def _shuffled(values: Sequence[T], chance: random.Random) -> list[T]:
    return chance.sample(values, len(values))
