"""What happened to some calls, from all that has seen them, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple

from benchmarks.chaos.lives import Life
from benchmarks.chaos.place import Place
from benchmarks.chaos.plan import REPLICATE_AHEAD
from benchmarks.chaos.witness import Witness, is_create


class _Moment(NamedTuple):
    at: float
    what: str

    def __str__(self) -> str:
        clock = datetime.fromtimestamp(self.at, timezone.utc).strftime("%H:%M:%S.%f")[:-3]
        return f"{clock}  {self.what}"


def timeline_of(place: Place, witness: Witness, life: Life, prompt: str) -> list[str]:
    """Deeds, states, requests, predictions and facts, one a line."""
    moments = [
        *(_Moment(deed.at, f"benchmark   {deed.what}") for deed in life.deeds),
        *_states(place, life),
        *_requests(place, witness, prompt),
        *_predictions(witness, prompt),
        *_facts(witness, life),
    ]
    return [str(moment) for moment in sorted(moments)]


def _states(place: Place, life: Life) -> Iterator[_Moment]:
    for state in place.client.read_flow_run_states(life.flow_run_id):
        said = f"run         {state.name}: {' '.join((state.message or '').split())[:160]}"
        yield _Moment(state.timestamp.timestamp(), said)


def _requests(place: Place, witness: Witness, prompt: str) -> Iterator[_Moment]:
    ids = [one.id for one in witness.predictions_of([prompt])]
    sent = f'"{prompt}"'.encode()
    for one in place.emulator.requests:
        is_cancel = one.path.endswith("/cancel") and any(known in one.path for known in ids)
        if is_cancel or (is_create(one) and sent in one.body):
            met = f", fault {one.fault}" if one.fault else ""
            yield _Moment(
                one.time - REPLICATE_AHEAD,
                f"request     {one.method} {one.path}: {one.status}{met}",
            )


def _predictions(witness: Witness, prompt: str) -> Iterator[_Moment]:
    for one in witness.predictions_of([prompt]):
        yield _Moment(one.created_at - REPLICATE_AHEAD, f"prediction  {one.id} created")
        if one.completed_at is not None:
            ended_at = one.completed_at - REPLICATE_AHEAD
            yield _Moment(ended_at, f"prediction  {one.id} {one.status}")


def _facts(witness: Witness, life: Life) -> Iterator[_Moment]:
    for one in witness.facts_of(life.flow_run_id):
        assert one.created is not None
        yield _Moment(one.created.timestamp(), f"fact        {one.key} {one.value}")
