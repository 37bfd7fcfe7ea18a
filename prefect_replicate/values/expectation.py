"""How long a prediction is expected to take."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from statistics import NormalDist

from pydantic import BaseModel, ConfigDict, Field

_EARLIER = 0.95
"""If all runs take the same time, polling speeds up a little before that time."""

_CAUTION = 2.0
"""With 1, one in ten would be done by then; with 0, half of them."""

_SHORTEST = 0.01
_MOST_SHOWN = 95.0
_NINETIETH = NormalDist().inv_cdf(0.9)
_HARDLY_EVER = 0.999


class Expectation(BaseModel):
    """The expected duration, from earlier runs of the same kind, in seconds since creation.

    Durations are assumed to be log-normal: as many are below half the median as above twice it.
    """

    model_config = ConfigDict(frozen=True)

    p50: float = Field(gt=0)
    p90: float = Field(gt=0)

    @classmethod
    def from_runs(cls, seconds: Sequence[float]) -> Expectation:
        """Derive an expectation from the durations of at least two runs."""
        real = [max(one, _SHORTEST) for one in seconds]
        deciles = statistics.quantiles(real, n=10, method="inclusive")
        return cls(p50=statistics.median(real), p90=deciles[-1])

    @property
    def earliest_end(self) -> float:
        """When to start polling more often: fewer than one in a hundred are done by then."""
        return self.p50 * (self.p50 / self.p90) ** _CAUTION * _EARLIER

    def share_done(self, seconds: float) -> float:
        """Estimate a prediction's progress at that age in percent, never reaching 100.

        Half of those still running at that age take longer than the total assumed here.
        """
        if seconds <= 0:
            return 0.0
        spread = math.log(self.p90 / self.p50) / _NINETIETH
        done_by_now = NormalDist(math.log(self.p50), max(spread, 1e-6)).cdf(math.log(seconds))
        if done_by_now > _HARDLY_EVER:
            return _MOST_SHOWN
        at_half_of_the_rest = NormalDist().inv_cdf((1 + done_by_now) / 2)
        whole = self.p50 * math.exp(spread * at_half_of_the_rest)
        return min(100 * seconds / whole, _MOST_SHOWN)

    def is_overdue(self, seconds: float) -> bool:
        """Return whether nine in ten are done at that age."""
        return seconds > self.p90

    @property
    def estimate(self) -> str:
        """The expected duration in words, before it is done."""
        return f"about {_said(self.p50)} (nine in ten within {_said(self.p90)})"

    @property
    def excuse(self) -> str:
        """The delay in words, once it is overdue."""
        usually, at_most = _said(self.p50), _said(self.p90)
        return f"taking longer than usual (usually {usually}, nine in ten within {at_most})"


def _said(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
