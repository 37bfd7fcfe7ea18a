"""What a sweep for orphans has come upon."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

Outcome = Literal["canceled", "found", "ended", "void", "left", "failed"]


class Orphan(BaseModel):
    """A prediction that no flow run waits for any more, and what was done about it."""

    model_config = ConfigDict(frozen=True)

    prediction_id: str | None
    """`None` for a create that was interrupted, and of which no prediction was found."""
    web_url: str | None
    model: str
    flow_run_id: UUID
    flow_run_name: str | None
    """`None` where the flow run has been deleted."""
    why: str
    """What became of the flow run, in words."""
    outcome: Outcome
    """`canceled`; `found`: alive, and a dry run; `ended`: by itself, before; `void`: no prediction
    was made; `left`: it was waited for again, or ended, in the last moment; `failed`: `error` says
    why.
    """
    error: str | None = None
    seconds_run: float | None = None
    """Seconds of model time so far; `None` where it has not started, or is not known."""
    seconds_saved: float = 0.0
    """Seconds until the deadline that would have ended it: at most so many are saved."""
