from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from prefect_replicate import Prediction
from prefect_replicate.values.prediction import PredictionURLs


def prediction(**fields: Any) -> Prediction:
    return Prediction(**{"id": "abc", "status": "succeeded", **fields})


@pytest.mark.parametrize(
    ("status", "is_terminal", "is_succeeded"),
    [
        ("starting", False, False),
        ("processing", False, False),
        ("succeeded", True, True),
        ("failed", True, False),
        ("canceled", True, False),
        ("aborted", True, False),
        ("brand-new", False, False),
    ],
)
def test_every_status_is_known_to_be_an_end_or_not(
    status: str, is_terminal: bool, is_succeeded: bool
) -> None:
    one = prediction(status=status)

    assert (one.is_terminal, one.is_succeeded) == (is_terminal, is_succeeded)


@pytest.mark.parametrize(
    ("error", "is_transient"),
    [
        ("Prediction interrupted; please retry (code: PA)", True),
        ("Something went wrong (E1000)", True),
        ("The service is busy (E003), try again later", True),
        ("Unknown error handling prediction with ID abc", True),
        ("The input or output was flagged as sensitive (E005)", False),
        ("CUDA out of memory", False),
        ("E10001 is no code", False),
        ("PA", False),
        ("", True),
        (" ", True),
        ("\u200b.", True),
        (None, True),
        ([], True),
        ({}, True),
        (0, True),
        ({"code": "PA"}, True),
        ({"code": "E005"}, False),
    ],
)
def test_a_failure_of_the_platform_is_transient(error: Any, is_transient: bool) -> None:
    assert prediction(status="failed", error=error).is_transient_failure is is_transient


def test_only_a_failure_is_a_transient_failure() -> None:
    assert not prediction(status="canceled", error="(code: PA)").is_transient_failure


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2025-01-02T03:04:05Z", 0),
        ("2025-01-02T03:04:05.123Z", 123000),
        ("2025-01-02T03:04:05.123456789Z", 123456),
        ("2025-01-02T03:04:05.12345678+00:00", 123456),
    ],
)
def test_times_of_any_precision_are_read(text: str, microsecond: int) -> None:
    expected = datetime(2025, 1, 2, 3, 4, 5, microsecond, timezone.utc)

    assert prediction(created_at=text).created_at == expected


@pytest.mark.parametrize(
    ("metrics", "seconds"),
    [({"predict_time": 1.5}, 1.5), ({"predict_time": 2}, 2.0), ({}, None), (None, None)],
)
def test_the_billed_seconds_are_the_predict_time(metrics: Any, seconds: float | None) -> None:
    assert prediction(metrics=metrics).predict_time == seconds


@pytest.mark.parametrize("urls", [None, {}, {"get": "x"}, {"web": None}])
def test_every_prediction_has_a_page(urls: Any) -> None:
    assert prediction(urls=urls).web_url == "https://replicate.com/p/abc"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("data_removed", None, False),
        ("version", {}, None),
        ("model", 7, None),
        ("logs", [], ""),
        ("logs", None, ""),
        ("input", None, {}),
        ("input", "text", {}),
        ("metrics", [1], {}),
        ("urls", "https://replicate.com", PredictionURLs()),
        ("urls", {"get": 1, "web": "https://x"}, PredictionURLs(web="https://x")),
        ("created_at", "yesterday", None),
        ("started_at", "", None),
        ("deployment", {"name": "x"}, None),
        ("error", {"code": 1}, '{"code": 1}'),
    ],
)
def test_an_optional_field_of_another_shape_is_taken_as_absent(
    field: str, value: Any, expected: Any
) -> None:
    assert getattr(prediction(**{field: value}), field) == expected


@pytest.mark.parametrize("body", [{"id": "", "status": "x"}, {"status": "x"}, {"id": "abc"}])
def test_what_has_no_id_or_status_is_not_a_prediction(body: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"id|status"):
        Prediction.model_validate(body)


def test_it_survives_json_and_cannot_be_changed() -> None:
    one = prediction(output={"a": [1]}, created_at="2025-01-02T03:04:05Z")

    assert Prediction.model_validate_json(one.model_dump_json()) == one
    with pytest.raises(ValidationError, match="frozen"):
        one.status = "failed"
