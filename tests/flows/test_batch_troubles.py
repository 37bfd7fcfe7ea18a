"""What goes wrong around a batch costs as few of its videos as it can, and is said once."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from batches import failing, soon, states
from prefect import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterType,
)
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort

from prefect_replicate import (
    PollPolicy,
    ReplicateCredentials,
    agenerate_videos,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.models.model import version_id
from prefect_replicate.exceptions import ConfigurationError

TIMER = "emulator/timer"
LONG = {"prompt": "a fox", "input": {"seconds": 1000}}


@pytest.fixture
def options(quick: PollPolicy, tmp_path: Path) -> dict[str, Any]:
    """Those of the tests' batches, which complete whatever becomes of their items."""
    where = {"policy": quick, "destination": tmp_path / "videos"}
    return {"model": TIMER, **where, "raise_on_failure": False}


@pytest.mark.parametrize("chunk_size", [2, 100])
async def test_a_token_that_is_missing_ends_the_run_in_one_error(
    replicate_emulator: Emulator,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    chunk_size: int,
) -> None:
    monkeypatch.delenv("REPLICATE_API_TOKEN")

    with pytest.raises(ConfigurationError, match=r"^There is no Replicate API token"):
        await agenerate_videos(["a fox"] * 4, **options, chunk_size=chunk_size)

    assert len(replicate_emulator.requests) == 0


async def test_a_token_that_is_rejected_ends_the_run_in_one_error(
    replicate_emulator: Emulator, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    wrong = ReplicateCredentials(api_token="r8_wrong", base_url=replicate_emulator.base_url)

    with pytest.raises(ConfigurationError, match=r"^Replicate at .* rejected the API token"):
        await agenerate_videos([f"fox {n}" for n in range(20)], credentials=wrong, **options)

    assert "has failed" not in caplog.text
    assert replicate_emulator.predictions.create_requests == 0


@pytest.mark.parametrize(
    ("fault", "status"),
    [("unauthenticated", None), ("insufficient_credit", None), ("error_text", 403)],
)
async def test_what_all_items_would_meet_is_said_once_and_starts_nothing_more(
    replicate_emulator: Emulator,
    options: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    fault: Any,
    status: int | None,
) -> None:
    creates: Any = {"method": "POST", "path": "/predictions$"}
    replicate_emulator.faults.add(fault, **creates, nth=3, times=None, status=status)

    videos = await agenerate_videos([f"fox {n}" for n in range(20)], **options, concurrency=4)

    assert len(videos.succeeded) == replicate_emulator.predictions.create_requests == 2
    assert len(videos.failed) == 1
    assert len(videos.skipped) == 17
    assert {one.error for one in videos.skipped} == {f"not started: {videos.failed[0].error}"}
    assert len(re.findall(r"Item \d+ has failed", caplog.text)) == 1


async def test_a_destination_that_cannot_be_written_costs_nothing(
    replicate_emulator: Emulator, options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    options["destination"] = tmp_path / "file" / "videos"

    with pytest.raises(ConfigurationError, match=r"^Destination .* can't be written to"):
        await agenerate_videos(["a fox"], **options)

    assert replicate_emulator.predictions.create_requests == 0


async def test_an_input_that_fails_as_nobody_foresaw_loses_no_other_item(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    unknown_schema = version_id("emulator/community-timer", 2)
    unheard_of = {"prompt": "an owl", "model": unknown_schema, "input": {"seconds": object()}}

    videos = await agenerate_videos(["a fox", unheard_of, "a hare"], **options)

    assert states(videos) == ["succeeded", "failed", "succeeded"]
    assert "input 'seconds' is a object, which JSON can't represent" in (
        videos.failed[0].error or ""
    )


@pytest.mark.parametrize("type", ["table", "progress"])
async def test_an_artifact_that_is_deleted_in_the_middle_costs_no_result(
    still: Emulator,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    type: str,
) -> None:
    running = asyncio.create_task(agenerate_videos([LONG, "an owl"], **options))
    await soon(lambda: len(still.predictions.live()) == 1)

    await delete_newest(type)
    still.clock.advance(2000)

    assert states(await running) == ["succeeded"] * 2


async def delete_newest(type: str) -> None:
    chosen = ArtifactFilter(type=ArtifactFilterType(any_=[type]))
    async with get_client() as client:
        newest: list[Artifact] = []
        while not newest:
            newest = await client.read_artifacts(
                artifact_filter=chosen, sort=ArtifactSort.CREATED_DESC, limit=1
            )
        await client.delete_artifact(newest[0].id)


async def test_a_prefect_api_that_takes_no_updates_costs_no_result(
    replicate_emulator: Emulator,
    impatient: None,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    send = httpx.AsyncHTTPTransport.handle_async_request

    async def fail(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH" and "/api/artifacts/" in request.url.path:
            return httpx.Response(500, request=request)
        return await send(self, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", fail)

    videos = await agenerate_videos(["a fox", failing(), "an owl"], **options)

    assert states(videos) == ["succeeded", "failed", "succeeded"]
    assert "Prefect's API could not show the progress of a batch: " in caplog.text


async def test_a_prediction_that_can_no_longer_be_looked_at_is_not_left_running(
    still: Emulator, options: dict[str, Any], impatient: None
) -> None:
    still.faults.add("error_page", method="GET", path="/predictions", times=None)
    options["policy"] = PollPolicy(min_interval=0.01, max_interval=0.02, failure_budget=0.1)

    videos = await agenerate_videos([LONG, "an owl"], **options)

    assert "can't be read" in (videos.failed[0].error or "")
    assert still.predictions.live() == []
