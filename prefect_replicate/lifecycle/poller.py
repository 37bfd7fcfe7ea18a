"""One poller for all waits of a process on one account: it polls when they want, for all at once.

It lives on the engine's loop as long as somebody waits. `poll_plan` decides what it requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from array import array
from bisect import bisect_left, insort
from collections.abc import Generator, Hashable, Iterable
from contextvars import Context
from datetime import datetime, timezone

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from prefect_replicate.api.connection import Connection, Refused
from prefect_replicate.api.predictions import look_at_page, look_at_prediction
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import APIError, ConfigurationError
from prefect_replicate.lifecycle.poll_plan import (
    CROWD,
    SLACK_SECONDS,
    Look,
    Page,
    Single,
    Wanted,
    is_behind,
    plan_looks,
    recovered,
    share_on,
)
from prefect_replicate.values import Prediction

_REQUESTS_A_SECOND = 20.0
"""Of an account's 3000 other calls a minute, which include pages
(https://replicate.com/docs/topics/predictions/rate-limits): the rest is for cancels, searches for
lost creates, and other workers."""

_IN_FLIGHT = 20
"""Requests without a reply at one time; the connection pool has room for others besides polls."""

_ROUND_SECONDS = 1.0
"""The shortest time between two rounds of requests when many wait. One page then serves many."""

_PROBE_SECONDS = 10.0
"""While nothing works, how long to wait for one request before another is tried."""

_SHORTEST_PAUSE = 0.1
_TICK = 0.001
_LONGEST_BACKOFF = 30.0
_LONGEST_WITHOUT_PAGES = 300.0
_REMEMBERED = 20_000
"""Creation times of ended predictions; predictions older than these are polled singly."""

_LARGEST_PAGE = 1_000_000
"""Characters of inputs, which each page repeats: an input may contain an image of up to 256 kB."""

_QUIET_SECONDS = 60.0
"""Between two lines about failed status requests in the log of one run."""


class _Setback(Exception):
    """Every request of a round has failed, or a failed one was told how long to wait."""

    def __init__(self, error: APIError | ConfigurationError, pause: float | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


class Watch:
    """What one wait has seen of its prediction, and when it wants the next status."""

    __slots__ = (
        *("_poller", "alone", "asked", "created_at", "due", "id"),
        *("is_listed", "news", "pause", "seen", "status"),
    )

    def __init__(self, poller: Poller, prediction_id: str) -> None:
        self._poller = poller
        self.id = prediction_id
        self.created_at: float | None = None
        self.is_listed = False
        self.status: str | None = None
        self.due = math.inf
        self.pause = 0.0
        self.seen = -math.inf
        self.alone = False
        self.asked: Look | None = None
        self.news: asyncio.Future[Prediction] | None = None

    def shows(self, prediction: Prediction) -> None:
        """Record a state that the wait knows."""
        self.status = prediction.status
        if prediction.created_at is not None and not self.is_listed:
            self.created_at = _seconds(prediction.created_at)

    def look_in(self, pause: float) -> asyncio.Future[Prediction]:
        """Return a future for the next status, which fails with the poller's error.

        The status comes after `pause`, later if many predictions are polled, and earlier if another
        request shows it anyway.
        """
        self.news = asyncio.get_running_loop().create_future()
        self.pause = pause
        self.due = _now() + pause
        self._poller.expects(self)
        return self.news

    def lose_interest(self) -> None:
        """Want no status for now."""
        self.news = None

    def is_first_to_fail(self, whose: Hashable) -> bool:
        """Whether no other wait of `whose` has lately logged a failed status request."""
        return self._poller.is_first_to_fail(whose)

    @property
    def is_open(self) -> bool:
        """Whether a status is wanted that has not been requested yet."""
        return self.news is not None and self.asked is None

    def show(self, prediction: Prediction) -> None:
        self.shows(prediction)
        self.alone = False
        if self.news is not None and not self.news.done():
            self.news.set_result(prediction)
        self.news = None

    def fail(self, error: Exception) -> None:
        if self.news is not None and not self.news.done():
            self.news.set_exception(error)
        self.news = None


class _Pollers(dict[Connection, "Poller"]):
    """Those that somebody waits on, by connection."""


@contextlib.contextmanager
def watch_of(connection: Connection, prediction_id: str) -> Generator[Watch, None, None]:
    """Poll a prediction together with all others that this process waits for."""
    pollers = process_state("pollers", _Pollers)
    if connection not in pollers:
        pollers[connection] = Poller(connection)
    poller = pollers[connection]
    watch = Watch(poller, prediction_id)
    poller.add(watch)
    try:
        yield watch
    finally:
        poller.remove(watch)
        if poller.is_idle:
            poller.stop()
            del pollers[connection]


class _Allowance:
    """How many requests may be sent now."""

    def __init__(self) -> None:
        self._tokens = _REQUESTS_A_SECOND
        self._counted_at = _now()

    def take(self) -> bool:
        """Take one, if there is one."""
        self._count()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait(self) -> float:
        """Seconds until there is one."""
        self._count()
        return max(0.0, (1 - self._tokens) / _REQUESTS_A_SECOND)

    def _count(self) -> None:
        now = _now()
        earned = (now - self._counted_at) * _REQUESTS_A_SECOND
        self._tokens = min(_REQUESTS_A_SECOND, self._tokens + earned)
        self._counted_at = now


class _Pages:
    """What the poller has learned from pages."""

    def __init__(self) -> None:
        self._share = 1.0
        self._seen_at = _now()
        self._setbacks = 0
        self._off_until = 0.0

    @property
    def are_usable(self) -> bool:
        return _now() >= self._off_until

    @property
    def share(self) -> float:
        return recovered(self._share, _now() - self._seen_at)

    def came(self, share: float | None) -> None:
        self._setbacks = 0
        if share is not None:
            self._share = (self.share + share) / 2
            self._seen_at = _now()

    def do_without(self) -> None:
        """Request none for a while, with back-off: single requests may be better."""
        if self.are_usable:
            self._setbacks += 1
            pause = min(2.0**self._setbacks, _LONGEST_WITHOUT_PAGES)
            self._off_until = _now() + pause


class Poller:
    """Polls the predictions of one account."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sights: dict[str, list[Watch]] = {}
        self._ended = array("d")
        self._allowance = _Allowance()
        self._pages = _Pages()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._successes = 0
        self._setback: _Setback | None = None
        self._is_probing = False
        self._said: dict[Hashable, float] = {}
        self._next_round = 0.0
        self._asleep_until = 0.0
        self._hurry = asyncio.Event()
        self._rows: list[float] = []
        # Its own context, since it outlives the run whose wait happens to be the first.
        self._task = Context().run(asyncio.create_task, self._serve())
        self._task.add_done_callback(self._tell_of_end)

    @property
    def is_idle(self) -> bool:
        return not self._sights

    def add(self, watch: Watch) -> None:
        self._sights.setdefault(watch.id, []).append(watch)

    def remove(self, watch: Watch) -> None:
        self._sights[watch.id].remove(watch)
        if self._sights[watch.id]:
            return
        del self._sights[watch.id]
        if watch.created_at is not None:
            insort(self._ended, watch.created_at)

    def stop(self) -> None:
        for task in (self._task, *self._in_flight):
            task.cancel()

    def expects(self, watch: Watch) -> None:
        """Wake up for a status that is wanted earlier than the others, or for a crowd."""
        is_crowd = len(self._sights) >= CROWD
        if max(0.0 if is_crowd else watch.due, self._next_round) < self._asleep_until:
            self._hurry.set()

    def is_first_to_fail(self, whose: Hashable) -> bool:
        now = _now()
        last = self._said.get(whose, -math.inf)
        if now - last < _QUIET_SECONDS:
            return False
        self._said[whose] = now
        return True

    def _tell_of_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._fail(list(self._sights), error)

    async def _serve(self) -> None:
        retrying = AsyncRetrying(retry=retry_if_exception_type(_Setback), wait=_backoff)
        while True:
            await self._until_next_round()
            await retrying(self._round)

    async def _until_next_round(self) -> None:
        while (seconds := self._seconds_to_next_round()) > 0:
            self._hurry.clear()
            self._asleep_until = _now() + seconds
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(
                    self._hurry.wait(), None if seconds == math.inf else max(seconds, _TICK)
                )

    def _seconds_to_next_round(self) -> float:
        if len(self._in_flight) >= _IN_FLIGHT:
            return math.inf
        now = _now()
        waiting = [watch for watch in self._all() if watch.is_open]
        due = min((watch.due for watch in waiting), default=math.inf)
        if len(waiting) >= CROWD:
            due = min(due, self._next_round)
        if not any(watch.alone for watch in waiting):
            due = max(due, self._next_round)
        return max(due - now, self._allowance.wait())

    def _all(self) -> Iterable[Watch]:
        return (watch for watches in self._sights.values() for watch in watches)

    async def _round(self) -> None:
        looks = self._probe() if self._is_probing else self._plan()
        now = _now()
        self._next_round = now + min(_ROUND_SECONDS, len(self._sights) / _REQUESTS_A_SECOND)
        started = [task for look in looks if (task := self._start(look))]
        if started:
            # A request that hangs does not delay the others.
            patience = _PROBE_SECONDS if self._is_probing else _ROUND_SECONDS
            await asyncio.wait(started, timeout=patience)
        self._judge()

    def _plan(self) -> list[Look]:
        wanted = self._wanted()
        self._rows = self._known_rows()
        if not self._pages.are_usable:
            wanted = [Wanted(one.id, None, one.overdue) for one in wanted]
        return plan_looks(wanted, self._rows, self._pages.share)

    def _wanted(self) -> list[Wanted]:
        now = _now()
        wanted: list[Wanted] = []
        for watches in self._sights.values():
            most = max(watches, key=lambda one: _overdue(one, now))
            if most.is_open:
                overdue, unseen = _overdue(most, now), now - most.seen
                place = most.created_at, overdue, unseen, most.is_listed, most.alone
                wanted.append(Wanted(most.id, *place))
        return wanted

    def _probe(self) -> list[Look]:
        """Return the due request that has not been tried for the longest time."""
        longest = min(self._due(), key=lambda one: one.due, default=None)
        return [Single(longest.id)] if longest else []

    def _due(self) -> list[Watch]:
        now = _now()
        return [one for one in self._all() if one.is_open and one.due <= now]

    def _known_rows(self) -> list[float]:
        """Return the creation times that a page may show; forget those that no page will show."""
        known = (watches[0].created_at for watches in self._sights.values())
        live = [moment for moment in known if moment is not None]
        outdated = bisect_left(self._ended, min(live, default=math.inf) - SLACK_SECONDS)
        del self._ended[: max(outdated, len(self._ended) - _REMEMBERED)]
        return sorted([*self._ended, *live])[-_REMEMBERED:]

    def _start(self, look: Look) -> asyncio.Task[None] | None:
        if len(self._in_flight) >= _IN_FLIGHT or not self._allowance.take():
            return None
        for watch in self._sights_of(look.ids):
            watch.asked = look
        task = asyncio.create_task(self._perform(look))
        self._in_flight.add(task)
        task.add_done_callback(self._landed)
        return task

    def _landed(self, task: asyncio.Task[None]) -> None:
        if len(self._in_flight) >= _IN_FLIGHT:
            self._hurry.set()
        self._in_flight.discard(task)

    def _sights_of(self, prediction_ids: Iterable[str]) -> list[Watch]:
        found = (self._sights.get(prediction_id, ()) for prediction_id in prediction_ids)
        return [watch for watches in found for watch in watches]

    async def _perform(self, look: Look) -> None:
        try:
            await (self._see(look) if isinstance(look, Single) else self._see_page(look))
        except Refused as refusal:
            self._failed(look, refusal.error, refusal.pause)
        except (APIError, ConfigurationError) as exc:
            if isinstance(look, Single) and isinstance(exc, APIError) and exc.is_refusal:
                self._fail(look.ids, exc)  # it concerns only this prediction
            else:
                self._failed(look, exc, None)
        except Exception as exc:  # noqa: BLE001 - any error is for the waits
            self._fail(look.ids, exc)
        finally:
            for watch in self._sights_of(look.ids):
                watch.asked = None if watch.asked is look else watch.asked

    async def _see(self, look: Single) -> None:
        prediction = await look_at_prediction(self._connection, look.id)
        self._successes += 1
        for watch in self._sights_of(look.ids):
            watch.show(prediction)

    async def _see_page(self, look: Page) -> None:
        asked_at = _now()
        page = await look_at_page(
            self._connection, look.created_after, look.created_before, self._sights
        )
        self._successes += 1
        since = _seconds(page.oldest) if page.oldest and not page.is_last else look.created_after
        if page.characters > _LARGEST_PAGE:
            self._pages.do_without()
        else:
            self._pages.came(share_on(self._rows, since, look.created_before, page.rows))
        shown = {one.id: one for one in page.predictions}
        for prediction in shown.values():
            for watch in self._sights_of([prediction.id]):
                self._saw_on_page(watch, prediction, asked_at)
        for watch in self._sights_of(one for one in look.ids if one not in shown):
            watch.alone = True  # unless another page of this round shows it

    def _saw_on_page(self, watch: Watch, prediction: Prediction, asked_at: float) -> None:
        watch.seen, watch.alone = asked_at, False
        if prediction.created_at is not None:
            watch.created_at, watch.is_listed = _seconds(prediction.created_at), True
        is_due = watch.due <= asked_at
        if is_behind(prediction.status, watch.status):
            watch.alone = is_due
        elif prediction.is_terminal:
            self._ask_singly(watch)  # the items of a list have no logs
        elif is_due or watch.status != prediction.status:
            watch.show(prediction)

    def _ask_singly(self, watch: Watch) -> None:
        """Request it alone, now or as soon as allowed."""
        if watch.news is not None and not isinstance(watch.asked, Single):
            watch.alone, watch.asked, watch.due = True, None, min(watch.due, _now())
            self._start(Single(watch.id))
            self._hurry.set()

    def _failed(
        self, look: Look, error: APIError | ConfigurationError, pause: float | None
    ) -> None:
        self._setback = _Setback(error, pause)
        if isinstance(look, Page):
            self._pages.do_without()
        self._fail(look.ids, error)

    def _fail(self, prediction_ids: Iterable[str], error: Exception) -> None:
        for watch in self._sights_of(prediction_ids):
            watch.fail(error)

    def _judge(self) -> None:
        """Continue after a round, or make all requests pause."""
        setback, successes = self._setback, self._successes
        self._setback, self._successes = None, 0
        if setback is None or (successes and setback.pause is None):
            self._is_probing = self._is_probing and not successes
            return
        self._is_probing = True
        if not successes:
            self._fail([one.id for one in self._due()], setback.error)
        raise setback


def _now() -> float:
    return asyncio.get_running_loop().time()


def _overdue(watch: Watch, now: float) -> float:
    return (now - watch.due) / max(watch.pause, _SHORTEST_PAUSE)


def _seconds(moment: datetime) -> float:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return aware.timestamp()


def _backoff(state: RetryCallState) -> float:
    setback = state.outcome.exception() if state.outcome else None
    assert isinstance(setback, _Setback)
    pause = wait_random_exponential(multiplier=0.5, max=_LONGEST_BACKOFF)(state)
    if setback.pause is None:
        return pause
    return min(setback.pause, _LONGEST_BACKOFF) + min(pause, 1.0)
