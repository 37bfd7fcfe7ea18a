from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from prefect_replicate.cleanup.table import rows, summary
from prefect_replicate.values import Orphan


def orphan(outcome: str, **fields: Any) -> Orphan:
    return Orphan(
        **{
            "prediction_id": "p",
            "web_url": "https://x.org/p",
            "model": "owner/name",
            "flow_run_id": UUID(int=1),
            "flow_run_name": "a-run",
            "why": "its flow run crashed 6 min ago",
            "outcome": outcome,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("orphans", "line"),
    [
        ([], "No orphaned predictions."),
        (
            [orphan("canceled", seconds_saved=1200.4), orphan("canceled", seconds_saved=60)],
            "2 orphaned predictions: 2 canceled. Up to 1,260 s saved.",
        ),
        (
            [orphan("found", seconds_saved=60)],
            "1 orphaned prediction: 1 would be canceled. Up to 60 s would be saved.",
        ),
        (
            [orphan("canceled", seconds_saved=60), orphan("ended"), orphan("void")],
            "3 orphaned predictions: 1 canceled, 1 had ended by itself, 1 had never been started."
            " Up to 60 s saved.",
        ),
        (
            [orphan("failed"), orphan("left")],
            "2 orphaned predictions: 1 left alone, no longer an orphan, 1 not handled.",
        ),
    ],
)
def test_the_totals_are_one_line(orphans: list[Orphan], line: str) -> None:
    assert summary(orphans) == line


def test_a_row_says_what_is_known() -> None:
    [row] = rows([orphan("canceled", seconds_run=41.4, seconds_saved=3600)])

    assert row["prediction"] == "[p](https://x.org/p)"
    assert (row["ran (s)"], row["saved (s)"], row["done"]) == ("41", "3,600", "canceled")


def test_a_row_leaves_empty_what_is_not_known() -> None:
    lost = {"prediction_id": None, "web_url": None, "flow_run_name": None}
    [row] = rows([orphan("failed", error="no token", **lost)])

    assert (row["prediction"], row["flow run"]) == ("no id", "00000000…")
    assert (row["ran (s)"], row["saved (s)"], row["done"]) == ("", "", "not handled: no token")
