"""An orphan that a sweep found."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

Outcome = Literal["canceled", "found", "ended", "void", "left", "failed"]


class Orphan(BaseModel):
    """A prediction that no flow run waits for anymore, and what was done about it."""

    model_config = ConfigDict(frozen=True)

    prediction_id: str | None
    """`None` for an interrupted create for which no prediction was found."""
    web_url: str | None
    """The prediction's page at Replicate."""
    model: str
    """The model as the flow run named it."""
    flow_run_id: UUID
    """The flow run that started it."""
    flow_run_name: str | None
    """`None` if the flow run was deleted."""
    why: str
    """What happened to the flow run, in words."""
    outcome: Outcome
    """`canceled`; `found`: alive, in a dry run; `ended`: it had ended by itself; `void`: no
    prediction was made; `left`: at the last moment, it ended or was waited for again; `failed`:
    `error` says why.
    """
    error: str | None = None
    """Why it could not be handled."""
    seconds_run: float | None = None
    """Seconds of model time so far; `None` if it hasn't started, or if this is unknown."""
    seconds_saved: float = 0.0
    """Seconds until the deadline that would have ended it; the most that canceling can save."""
