"""When to poll a prediction again."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

LONGEST_SECONDS = 366 * 24 * 3600.0
"""A year: longer times overflow when added to a date."""

_Seconds = Annotated[float, Field(le=LONGEST_SECONDS)]


class PollPolicy(BaseModel):
    """How often to poll a prediction, and for how long.

    The pause grows by `factor` from `min_interval` to `max_interval`, and returns to `min_interval`
    whenever the status changes. With the default factor, a result is noticed with a delay of 5 % of
    the model's run time on average, and of about 10 % plus half a second at most.

    If the ledger knows how long such predictions take, there is also a poll shortly before the
    prediction could be done, and the pause returns to `min_interval` then.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_interval: _Seconds = Field(
        default=0.5, ge=0, description="Seconds before the first status request."
    )
    max_interval: _Seconds = Field(default=10.0, ge=0, description="Longest pause in seconds.")
    factor: float = Field(
        default=1.1,
        ge=1,
        le=1000,
        description="Growth of the pause from one status request to the next.",
    )
    jitter: float = Field(default=0.1, ge=0, lt=1, description="Random share of each pause, ±.")
    queue_timeout: _Seconds | None = Field(
        default=None,
        gt=0,
        description="Seconds that a prediction may stay in `starting`; `None`: no limit.",
    )
    run_timeout: _Seconds | None = Field(
        default=None,
        gt=0,
        description="Seconds that a prediction may run once started; `None`: no limit.",
    )
    failure_budget: _Seconds = Field(
        default=300.0,
        ge=0,
        description="Seconds for which every status request may fail before the wait gives up.",
    )

    @model_validator(mode="after")
    def _intervals_in_order(self) -> PollPolicy:
        if self.min_interval > self.max_interval:
            raise ValueError(
                f"min_interval ({self.min_interval:g} s) is longer than max_interval"
                f" ({self.max_interval:g} s)"
            )
        return self

    def pause(self, looks: int, chance: float) -> float:
        """Return the seconds until the next poll.

        Args:
            looks: The number of polls since the status last changed.
            chance: A random number between 0 and 1.
        """
        try:
            grown = self.min_interval * self.factor**looks
        except OverflowError:
            grown = self.max_interval if self.min_interval else 0.0
        return min(grown, self.max_interval) * (1 + self.jitter * (2 * chance - 1))

    def time_left(self, status: str, queued: float, running: float) -> float:
        """Return the seconds left until the limit that applies; takes `exceeded`'s arguments."""
        limit, passed = self.run_timeout, running
        if status == "starting":
            limit, passed = self.queue_timeout, queued
        return math.inf if limit is None else limit - passed

    def exceeded(self, status: str, queued: float, running: float) -> str | None:
        """Say which of the two limits is exceeded, if any.

        Args:
            status: The prediction's status now.
            queued: Seconds from creation to the start, or until now.
            running: Seconds since the start; 0 before it.
        """
        if status == "starting":
            if self.queue_timeout is not None and queued > self.queue_timeout:
                return f"still queued after {queued:.0f} s (queue_timeout {self.queue_timeout:g} s)"
        elif self.run_timeout is not None and running > self.run_timeout:
            return f"still running after {running:.0f} s (run_timeout {self.run_timeout:g} s)"
        return None
