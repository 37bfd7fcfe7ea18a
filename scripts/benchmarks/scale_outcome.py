"""What having many predictions at a time came to; pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Of one way and one number of predictions at a time."""

    asked: int
    made: int
    """Predictions, each of which is paid."""
    delays: Sequence[float]
    """Seconds from completion to the end of the wait, of each that has a result."""
    durations: Sequence[float]
    """Seconds from creation to completion, of the same."""
    wall: float
    """Seconds until the end of the last wait; of all rounds together."""
    ideal: float
    """Seconds that it would take if nothing but the limit of creates and the models took any."""
    requests: Mapping[str, int]
    """By kind; `429` is how many were refused so."""
    losses: Mapping[str, int]
    """By what came instead of a result."""

    @property
    def results(self) -> int:
        return len(self.delays)

    @property
    def lost(self) -> int:
        return self.asked - self.results

    @property
    def for_nothing(self) -> int:
        """Predictions that nobody has the result of, or somebody else has, too."""
        return self.made - self.results

    @property
    def refused(self) -> int:
        return self.requests.get("429", 0)

    @property
    def requests_per_result(self) -> float:
        return sum(map(self.per_result, ("create", "get", "list", "other")))

    def per_result(self, kind: str) -> float:
        return self.requests.get(kind, 0) / max(1, self.results)

    @property
    def delay(self) -> float:
        return statistics.fmean(self.delays)

    @property
    def late_delay(self) -> float:
        """The delay that one of twenty exceeds."""
        return sorted(self.delays)[int(0.95 * (self.results - 1))]

    @property
    def delay_over_duration(self) -> float:
        return sum(self.delays) / sum(self.durations)

    @property
    def excess(self) -> float:
        """Wall time over the ideal."""
        return self.wall / self.ideal


def joined(rounds: Sequence[Outcome]) -> Outcome:
    """The same of all rounds together."""
    return Outcome(
        asked=sum(one.asked for one in rounds),
        made=sum(one.made for one in rounds),
        delays=[delay for one in rounds for delay in one.delays],
        durations=[duration for one in rounds for duration in one.durations],
        wall=sum(one.wall for one in rounds),
        ideal=sum(one.ideal for one in rounds),
        requests=_added([one.requests for one in rounds]),
        losses=_added([one.losses for one in rounds]),
    )


def _added(counts: Sequence[Mapping[str, int]]) -> Mapping[str, int]:
    return dict(sum((Counter(one) for one in counts), Counter[str]()))
