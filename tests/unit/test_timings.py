from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from prefect_replicate import Prediction
from prefect_replicate.ledger.timings import Timing, expected_of, workload_of

NOW = datetime.now(timezone.utc)


def prediction(**fields: Any) -> Prediction:
    born = NOW - timedelta(seconds=60)
    usual = {
        "id": "abc",
        "status": "succeeded",
        "model": "owner/name",
        "created_at": born,
        "started_at": born + timedelta(seconds=2),
        "completed_at": born + timedelta(seconds=48),
    }
    return Prediction(**{**usual, **fields})


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"prompt": "a fox"}, {"prompt": "an owl"}, True),
        ({"negative_prompt": "a"}, {}, True),
        ({"text": "hello"}, {"text": "bye"}, True),
        ({"seed": 1}, {"seed": 2}, True),
        ({"seed": 1}, {}, True),
        ({"image": "https://a.test/1.png"}, {"image": "https://a.test/2.png"}, True),
        ({"image": "data:image/png;base64,AAAA"}, {"image": "https://a.test/2.png"}, True),
        ({"image": "https://a.test/1.png"}, {}, False),
        ({"images": ["https://a.test/1"]}, {"images": ["https://a.test/1"] * 2}, False),
        ({"resolution": "720p"}, {"resolution": "1080p"}, False),
        ({"aspect_ratio": "16:9"}, {"aspect_ratio": "9:16"}, False),
        ({"duration": 5}, {"duration": 10}, False),
        ({"duration": 5}, {"duration": 5.0}, True),
        ({"turbo": True}, {"turbo": False}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"extra": {"steps": 1}}, {"extra": {"steps": 2}}, False),
    ],
)
def test_the_workload_is_what_decides_how_long_it_takes(
    one: dict[str, Any], other: dict[str, Any], is_same: bool
) -> None:
    same = workload_of(prediction(input=one)) == workload_of(prediction(input=other))

    assert same is is_same


@pytest.mark.parametrize(
    "fields", [{"model": "owner/other"}, {"version": "f" * 64}, {"deployment": "owner/own"}]
)
def test_another_model_is_another_workload(fields: dict[str, Any]) -> None:
    assert workload_of(prediction(**fields)) != workload_of(prediction())


@pytest.mark.parametrize(
    ("fields", "queued", "seconds"),
    [
        ({}, 2, 48),
        ({"started_at": None}, None, 48),
        ({"created_at": NOW.replace(tzinfo=None) - timedelta(seconds=60)}, 2, 48),
    ],
)
def test_a_success_tells_how_long_it_took(
    fields: dict[str, Any], queued: float | None, seconds: float
) -> None:
    timing = Timing.of(prediction(**fields))

    assert timing is not None
    assert (timing.seconds_queued, timing.seconds) == (queued, seconds)


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "failed"},
        {"status": "canceled"},
        {"created_at": None},
        {"completed_at": None},
        {"data_removed": True},
        {"completed_at": NOW - timedelta(hours=1)},
    ],
)
def test_nothing_is_learned_from(fields: dict[str, Any]) -> None:
    assert Timing.of(prediction(**fields)) is None


def timings(*seconds: float, model: str = "owner/name", workload: str = "w") -> list[Timing]:
    return [Timing(model=model, workload=workload, seconds=one) for one in seconds]


@pytest.mark.parametrize(
    ("known", "p50"),
    [
        ([], None),
        (timings(1, 2), None),
        (timings(1, 2, 3), 2),
        (timings(9, 9, 9, model="owner/other"), None),
        (timings(7, 8, 9, workload="v") + timings(1, 2), 7),
        (timings(7, 8, 9, workload="v") + timings(1, 2, 3), 2),
        (timings(*[5] * 20) + timings(*[99] * 20), 5),
        (timings(*[5] * 11) + timings(*[99] * 11), 5),
        (timings(*[5] * 20, workload="v") + timings(*[9] * 20, workload="u"), 5),
    ],
)
def test_the_last_runs_alike_count_and_else_any_of_the_model(
    known: list[Timing], p50: float | None
) -> None:
    expected = expected_of(known, "owner/name", "w")

    assert (expected and expected.p50) == p50
