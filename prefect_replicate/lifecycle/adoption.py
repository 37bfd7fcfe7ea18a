"""Finding the prediction of a create whose reply was lost.

Replicate has no idempotency key, so it is looked for among the account's predictions by model and
input. Neither the version nor the exact time of creation is compared: in recorded replies both
differ from what was sent and from one route to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, wait_exponential

from prefect_replicate.api.connection import LostReplyError
from prefect_replicate.api.predictions import list_predictions
from prefect_replicate.engine import process_state
from prefect_replicate.ledger.record import Record, input_digest
from prefect_replicate.ledger.store import Entry, records_since
from prefect_replicate.lifecycle.bookkeeping import known_ids
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import ModelReference, Prediction

CLOCK_SLACK = timedelta(seconds=60)
"""How far a time of Replicate's may be off that a process has written down."""

IsOurs = Callable[[Mapping[str, Any]], bool]
"""Whether an input, as Replicate shows it, is that of a lost create."""

LOOKS = 5
FIRST_PAUSE = 1.0
"""Seconds; it doubles, so that the looks spread over about 15 s: a list may lag behind a create."""


class _Taken(set[str]):
    """Predictions that calls of this process have made or adopted."""


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


def match(
    candidates: Iterable[Prediction], reference: ModelReference, is_ours: IsOurs, owned: set[str]
) -> Prediction | None:
    """Choose the prediction that a lost create has made, if one fits.

    Those that fit are equal, so that any will do: the first that is alive or has succeeded, else
    the first.

    Args:
        candidates: Newest first, as the API lists them.
        reference: The model that was asked for.
        is_ours: Compares a candidate's input with the one that was sent.
        owned: Ids that belong to other calls.
    """
    fitting = [
        prediction
        for prediction in candidates
        if prediction.id not in owned
        and prediction.source != "web"
        and _fits(prediction, reference)
        and is_ours(prediction.input)
    ]
    useful = [one for one in fitting if one.is_succeeded or not one.is_terminal]
    return next(iter(useful or fitting), None)


def _fits(prediction: Prediction, reference: ModelReference) -> bool:
    # A deployment's predictions name its model, a bare version does not say whose it is, and some
    # replies leave the model out.
    if reference.is_deployment or reference.full_name is None or prediction.model is None:
        return True
    return prediction.model == reference.full_name


async def look_for_lost(
    run: Run,
    reference: ModelReference,
    is_ours: IsOurs,
    since: datetime,
    intent: Entry | None,
    looks: int = LOOKS,
) -> Prediction | None:
    """Look for a lost create's prediction, several times; `None` when there is none.

    Args:
        run: Who looks.
        reference: The model that was asked for.
        is_ours: Tells its input.
        since: When the create was about to be sent, by Replicate's clock.
        intent: What was recorded then; `None` outside of runs.
        looks: How often to look.
    """
    attempts = AsyncRetrying(
        retry=retry_if_result(lambda found: found is None),
        stop=stop_after_attempt(looks),
        wait=wait_exponential(multiplier=FIRST_PAUSE, max=8),
        retry_error_callback=lambda _: None,
    )
    found: Prediction | None = await attempts(
        _look, run, reference, is_ours, since - CLOCK_SLACK, intent
    )
    return found


async def look_for_recorded(run: Run, entry: Entry, looks: int = LOOKS) -> Prediction | None:
    """Look for the prediction of a create whose intent another process has recorded."""
    record = entry.record
    if record.input_digest is None:
        return None  # its files were still being sent
    reference = ModelReference.parse(record.model)
    return await look_for_lost(run, reference, made_by(record), record.intent_at, entry, looks)


def made_by(record: Record) -> IsOurs:
    """Tell the input that a record's create was to send."""
    return lambda shown: input_digest(shown) == record.input_digest


async def _look(
    run: Run,
    reference: ModelReference,
    is_ours: IsOurs,
    since: datetime,
    intent: Entry | None,
) -> Prediction | None:
    candidates = [one async for one in list_predictions(run.connection, since)]
    recorded = set[str]()
    if intent is not None:
        recorded = (await records_since(intent.created - CLOCK_SLACK)).ids
    # Nothing is awaited between this and `take`, or two equal calls whose replies are lost together
    # would adopt the same one.
    owned = known_ids() | process_state("taken", _Taken) | recorded
    found = match(candidates, reference, is_ours, owned)
    return take(found) if found else None
