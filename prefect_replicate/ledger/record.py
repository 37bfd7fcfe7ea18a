"""One record of the ledger; pure."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from prefect_replicate.values import Prediction
from prefect_replicate.values.prediction import TERMINAL_STATUSES

INTENT = "intent"
"""The status of a record whose create is under way, or whose process died in the middle of it."""

VOID = "void"
"""The status of a record whose create turned out not to have made a prediction."""


class Record(BaseModel):
    """What is known of one paid call."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    model: str
    input_digest: str
    """SHA-256 of the input's canonical JSON as it was sent."""
    intent_at: datetime
    cancel_after: float
    base_url: str
    credentials_block: UUID | None = None
    """The saved block that has the key; `None` where it came from the environment."""
    status: str = INTENT
    prediction_id: str | None = None
    web_url: str | None = None
    seconds_billed: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether a prediction may be running for it."""
        return self.status not in TERMINAL_STATUSES and self.status != VOID

    def showing(self, prediction: Prediction) -> Record:
        """The record, brought up to what Replicate says now."""
        return self.model_copy(
            update={
                "status": prediction.status,
                "prediction_id": prediction.id,
                "web_url": prediction.web_url,
                "seconds_billed": prediction.predict_time,
            }
        )

    def description(self) -> str:
        """The record for people, as Markdown."""
        shown = f"[{self.prediction_id}]({self.web_url})" if self.prediction_id else "no id yet"
        billed = "" if self.seconds_billed is None else f" · {self.seconds_billed:.1f} s billed"
        return f"**{self.model}** · {shown} · {self.status}{billed}"


def digest(value: Any) -> str:
    """SHA-256 of canonical JSON, which is the same whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def record_key(root: UUID, model: str, input_digest: str, occurrence: int) -> str:
    """The key of a call, the same for each attempt of a run to make it.

    Args:
        root: The flow run at the top.
        model: The model reference.
        input_digest: Of the input, with files by their content.
        occurrence: 1 for the first call of this run that looks like this, 2 for the next.
    """
    call = digest([str(root), model, input_digest])
    return f"replicate-{call[:16]}-{occurrence}"  # longer ones overflow their card in the UI
