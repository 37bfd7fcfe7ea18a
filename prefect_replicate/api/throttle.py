"""The rate limits of an account, as far as this process can know them, and the queues for them.

Every reply says how many requests of its class are left for everyone who shares the account.
Requests are spaced so that some always remain: the fewer are left, the longer the pause. So
processes that don't know of each other slow down together before Replicate refuses any of them, and
a single process settles at the full rate.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

RESERVE = 30.0
"""How many requests are left once a process that has the account to itself settles."""

_SECOND_WINDOW = 10
_UNUSED_WINDOW = 20

_MEMORY = 0.9
"""The requests of others are averaged over the last ten replies or so."""

_IDLE_SECONDS = 10.0
"""After this long without a reply, what others sent meanwhile says nothing about their share."""

URGENT_SECONDS = 5.0
"""The longest that a refusal delays a cancel, whatever it says: the prediction costs money
meanwhile, and a refused cancel costs nothing."""

FIRST_ALONE_SECONDS = 2.0
"""How long the first create of a process holds back the others, at most: until its reply, which
says how many may go."""

_NEGLIGIBLE_SECONDS = 0.002
_JITTER_SECONDS = 0.25  # or processes that were refused together would retry together

_CREATE = re.compile(r"/predictions/?$")
_GET = re.compile(r"/v1/predictions/[^/]+/?$")


class Limit(NamedTuple):
    """A bucket that holds `burst` requests and refills at `per_second`."""

    per_second: float
    burst: float

    def fits(self, remaining: float, reset: float) -> bool:
        """Whether this bucket, with `remaining` left (rounded down), is full in `reset` seconds."""
        missing = self.burst - remaining
        return missing > 0 and (missing - 1) / self.per_second <= reset <= (
            missing / self.per_second + 1
        )


# https://replicate.com/docs/topics/predictions/rate-limits; the limit for reading a prediction is
# what its replies show.
CREATES = Limit(600 / 60, 600)
GETS = Limit(60_000 / 60, 60_000)
OTHERS = Limit(3_000 / 60, 3_000)


def learned(limit: Limit, documented: Limit, remaining: float, reset: float) -> Limit:
    """Return the limit that fits a reply; a reply alone does not determine a limit.

    Args:
        limit: The limit assumed so far.
        documented: The limit for accounts in good standing.
        remaining: Requests left.
        reset: Seconds until the bucket is full, rounded up.
    """
    for known in (limit, documented):
        if known.fits(remaining, reset):
            return known
    if remaining < 1:
        return Limit(1 / max(reset, 1.0), 1)
    return documented if remaining >= limit.burst else limit


@dataclass(frozen=True)
class Budget:
    """What is known about one class of requests; times are seconds of any one clock."""

    documented: Limit
    limit: Limit
    tokens: float
    """Left at `counted_at`, according to the last reply."""
    counted_at: float
    window: float = math.inf
    """How many may be in flight. It starts small and grows with each reply: the first replies show
    how fast others send requests."""
    under_way: int = 0
    """Permits that were given and not settled yet."""
    last_at: float | None = None
    """When the last permit was given, unless it was given back."""
    closed_until: float = -math.inf
    refused_at: float = -math.inf
    refusals: int = 0
    """In a row."""
    others: float = 0.0
    """Requests of others for each of ours, as the counts in replies show."""

    @classmethod
    def of(cls, documented: Limit, now: float, window: float = math.inf) -> Budget:
        return cls(documented, documented, documented.burst, now - _IDLE_SECONDS, window)

    @property
    def sharers(self) -> float:
        """The estimated number of processes like this one, including itself."""
        return 1 + max(0.0, self.others)

    def left(self, now: float) -> float:
        """Return the requests left after those in flight, if nobody else sends any."""
        filled = self.tokens + self.limit.per_second * (now - self.counted_at)
        return min(self.limit.burst, filled) - self.under_way

    def opens_at(self, now: float, *, is_urgent: bool = False) -> float:
        """Return when the next request may be sent; infinity if that depends on a reply.

        Args:
            now: The time.
            is_urgent: Whether it waits no longer than the documented limit requires, and
                `URGENT_SECONDS` after a refusal, since replies may say anything.
        """
        if is_urgent:
            last_at = -math.inf if self.last_at is None else self.last_at
            spaced = last_at + 1 / self.documented.per_second
            return min(self.opens_at(now), max(self.refused_at + URGENT_SECONDS, spaced))
        if self.under_way >= self.window and self.last_at is not None:
            return max(self.last_at + FIRST_ALONE_SECONDS, self.closed_until)
        if self.limit.burst - self.under_way < 1:
            return math.inf
        short = max(0.0, 1 - self.left(now)) / self.limit.per_second
        return max(self.closed_until, now + short, self._paced())

    def _paced(self) -> float:
        """Return when the pause, reserve ÷ (rate × left), is over; `left` grows meanwhile."""
        if self.last_at is None:
            return -math.inf
        rate, burst = self.limit
        reserve = min(RESERVE * self.sharers, max(1.0, burst / 2))
        left = self.tokens + rate * (self.last_at - self.counted_at) - self.under_way
        growth = (math.sqrt(left * left + 4 * reserve) - left) / 2
        return self.last_at + max(growth, reserve / (burst - self.under_way)) / rate

    def taken(self, now: float) -> Budget:
        return replace(self, under_way=self.under_way + 1, last_at=now)

    def given_back(self) -> Budget:
        """Nothing was sent, so the next request need not wait for it."""
        # A call whose prediction turns out to exist holds a permit until it has found that out.
        window = max(self.window, min(self.window + 1, _UNUSED_WINDOW))
        return replace(self, under_way=self.under_way - 1, last_at=None, window=window)

    def spent(self, now: float) -> Budget:
        """It was sent, and no reply says what is left."""
        return replace(self._after_reply(), tokens=self._expected(now), counted_at=now)

    def answered(self, now: float, remaining: float, reset: float) -> Budget:
        others = self.others
        if now - self.counted_at < _IDLE_SECONDS:
            others += (self._expected(now) - remaining - others) * (1 - _MEMORY)
        return replace(
            self._after_reply(),
            limit=learned(self.limit, self.documented, remaining, reset),
            tokens=remaining,
            counted_at=now,
            refusals=0,
            others=others,
        )

    def refused(self, now: float, pause: float, limit: Limit | None) -> Budget:
        """Nothing more is sent for `pause` seconds.

        Args:
            now: When the refusal came.
            pause: As the refusal says, or `own_pause`.
            limit: If it names one.
        """
        until = max(self.closed_until, now + pause)
        return replace(
            self._after_reply(),
            limit=limit or self.limit,
            tokens=1.0,
            counted_at=until,
            closed_until=until,
            refused_at=now,
            refusals=self.refusals + (now >= self.closed_until),
        )

    def _after_reply(self) -> Budget:
        window = max(_SECOND_WINDOW, self.window + 1)
        return replace(self, under_way=self.under_way - 1, window=window)

    def _expected(self, now: float) -> float:
        """Return the requests left after ours, if nobody else has sent any since the last reply."""
        return self.left(now) + self.under_way - 1

    def own_pause(self, longest: float) -> float:
        """Return the seconds to wait after a refusal that does not say how long."""
        return min(longest, 0.5 * 2.0 ** min(self.refusals, 10))


class Gate:
    """The queue for one class of requests of a connection. Lives on the engine's loop."""

    def __init__(self, documented: Limit, window: float = math.inf) -> None:
        self._documented = documented
        self._window = window
        self._known: Budget | None = None
        self._queue: list[tuple[tuple[int, int], asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def budget(self) -> Budget:
        if self._known is None:
            self._known = Budget.of(self._documented, _now(), self._window)
        return self._known

    @property
    def waiting(self) -> int:
        return sum(not future.done() for _, future in self._queue)

    def soon(self, seconds: float) -> int:
        """Return how many of the waiting requests can be admitted within some seconds."""
        budget = self.budget
        ours = max(budget.limit.per_second * seconds, budget.left(_now()) / 2) / budget.sharers
        return min(self.waiting, int(ours))

    def turn(self, *, is_urgent: bool = False) -> Turn:
        """Return a place in the queue; urgent requests go first."""
        return Turn(self, (not is_urgent, next(self._numbers)))

    async def enter(self, place: tuple[int, int]) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (place, future))
        self._let_in()
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():  # it was admitted at the same moment
                self.now_knows(self.budget.given_back())
            raise

    def now_knows(self, budget: Budget) -> None:
        self._known = budget
        self._let_in()

    def _let_in(self) -> None:
        now = _now()
        while (first := self._first()) is not None:
            opens_at = self.budget.opens_at(now, is_urgent=not self._queue[0][0][0])
            if opens_at > now + _NEGLIGIBLE_SECONDS:
                self._look_again(opens_at)
                return
            heapq.heappop(self._queue)
            self._known = self.budget.taken(now)
            first.set_result(None)

    def _first(self) -> asyncio.Future[None] | None:
        while self._queue and self._queue[0][1].done():
            heapq.heappop(self._queue)
        return self._queue[0][1] if self._queue else None

    def _look_again(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when < math.inf:
            self._timer = asyncio.get_running_loop().call_at(when, self._let_in)


class Turn:
    """A request's place in its queue, which it keeps when it is refused for now."""

    def __init__(self, gate: Gate, place: tuple[int, int]) -> None:
        self.gate = gate
        self._place = place
        self._is_held = False
        self.seconds_refused = 0.0
        """How long refusals have made it wait, in total."""

    @property
    def is_held(self) -> bool:
        """Whether the request may be sent now."""
        return self._is_held

    async def come(self) -> None:
        """Wait until the request may be sent; a caller that gives up meanwhile loses nothing."""
        if not self._is_held:
            await self.gate.enter(self._place)
            self._is_held = True

    def give_back(self) -> bool:
        """Let the next request go if nothing was sent; return whether that is so."""
        return self._settle(self.gate.budget.given_back())

    def spent(self) -> None:
        self._settle(self.gate.budget.spent(_now()))

    def answered(self, remaining: float, reset: float) -> None:
        self._settle(self.gate.budget.answered(_now(), remaining, reset))

    def refused(self, pause: float | None, longest: float, limit: Limit | None) -> None:
        """Record a 429: all requests of this class wait.

        Args:
            pause: Seconds, if it says how long.
            longest: The most seconds to wait, whatever it says.
            limit: If it names one.
        """
        budget = self.gate.budget
        seconds = budget.own_pause(longest) if pause is None else min(pause, longest)
        self.seconds_refused += seconds
        jitter = random.uniform(0, _JITTER_SECONDS)
        self._settle(budget.refused(_now(), seconds + jitter, limit))

    def _settle(self, budget: Budget) -> bool:
        was_held, self._is_held = self._is_held, False
        if was_held:
            self.gate.now_knows(budget)
        return was_held


class Gates:
    """A connection's queues, for the three classes of requests that Replicate counts separately."""

    def __init__(self) -> None:
        self.creates = Gate(CREATES, window=1)
        self.gets = Gate(GETS)
        self.others = Gate(OTHERS)

    def turn(self, method: str, path: str) -> Turn:
        """Return a place for a request; a cancel goes ahead of all others of its class."""
        path = path.partition("?")[0]
        if method == "POST" and _CREATE.search(path):
            return self.creates.turn()
        if method == "GET" and _GET.search(path):
            return self.gets.turn()
        return self.others.turn(is_urgent=path.endswith("/cancel"))


def _now() -> float:
    return asyncio.get_running_loop().time()
