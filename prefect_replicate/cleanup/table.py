"""How the orphans that a sweep found are shown; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from prefect.utilities.urls import url_for

from prefect_replicate.cleanup.orphans import for_people
from prefect_replicate.values import Orphan

_DONE = {
    "canceled": "canceled",
    "found": "would be canceled",
    "ended": "had ended by itself",
    "void": "had never been started",
    "left": "left alone, no longer an orphan",
    "failed": "not handled",
}


def done(orphan: Orphan) -> str:
    """Say what was done about an orphan."""
    return _DONE[orphan.outcome] + (f": {orphan.error}" if orphan.error else "")


def summary(orphans: Sequence[Orphan]) -> str:
    """Return one line: how many there were, their outcomes, and how many seconds that saved."""
    if not orphans:
        return "No orphaned predictions."
    counts = Counter(one.outcome for one in orphans)
    parts = [f"{counts[outcome]} {words}" for outcome, words in _DONE.items() if counts[outcome]]
    noun = "prediction" if len(orphans) == 1 else "predictions"
    saved = sum(one.seconds_saved for one in orphans)
    verb = "would be saved" if counts["found"] else "saved"
    saving = f" Up to {saved:,.0f} s {verb}." if saved else ""
    return f"{len(orphans)} orphaned {noun}: {', '.join(parts)}.{saving}"


def left_running(count: int, silence: float) -> str:
    """Return one line: how many predictions running flow runs wait for, and when those are dead."""
    noun, verb = ("prediction", "is") if count == 1 else ("predictions", "are")
    return (
        f"{count} open {noun} of running flow runs {verb} left alone: such a run counts as dead"
        f" {for_people(silence)} after its last heartbeat."
    )


def rows(orphans: Sequence[Orphan]) -> list[dict[str, Any]]:
    """Return the rows of the table for the UI, which cuts off a wide table on the right."""
    return [
        {
            "prediction": _link(one.prediction_id or "no id", one.web_url),
            "flow run": _link(*_flow_run(one)),
            "why": one.why,
            "done": done(one),
            "ran (s)": seconds(one.seconds_run),
            "saved (s)": seconds(one.seconds_saved or None),
            "model": one.model,
        }
        for one in orphans
    ]


def _flow_run(orphan: Orphan) -> tuple[str, str | None]:
    if orphan.flow_run_name is None:
        return f"{str(orphan.flow_run_id)[:8]}…", None
    return orphan.flow_run_name, url_for("flow-run", orphan.flow_run_id)


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _link(text: str, url: str | None) -> str:
    return f"[{text}]({url})" if url else text
