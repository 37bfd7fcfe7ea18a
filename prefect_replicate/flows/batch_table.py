"""What the Prefect UI shows of a batch; pure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from prefect_replicate.values import VideoOutcome

_PROMPT_LENGTH = 60
_ERROR_LENGTH = 120


def rows(outcomes: Sequence[VideoOutcome]) -> list[dict[str, Any]]:
    """The rows of the table, which the UI cuts off on the right where it is too wide.

    So a file and the reason why there is none share a column.
    """
    return [_row(one) for one in outcomes]


def _row(one: VideoOutcome) -> dict[str, Any]:
    return {
        "item": one.number if one.id is None else f"{one.number} ({one.id})",
        "state": one.state,
        "seconds": None if one.seconds is None else round(one.seconds, 1),
        "file": ", ".join(file.location for file in one.files)
        or _short(one.error or "", _ERROR_LENGTH),
        "prediction": f"[{one.prediction_id}]({one.web_url})" if one.prediction_id else "",
        "prompt": _short(one.prompt, _PROMPT_LENGTH),
    }


def _short(text: str, length: int) -> str:
    line = html.escape(" ".join(text.split()), quote=False)
    return line if len(line) <= length else line[: length - 1] + "…"


def percent_over(outcomes: Sequence[VideoOutcome]) -> float:
    """The share of items about which nothing more is done."""
    return round(100.0 * sum(one.is_over for one in outcomes) / len(outcomes), 1)
