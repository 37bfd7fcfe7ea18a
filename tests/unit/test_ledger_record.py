from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import pytest

from prefect_replicate import Prediction
from prefect_replicate.ledger.record import INTENT, VOID, Record, call_digest, digest, record_key

RUN, OTHER_RUN = UUID(int=1), UUID(int=2)
RECORD = Record(
    key="replicate-x-1",
    call="c",
    model="owner/name",
    input_digest={},
    intent_at=datetime(2025, 1, 2, tzinfo=timezone.utc),
    cancel_after=60,
    base_url="https://api.replicate.com",
)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (
            {"a": {"y": 1, "x": [1, {"q": 0, "p": 0}]}},
            {"a": {"x": [1, {"p": 0, "q": 0}], "y": 1}},
            True,
        ),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ({"a": "ü"}, {"a": "u"}, False),
        ({}, {}, True),
    ],
)
def test_the_digest_is_that_of_the_meaning(one: Any, other: Any, is_same: bool) -> None:
    assert (digest(one) == digest(other)) is is_same


def test_the_key_says_the_run_the_account_the_model_and_the_input() -> None:
    keys = [
        key(RUN, "account", "a/b", {"a": "1"}),
        key(OTHER_RUN, "account", "a/b", {"a": "1"}),
        key(RUN, "other", "a/b", {"a": "1"}),
        key(RUN, "account", "a/c", {"a": "1"}),
        key(RUN, "account", "a/b", {"a": "2"}),
        key(RUN, "account", "a/b", {"a": "1"}, "place"),
    ]

    assert len(set(keys)) == len(keys)
    assert keys[0] == key(RUN, "account", "a/b", {"a": "1"})


def key(root: UUID, *call: Any) -> str:
    return record_key(root, call_digest(*call))


def test_the_key_is_one_that_prefect_takes() -> None:
    prefect_takes = re.compile(r"[a-z0-9-]+")

    assert prefect_takes.fullmatch(key(RUN, "Account", "Owner/Name_1.0", {"a": "1"}))


@pytest.mark.parametrize(
    ("status", "is_open"),
    [
        (INTENT, True),
        ("starting", True),
        ("processing", True),
        ("brand-new", True),
        (VOID, False),
        ("succeeded", False),
        ("failed", False),
        ("canceled", False),
        ("aborted", False),
    ],
)
def test_a_record_is_open_while_something_may_run(status: str, is_open: bool) -> None:
    assert RECORD.model_copy(update={"status": status}).is_open is is_open


def test_a_record_shows_what_replicate_says() -> None:
    prediction = Prediction(
        id="abc", status="succeeded", metrics={"predict_time": 2.5}, input={"secret": "prompt"}
    )

    shown = RECORD.showing(prediction)

    assert (shown.prediction_id, shown.status, shown.seconds_billed) == ("abc", "succeeded", 2.5)
    assert shown.key == RECORD.key
    assert "prompt" not in shown.model_dump_json()
    assert shown.description() == (
        "**owner/name** · [abc](https://replicate.com/p/abc) · succeeded · 2.5 s billed"
    )


def test_an_intent_has_no_id_yet() -> None:
    assert RECORD.description() == "**owner/name** · no id yet · intent"


def test_a_record_of_a_later_version_is_read() -> None:
    later = {**RECORD.model_dump(mode="json"), "brand_new": 1}

    assert Record.model_validate(later) == RECORD
