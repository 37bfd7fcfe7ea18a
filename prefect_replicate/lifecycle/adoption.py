"""Finding the prediction of a create whose reply was lost.

Replicate has no idempotency key, so it is looked for among the account's predictions by model and
input. Neither the version nor the exact time of creation is compared: in recorded replies both
differ from what was sent and from one route to another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

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
from prefect_replicate.ledger.record import INTENT, REDACTED, is_input
from prefect_replicate.ledger.store import Entry, Found, records_since
from prefect_replicate.lifecycle.bookkeeping import known_ids
from prefect_replicate.lifecycle.claiming import ABANDONED_SECONDS
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


@dataclass(eq=False)
class Sought:
    """A create, as its prediction is known by. The times are of Replicate's clock."""

    call: str
    """Which equal creates share, and which those do not that differ in a secret alone."""
    base_url: str
    model: ModelReference
    input_digest: Mapping[str, str] | None
    since: datetime
    """When it was about to be sent."""
    until: datetime | None = None
    """When its prediction is surely made, if it is; `None` while it is under way."""

    @classmethod
    def by(cls, entry: Entry) -> Sought:
        """The create that a record is of."""
        record, held_up = entry.record, entry.updated - entry.created
        return cls(
            call=record.call,
            base_url=record.base_url,
            model=ModelReference.parse(record.model),
            input_digest=record.input_digest,
            since=record.intent_at,
            until=record.intent_at + held_up + timedelta(seconds=ABANDONED_SECONDS),
        )

    def is_in_time(self, prediction: Prediction) -> bool:
        """Whether a prediction was made when it can have been made by this create."""
        if prediction.created_at is None:
            return True
        made_at = as_utc(prediction.created_at)
        is_early = made_at < self.since - CLOCK_SLACK
        return not is_early and (self.until is None or made_at < self.until + CLOCK_SLACK)

    def may_have_made(self, prediction: Prediction) -> bool:
        """Whether a prediction looks like what this create makes."""
        return (
            prediction.source != "web"
            and self._is_its_model(prediction)
            and self.input_digest is not None
            and is_input(prediction.input, self.input_digest)
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
def under_way(run: Run, sought: Sought, *, is_recorded: bool) -> Generator[Sought, None, None]:
    """Let other calls of this process know of a create, until it is known what it has made.

    Where that remains in doubt, a record says so, if there is one.
    """
    creates = process_state("creates under way", _UnderWay)
    long_ago = sought.since - 2 * CLOCK_SLACK
    creates -= {one for one in creates if one.until is not None and one.until < long_ago}
    creates.add(sought)
    try:
        yield sought
    except (LostReplyError, UncertainCreateError):
        sought.until = run.connection.clock.now() + timedelta(seconds=ABANDONED_SECONDS)
        raise
    finally:
        if is_recorded or sought.until is None:
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
    return REDACTED in prediction.input.values() and any(
        one.call != sought.call
        and one.base_url == sought.base_url
        and one.is_in_time(prediction)
        and one.may_have_made(prediction)
        for one in others
    )


async def look_for_lost(
    run: Run,
    sought: Sought,
    intent: Entry | None,
    looks: int = LOOKS,
    unwanted: Collection[str] = (),
) -> Prediction | None:
    """Look for a lost create's prediction, several times; `None` when there is none.

    Args:
        run: Who looks.
        sought: The create.
        intent: What was recorded then; `None` outside of runs.
        looks: How often to look.
        unwanted: Other calls whose predictions are not wanted either.

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
    found: Prediction | None = await attempts(_look, run, sought, intent, unwanted)
    return found


async def look_for_recorded(
    run: Run, entry: Entry, looks: int = LOOKS, unwanted: Collection[str] = ()
) -> Prediction | None:
    """Look for the prediction of a create whose intent another process has recorded."""
    if entry.record.input_digest is None:
        return None  # its files were still being sent
    return await look_for_lost(run, Sought.by(entry), entry, looks, unwanted)


async def _look(
    run: Run, sought: Sought, intent: Entry | None, unwanted: Collection[str]
) -> Prediction | None:
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
    recorded_ones = map(Sought.by, open_creates(recorded.entries))
    others = [*process_state("creates under way", _UnderWay), *recorded_ones]
    if is_contested(found, sought, [one for one in others if one.call not in unwanted]):
        raise _ContestedError(
            f"Prediction {found.id} may belong to another call, which is equal but for a secret"
            " that Replicate does not show. Nothing more was paid; a retry checks again."
        )
    return take(found)


def _owned() -> set[str]:
    return known_ids() | process_state("taken", _Taken)


def open_creates(entries: Iterable[Entry]) -> list[Entry]:
    """The records of creates whose predictions nobody has recorded."""
    return [one for one in entries if one.record.status == INTENT and not one.record.prediction_id]
