"""Finding the prediction of a create whose reply was lost.

Replicate has no idempotency key, so the account's predictions are searched by model and input.
Neither the version nor the exact time of creation is compared: in recorded replies both differ from
what was sent and from one route to another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_exponential,
)

from prefect_replicate.api.connection import LostReplyError
from prefect_replicate.api.predictions import list_predictions
from prefect_replicate.engine import Recent, process_state
from prefect_replicate.exceptions import UncertainCreateError
from prefect_replicate.ledger.facts import (
    REDACTED,
    Generation,
    Intent,
    is_input,
    is_of_model,
)
from prefect_replicate.ledger.flow_runs import TAG
from prefect_replicate.ledger.ledger import ledgers_since
from prefect_replicate.ledger.log import named_in
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.values import Prediction

CLOCK_SLACK = timedelta(seconds=60)
"""How far off a Replicate time that a process has recorded may be."""

ANSWERED = timedelta(seconds=75)
"""After this, an announced create has been sent and answered, if its process lived on: it is sent
within ten seconds, and waits up to sixty for its reply."""

LOOKS = 5
FIRST_PAUSE = 1.0
"""Seconds; it doubles, so the searches spread over about 15 s: a list may lag behind a create."""


@dataclass(eq=False)
class Sought:
    """A create, with what identifies its prediction."""

    base_url: str
    intent: Intent
    announced_at: datetime
    """By the clock of Prefect's server."""
    until: datetime | None = None
    """By when its prediction must have been made, if at all, by Replicate's clock; `None` while the
    create is in flight."""

    @classmethod
    def by(cls, known: Generation) -> Sought:
        """Return the recorded create of an attempt that may have been interrupted."""
        intent = known.intent
        return cls(known.origin.base_url, intent, known.written_at, intent.at + ANSWERED)

    def is_in_time(self, prediction: Prediction) -> bool:
        """Whether this create can have made a prediction, given when that was made."""
        if prediction.created_at is None:
            return True
        made_at = prediction.created_at
        is_early = made_at < self.intent.at - CLOCK_SLACK
        return not is_early and (self.until is None or made_at < self.until + CLOCK_SLACK)

    def may_have_made(self, prediction: Prediction) -> bool:
        """Whether a prediction looks like one that this create makes."""
        return (
            prediction.source != "web"
            and is_of_model(prediction, self.intent.model)
            and is_input(prediction.input, self.intent.input_digest)
        )


class _UnderWay(set[Sought]):
    """The creates of this process that have no prediction yet."""


class _Taken(Recent[str, None]):
    """Predictions that calls of this process have made or adopted."""

    limit = 10_000


class _ContestedError(UncertainCreateError):
    """The prediction found may be another call's, and nothing distinguishes the two."""


@contextlib.contextmanager
def under_way(run: Run, sought: Sought, *, is_recorded: bool) -> Generator[Sought, None, None]:
    """Make a create known to other calls of this process until its result is known.

    If the result remains in doubt, the create's record says so, if it has one.
    """
    creates = process_state("creates under way", _UnderWay)
    long_ago = sought.intent.at - 2 * CLOCK_SLACK
    creates -= {one for one in creates if one.until is not None and one.until < long_ago}
    creates.add(sought)
    try:
        yield sought
    except (LostReplyError, UncertainCreateError):
        sought.until = run.connection.clock.now() + ANSWERED
        raise
    finally:
        if is_recorded or sought.until is None:
            creates.remove(sought)


def take(prediction: Prediction, *, is_known: bool = False) -> Prediction:
    """Keep other calls of this process from adopting a prediction.

    Raises:
        LostReplyError: An equal call, whose reply was lost, has adopted it: this one needs another.
    """
    taken = process_state("taken", _Taken)
    if prediction.id in taken and not is_known:
        raise LostReplyError(f"an equal call has adopted prediction {prediction.id}")
    taken[prediction.id] = None
    return prediction


def match(candidates: Iterable[Prediction], sought: Sought, owned: set[str]) -> Prediction | None:
    """Choose the prediction that a lost create has made, if one fits.

    All that fit are equal, so any will do: the first that is alive or has succeeded, else the
    first.

    Args:
        candidates: Newest first, as the API lists them.
        sought: The create.
        owned: Ids that belong to other calls.
    """
    fitting = [one for one in candidates if one.id not in owned and sought.may_have_made(one)]
    useful = [one for one in fitting if one.is_succeeded or not one.is_terminal]
    return next(iter(useful or fitting), None)


def is_contested(prediction: Prediction, sought: Sought, others: Iterable[Sought]) -> bool:
    """Whether a prediction may be that of another create, which differs only in a secret."""
    return REDACTED in prediction.input.values() and any(
        one.intent.call != sought.intent.call
        and one.base_url == sought.base_url
        and one.is_in_time(prediction)
        and one.may_have_made(prediction)
        for one in others
    )


async def look_for_lost(
    run: Run, sought: Sought, looks: int = LOOKS, unwanted: Collection[str] = ()
) -> Prediction | None:
    """Search for a lost create's prediction, several times; `None` if there is none.

    Args:
        run: The run that searches.
        sought: The create.
        looks: How many times to search.
        unwanted: Other calls whose predictions are not wanted either.

    Raises:
        UncertainCreateError: The prediction found may just as well be another call's.
    """
    attempts = AsyncRetrying(
        retry=retry_if_result(lambda found: found is None)
        | retry_if_exception_type(_ContestedError),
        stop=stop_after_attempt(looks),
        wait=wait_exponential(multiplier=FIRST_PAUSE, max=8),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    found: Prediction | None = await attempts(_look, run, sought, unwanted)
    return found


async def _look(run: Run, sought: Sought, unwanted: Collection[str]) -> Prediction | None:
    since = sought.intent.at - CLOCK_SLACK
    candidates = [one async for one in list_predictions(run.connection, since)]
    taken = process_state("taken", _Taken)
    if match(candidates, sought, set(taken)) is None:
        return None
    known = Recorded([], set())
    if run.scope.flow_run_id is not None:
        known = await recorded_since(sought.announced_at)
    # Nothing is awaited between this and `take`; otherwise, two equal calls whose replies are lost
    # together would adopt the same prediction.
    found = match(candidates, sought, known.ids | set(taken))
    if found is None:
        return None
    others = [*process_state("creates under way", _UnderWay), *known.creates]
    if is_contested(found, sought, [one for one in others if one.intent.call not in unwanted]):
        raise _ContestedError(
            f"Prediction {found.id} may belong to another call, which differs only in a secret"
            " that Replicate does not show. Nothing more was paid; a retry checks again."
        )
    return take(found)


class Recorded(NamedTuple):
    """What the ledgers of many flow runs say."""

    creates: list[Sought]
    """Those whose predictions are not recorded."""
    ids: set[str]
    """All predictions that they name."""


async def recorded_since(moment: datetime) -> Recorded:
    """Return what is recorded about all predictions that may have been made since a moment.

    Args:
        moment: By the clock of Prefect's server.
    """
    found = Recorded([], set())
    for _, ledger in await ledgers_since(moment - 2 * CLOCK_SLACK, TAG):
        found.ids.update(named_in(ledger.unreadable))
        for log in ledger.all:
            if log.generation is None:
                continue
            if log.generation.prediction_id is not None:
                found.ids.add(log.generation.prediction_id)
            elif log.generation.is_unknown:
                found.creates.append(Sought.by(log.generation))
            found.ids.update(log.former_ids)
    return found
