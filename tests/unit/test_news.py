"""What an event says, and what it must not say."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.assets import Asset
from prefect.events import Event

from prefect_replicate import OutputFile, Prediction
from prefect_replicate.ledger.events import (
    Around,
    News,
    change_of,
    materialization_of,
)
from prefect_replicate.ledger.facts import Ancestor, Origin
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.text import keep_secret
from prefect_replicate.values.expectation import Expectation

URL = "https://api.replicate.com/v1"
OWN, ROOT, TASK, DEPLOYMENT = [UUID(int=number) for number in range(4)]
AROUND = Around((OWN, ROOT), TASK, DEPLOYMENT)
TIMES = {
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": "2026-01-01T00:00:02Z",
    "completed_at": "2026-01-01T00:00:12Z",
}


def prediction(**fields: Any) -> Prediction:
    return Prediction(**{"id": "abc", "status": "succeeded", "model": "owner/name", **fields})


def change(name: str, **fields: Any) -> News:
    return change_of(prediction(**fields), name, URL, AROUND)


def file(**fields: Any) -> OutputFile:
    own = {"location": "/videos/abc.mp4", "output_path": "", "source": "https://x.test/a.mp4"}
    about = {"media_type": "video/mp4", "size": 7, "sha256": "ab" * 32}
    return OutputFile(**{**own, **about, **fields})


def as_sent(news: News) -> Event:
    return Event(
        event=news.event, resource=news.resource, related=news.related, payload=news.payload
    )


def test_an_end_says_how_long_it_took_and_what_was_asked_for() -> None:
    news = change("succeeded", input={"prompt": "a fox"}, metrics={"predict_time": 9.5}, **TIMES)

    assert news.event == "replicate.prediction.succeeded"
    assert news.resource == {
        "prefect.resource.id": "replicate.prediction.abc",
        "prefect.resource.name": "owner/name abc",
        "replicate.model": "owner/name",
        "replicate.status": "succeeded",
    }
    assert news.payload.pop("workload")
    assert news.payload == {
        "id": "abc",
        "base_url": URL,
        "url": "https://replicate.com/p/abc",
        "model": "owner/name",
        "prompt": "a fox",
        "status": "succeeded",
        "seconds_queued": 2,
        "seconds": 12,
        "predict_time": 9.5,
        "metrics": {"predict_time": 9.5},
    }


def test_the_run_comes_before_the_one_at_the_top() -> None:
    related = as_sent(change("created")).related

    assert [(one.role, one.id) for one in related] == [
        ("flow-run", f"prefect.flow-run.{OWN}"),
        ("root-flow-run", f"prefect.flow-run.{ROOT}"),
        ("task-run", f"prefect.task-run.{TASK}"),
        ("deployment", f"prefect.deployment.{DEPLOYMENT}"),
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("The input or output was flagged as sensitive. (E005)", "flagged"),
        ("NSFW content detected", "flagged"),
        ("Prediction interrupted; please retry (code: PA)", "transient"),
        (None, "transient"),
        ("CUDA out of memory", "other"),
    ],
)
def test_a_failure_can_be_told_from_others(error: str | None, reason: str) -> None:
    news = change("failed", status="failed", error=error)

    assert news.resource["replicate.reason"] == reason


def test_an_event_says_nothing_of_the_input_but_its_prompt() -> None:
    news = change("created", input={"prompt": "a fox", "key": "sk-1", "image": "https://x.test/me"})

    said = json.dumps([news.resource, news.related, news.payload])
    assert "a fox" in said
    assert "sk-1" not in said
    assert "x.test" not in said


def test_what_others_have_written_is_clean_and_short() -> None:
    keep_secret("r8_never_shown")
    text = "a\x1b[31m fox\nr8_never_shown " + "x" * 100_000

    news = change(
        "failed",
        status="failed",
        error=text,
        input={"prompt": text},
        metrics={**{f"{text} {number}": 1 for number in range(1000)}, "odd": [1], "inf": 1e999},
    )

    event = as_sent(news)
    said = json.dumps(news.payload)
    assert "r8_never_shown" not in said
    assert "\\u001b" not in said
    assert event.size_bytes < 20_000


def test_the_news_are_the_same_whoever_emits_them() -> None:
    one, other = change("succeeded"), change_of(prediction(), "succeeded", URL, Around())

    assert one.id == other.id
    assert one.id != change("created").id
    assert one.id != change_of(prediction(), "succeeded", "http://localhost/v1", AROUND).id


def test_what_is_overdue_says_what_was_expected() -> None:
    running = prediction(status="processing")

    news = change_of(running, "overdue", URL, AROUND, Expectation(p50=8, p90=10), age=11.0)

    said = {name: news.payload[name] for name in ("seconds", "p50", "p90")}
    assert said == {"seconds": 11, "p50": 8, "p90": 10}


def test_runs_of_others_do_not_mix_with_the_one_that_notices() -> None:
    noticed_by = RunScope(flow_run_id=uuid4(), task_run_id=TASK, deployment_id=DEPLOYMENT)
    started_by = Origin(flow_runs=(Ancestor(OWN, False), Ancestor(ROOT, True)), base_url=URL)

    assert Around.of(noticed_by, started_by) == Around((OWN, ROOT))


def test_a_stored_file_is_an_asset_with_what_it_is_and_comes_from() -> None:
    made_from = prediction(input={"prompt": "a fox"})

    news = materialization_of(file(), made_from, AROUND)

    assert news.event == "prefect.asset.materialization.succeeded"
    assert news.resource == {
        "prefect.resource.id": "file:///videos/abc.mp4",
        "prefect.resource.name": "abc.mp4",
        "prefect.asset.description": "a fox",
    }
    by_role = {one.role: one for one in as_sent(news).related}
    assert by_role["prediction"].id == "replicate.prediction.abc"
    assert by_role["prediction"]["replicate.model"] == "owner/name"
    assert by_role["asset-materialized-by"].id == "replicate"
    assert news.payload == {
        "prediction": "abc",
        "model": "owner/name",
        "url": "https://replicate.com/p/abc",
        "prompt": "a fox",
        "location": "/videos/abc.mp4",
        "block": None,
        "output_path": "",
        "media_type": "video/mp4",
        "size": 7,
        "sha256": "ab" * 32,
    }


@pytest.mark.parametrize(
    ("fields", "uri"),
    [
        ({}, "file:///videos/abc.mp4"),
        ({"location": "/my videos/50%/#1.mp4"}, "file:///my~20videos/50~25/~231.mp4"),
        ({"location": "/videos/füchse~1.mp4"}, "file:///videos/füchse~7E1.mp4"),
        (
            {"location": "videos/abc.mp4", "block": "s3-bucket/media", "bucket": "s3://mine"},
            "s3://mine/videos/abc.mp4",
        ),
        (
            {"location": "videos/abc.mp4", "block": "azure-container/media"},
            "block://azure-container/media/videos/abc.mp4",
        ),
        (
            {"location": "memory://videos/abc.mp4?x", "block": "remote-file-system/media"},
            "memory://videos/abc.mp4~3Fx",
        ),
    ],
)
def test_the_key_of_an_asset_is_where_the_file_is(fields: dict[str, Any], uri: str) -> None:
    one = file(**fields)

    assert one.uri == uri
    assert Asset(key=one.uri).key == uri


def test_long_locations_have_keys_of_their_own() -> None:
    first, second = [file(location=f"/{'folder/' * 200}{name}.mp4") for name in "ab"]

    assert first.uri != second.uri
    assert Asset(key=first.uri).key == first.uri
