from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import flow
from prefect.client.schemas.objects import Artifact
from prefect.states import State

from prefect_replicate import (
    GeneratedVideo,
    PollPolicy,
    agenerate_video,
    agenerate_videos,
    cancel_predictions,
    generate_video,
    generate_videos,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import (
    ConfigurationError,
    InvalidInputError,
    OutputError,
    PredictionCanceledError,
    PredictionFailedError,
    PredictionTimeoutError,
)
from prefect_replicate.settings import settings

Artifacts = Callable[[State[Any], str], list[Artifact]]
TIMER = "emulator/timer"
PA = "Prediction interrupted; please retry (code: PA)"


@pytest.fixture(autouse=True)
def _quick_models(replicate_emulator: Emulator) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    replicate_emulator.behave(duration_factor=0.01)


@pytest.fixture
def options(quick: PollPolicy, tmp_path: Path) -> dict[str, Any]:
    return {"policy": quick, "destination": tmp_path}


@pytest.mark.smoke
def test_a_prompt_becomes_a_stored_video(
    replicate_emulator: Emulator, options: dict[str, Any], artifacts: Artifacts
) -> None:
    state = generate_video("a red fox", duration=2, seed=7, **options, return_state=True)

    video = state.result()
    [file] = video.files
    assert isinstance(video, GeneratedVideo)
    assert b"ftyp" in Path(file.location).read_bytes()[:16]
    assert video.prediction.input == {"prompt": "a red fox", "duration": 2, "seed": 7}
    assert video.predict_time == video.prediction.predict_time
    _check_presentation(video, state, artifacts)


def _check_presentation(video: GeneratedVideo, state: Any, artifacts: Artifacts) -> None:
    link, page = artifacts(state, "markdown")
    [progress] = artifacts(state, "progress")
    assert link.data == f"[{video.prediction.web_url}]({video.prediction.web_url})"
    assert progress.data == 100
    assert page.data.count('<img src="data:image/webp;base64,') == 2
    assert "| duration | 2 |" in page.data
    assert "| predict_time |" in page.data
    assert video.files[0].sha256 in page.data


async def test_the_async_twin_generates_too(
    replicate_emulator: Emulator, options: dict[str, Any], artifacts: Artifacts
) -> None:
    state = await agenerate_video("a fox", TIMER, **options, return_state=True)

    video = await state.aresult()
    assert Path(video.files[0].location).parent == options["destination"]
    assert len(await asyncio.to_thread(artifacts, state, "markdown")) == 2
    assert replicate_emulator.predictions.create_requests == 1


async def test_the_link_is_there_while_the_prediction_runs(
    replicate_emulator: Emulator, options: dict[str, Any], artifacts: Artifacts
) -> None:
    running = {"seconds": 60}

    state = await agenerate_video(
        "a fox", TIMER, running, **options, timeout=0.4, return_state=True
    )

    [link] = await asyncio.to_thread(artifacts, state, "markdown")
    assert next(iter(replicate_emulator.predictions)).id in link.data


@pytest.mark.parametrize(
    ("model", "image_name"),
    [("kwaivgi/kling-v2.1", "start_image"), ("minimax/hailuo-02", "first_frame_image")],
)
async def test_common_parameters_get_the_names_of_the_model(
    options: dict[str, Any], tmp_path: Path, model: str, image_name: str
) -> None:
    image = tmp_path / "frame.png"
    image.write_bytes(b"a picture")

    video = await agenerate_video("a fox", model, duration=10, image=str(image), **options)

    assert video.prediction.input["duration"] == 10
    assert "/v1/files/" in video.prediction.input[image_name]


async def test_a_failure_of_replicates_is_tried_again_in_a_new_prediction(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    asked = {"outcome": "failed", "error": PA}

    with pytest.raises(PredictionFailedError, match="trying again may help"):
        await agenerate_video("a fox", TIMER, asked, **options, retries=1)

    assert replicate_emulator.predictions.create_requests == 2


async def test_a_permanent_failure_is_paid_once(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    asked = {"outcome": "failed", "error": "NSFW content detected"}

    with pytest.raises(PredictionFailedError, match=r"failed \(permanent\): NSFW"):
        await agenerate_video("a fox", TIMER, asked, **options, retries=2)

    assert replicate_emulator.predictions.create_requests == 1


async def test_a_video_is_kept_when_its_parent_is_retried(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    seen: list[str] = []

    @flow(retries=1)
    async def parent() -> None:
        seen.append((await agenerate_video("a fox", TIMER, **options)).prediction.id)
        if len(seen) == 1:
            raise RuntimeError

    await parent()

    assert seen == [one.id for one in replicate_emulator.predictions] * 2


@pytest.mark.smoke
async def test_a_timeout_cancels_and_says_so(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    with pytest.raises(PredictionTimeoutError, match=r"timeout 0.3 s\); canceled, stopped after 0"):
        await agenerate_video("a fox", TIMER, {"seconds": 60}, **options, timeout=0.3)

    assert replicate_emulator.predictions.live() == []


async def test_a_failed_download_is_resumed_by_a_retry_and_not_generated_again(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    replicate_emulator.faults.add("not_found", path=r"\.bin$")
    failed: list[str] = []

    @flow(retries=1)
    async def parent() -> None:
        try:
            await agenerate_video("a fox", TIMER, {"output_bytes": 10}, **options)
        except OutputError as exc:
            failed.append(str(exc))
            raise

    await parent()

    assert len(failed) == 1
    assert replicate_emulator.predictions.create_requests == 1


def test_the_hooks_are_those_of_the_package() -> None:
    for one in (generate_video, agenerate_video):
        hooks = [one.on_cancellation_hooks, one.on_crashed_hooks, one.on_failure_hooks]
        assert hooks == [[cancel_predictions]] * 3


async def test_one_canceled_elsewhere_is_not_tried_again(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    import replicate

    client = replicate.Client(
        api_token=replicate_emulator.token, base_url=replicate_emulator.base_url
    )

    async def cancel_it() -> None:
        while not (live := replicate_emulator.predictions.live()):  # noqa: ASYNC110 of another thread
            await asyncio.sleep(0.01)
        await asyncio.to_thread(client.predictions.cancel, live[0].id)

    canceling = asyncio.create_task(cancel_it())
    with pytest.raises(PredictionCanceledError, match="canceled, stopped after"):
        await agenerate_video("a fox", TIMER, {"seconds": 60}, **options)
    await canceling

    assert replicate_emulator.predictions.create_requests == 1


BAD = [
    ({"model": "nobody/nothing"}, "Model 'nobody/nothing' was not found"),
    ({"model": "nothing"}, "not a model reference; use"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": "  "}, "prompt"),
    ({"duration": 99}, "duration"),
    ({"input": {"duration": "long"}}, "duration"),
    ({"resolution": "9000p"}, "resolution"),
    ({"image": "no/such/file.png"}, "no/such/file.png"),
]


@pytest.mark.parametrize(("changes", "said"), BAD, ids=[str(changes) for changes, _ in BAD])
async def test_bad_input_is_refused_in_one_line_before_anything_is_paid(
    replicate_emulator: Emulator, options: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    call = {"prompt": "a fox", **options, **changes}

    with pytest.raises(InvalidInputError, match=rf"^[^\n]*{re.escape(said)}[^\n]*$"):
        await agenerate_video(**call)

    assert replicate_emulator.requests.matching("POST") == []
    assert list(options["destination"].iterdir()) == []


async def test_a_destination_that_cannot_be_written_is_refused_before_anything_is_paid(
    replicate_emulator: Emulator, options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ConfigurationError, match=r"^Destination .* can't be written to: [^\n]*$"):
        await agenerate_video("a fox", **{**options, "destination": tmp_path / "file" / "x"})
    assert replicate_emulator.requests.matching("POST") == []


async def test_an_output_that_is_not_a_file_is_paid_and_returned(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    video = await agenerate_video("a fox", TIMER, {"output": "just text"}, **options)

    assert (video.files, video.text) == ([], "just text")


def test_the_default_destination_outlives_the_temporary_folder_of_a_worker() -> None:
    assert Path(settings().destination).expanduser().is_absolute()


async def test_the_async_form_never_keeps_the_callers_loop_waiting_for_prefect(
    replicate_emulator: Emulator,
    quick: PollPolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = httpx.AsyncHTTPTransport.handle_async_request
    blocking = httpx.HTTPTransport.handle_request
    beats: list[float] = []

    def is_ours(request: httpx.Request) -> bool:
        """Prefect itself blocks the loop once a run, for the server's default storage."""
        return any(part in request.url.path for part in ("/artifacts", "/input", "/events"))

    async def slow(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        if is_ours(request):
            await asyncio.sleep(0.5)
        return await send(self, request)

    def slow_and_blocking(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if is_ours(request):
            time.sleep(0.5)
        return blocking(self, request)

    async def beat() -> None:
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.01)

    await agenerate_video("a fox", TIMER, policy=quick, destination=tmp_path)  # imports, once
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", slow)
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", slow_and_blocking)
    beating = asyncio.create_task(beat())
    await agenerate_video("an owl", TIMER, policy=quick, destination=tmp_path)
    beating.cancel()

    assert max(later - one for one, later in pairwise(beats)) < 0.4


@pytest.mark.parametrize(
    ("sync", "async_"),
    [(generate_video, agenerate_video), (generate_videos, agenerate_videos)],
)
def test_both_forms_are_one_flow_to_people(sync: Any, async_: Any) -> None:
    assert sync.name == async_.name
    assert inspect.signature(sync.fn) == inspect.signature(async_.fn)
