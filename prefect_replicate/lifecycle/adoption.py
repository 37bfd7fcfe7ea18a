"""Finding the prediction of a create whose reply was lost.

Replicate has no idempotency key, so it is looked for among the account's predictions by model and
input. Neither the version nor the exact time of creation is compared: in recorded replies both
differ from what was sent and from one route to another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_exponential,
)

from prefect_replicate.api.connection import LostReplyError
from prefect_replicate.api.predictions import list_predictions
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import UncertainCreateError
from prefect_replicate.ledger.record import INTENT, REDACTED, Record, input_digest
from prefect_replicate.ledger.store import Entry, Found, records_since
from prefect_replicate.lifecycle.bookkeeping import known_ids
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import ModelReference, Prediction
from prefect_replicate.values.moments import as_utc

CLOCK_SLACK = timedelta(seconds=60)
"""How far a time of Replicate's may be off that a process has written down."""

HELD_UP = timedelta(hours=1)
"""How long after its record was first written a create may be sent: it waits for files that are
uploaded, and for the account's limits."""

LOOKS = 5
FIRST_PAUSE = 1.0
"""Seconds; it doubles, so that the looks spread over about 15 s: a list may lag behind a create."""


@dataclass(frozen=True, eq=False)
class Sought:
    """A create, as its prediction is known by."""

    call: str
    """Which equal creates share, and which those do not that differ in a secret alone."""
    base_url: str
    since: datetime
    """When it was about to be sent, by Replicate's clock."""
    model: ModelReference
    is_its_input: Callable[[Mapping[str, Any]], bool]
    """Tells its input from what Replicate shows of one."""

    @classmethod
    def by(cls, record: Record) -> Sought:
        """The create that a record is of."""
        return cls(
            record.call,
            record.base_url,
            record.intent_at,
            ModelReference.parse(record.model),
            lambda shown: input_digest(shown) == record.input_digest,
        )

    def may_have_made(self, prediction: Prediction) -> bool:
        """Whether a prediction looks like what this create makes."""
        return (
            prediction.source != "web"
            and self._is_its_model(prediction)
            and self.is_its_input(prediction.input)
        )

    def _is_its_model(self, prediction: Prediction) -> bool:
        # A deployment's predictions name its model, a bare version does not say whose it is, and
        # some replies leave the model out.
        if self.model.is_deployment or self.model.full_name is None or prediction.model is None:
            return True
        return prediction.model == self.model.full_name


class _UnderWay(set[Sought]):
    """The creates of this process that have no prediction yet."""


class _Taken(set[str]):
    """Predictions that calls of this process have made or adopted."""


class _ContestedError(UncertainCreateError):
    """What was found may be another call's, and nothing tells the two apart."""


@contextlib.contextmanager
def under_way(sought: Sought, *, is_recorded: bool) -> Generator[Sought, None, None]:
    """Let other calls of this process know of a create, until it is known what it has made.

    Where that remains in doubt, a record says so, if there is one.
    """
    creates = process_state("creates under way", _UnderWay)
    creates.add(sought)
    is_in_doubt = False
    try:
        yield sought
    except (LostReplyError, UncertainCreateError):
        is_in_doubt = True
        raise
    finally:
        if is_recorded or not is_in_doubt:
            creates.remove(sought)


def take(prediction: Prediction) -> Prediction:
    """Keep other calls of this process from adopting a prediction.

    Raises:
        LostReplyError: One has, an equal call whose reply was lost: this one needs another.
    """
    taken = process_state("taken", _Taken)
    if prediction.id in taken:
        raise LostReplyError(f"an equal call has adopted prediction {prediction.id}")
    taken.add(prediction.id)
    return prediction


def match(candidates: Iterable[Prediction], sought: Sought, owned: set[str]) -> Prediction | None:
    """Choose the prediction that a lost create has made, if one fits.

    Those that fit are equal, so that any will do: the first that is alive or has succeeded, else
    the first.

    Args:
        candidates: Newest first, as the API lists them.
        sought: The create.
        owned: Ids that belong to other calls.
    """
    fitting = [one for one in candidates if one.id not in owned and sought.may_have_made(one)]
    useful = [one for one in fitting if one.is_succeeded or not one.is_terminal]
    return next(iter(useful or fitting), None)


def is_contested(prediction: Prediction, sought: Sought, others: Iterable[Sought]) -> bool:
    """Whether a prediction may be that of another create, which differs in a secret alone."""
    made_at = as_utc(prediction.created_at or sought.since)
    return REDACTED in prediction.input.values() and any(
        one.call != sought.call
        and one.base_url == sought.base_url
        and one.since - CLOCK_SLACK <= made_at <= one.since + HELD_UP
        and one.may_have_made(prediction)
        for one in others
    )


async def look_for_lost(
    run: Run, sought: Sought, intent: Entry | None, looks: int = LOOKS
) -> Prediction | None:
    """Look for a lost create's prediction, several times; `None` when there is none.

    Args:
        run: Who looks.
        sought: The create.
        intent: What was recorded then; `None` outside of runs.
        looks: How often to look.

    Raises:
        UncertainCreateError: What there is may as well be another call's.
    """
    attempts = AsyncRetrying(
        retry=retry_if_result(lambda found: found is None)
        | retry_if_exception_type(_ContestedError),
        stop=stop_after_attempt(looks),
        wait=wait_exponential(multiplier=FIRST_PAUSE, max=8),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    found: Prediction | None = await attempts(_look, run, sought, intent)
    return found


async def look_for_recorded(run: Run, entry: Entry, looks: int = LOOKS) -> Prediction | None:
    """Look for the prediction of a create whose intent another process has recorded."""
    record = entry.record
    if record.input_digest is None:
        return None  # its files were still being sent
    return await look_for_lost(run, Sought.by(record), entry, looks)


async def _look(run: Run, sought: Sought, intent: Entry | None) -> Prediction | None:
    since = sought.since - CLOCK_SLACK
    candidates = [one async for one in list_predictions(run.connection, since)]
    if match(candidates, sought, _owned()) is None:
        return None
    recorded = await records_since(intent.created - HELD_UP) if intent else Found([], [])
    # Nothing is awaited between this and `take`, or two equal calls whose replies are lost together
    # would adopt the same one.
    found = match(candidates, sought, _owned() | recorded.ids)
    if found is None:
        return None
    others = [*process_state("creates under way", _UnderWay), *_open_creates(recorded)]
    if is_contested(found, sought, others):
        raise _ContestedError(
            f"prediction {found.id} may be that of another call, which is equal but for a secret"
            " that Replicate does not show."
        )
    return take(found)


def _owned() -> set[str]:
    return known_ids() | process_state("taken", _Taken)


def _open_creates(recorded: Found) -> list[Sought]:
    records = [entry.record for entry in recorded.entries]
    return [Sought.by(one) for one in records if one.status == INTENT and one.prediction_id is None]
