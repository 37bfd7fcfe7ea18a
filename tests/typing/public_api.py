"""Uses of the public API that pyright checks, strictly. Never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.filesystems import LocalFileSystem
from replicate.client import Client
from typing_extensions import assert_type

from prefect_replicate import (
    GeneratedVideo,
    GeneratedVideos,
    ItemOutcome,
    ModelOutputs,
    Orphan,
    OutputFile,
    PollPolicy,
    Prediction,
    PredictionRun,
    ReplicateCredentials,
    ReplicateModel,
    VideoRequest,
    acancel_orphaned_predictions,
    acancel_prediction,
    acreate_prediction,
    adownload_outputs,
    agenerate_video,
    agenerate_videos,
    aget_prediction,
    await_for_prediction,
    cancel_orphaned_predictions,
    cancel_prediction,
    cancel_predictions,
    create_prediction,
    download_outputs,
    generate_video,
    generate_videos,
    get_prediction,
    wait_for_prediction,
)
from prefect_replicate.exceptions import BatchError, PredictionError, PredictionFailedError


def show(prediction: Prediction) -> None:
    assert_type(prediction.status, str)
    assert_type(prediction.predict_time, float | None)
    assert_type(prediction.web_url, str)


def credentials() -> None:
    account = ReplicateCredentials()
    assert_type(account.get_client(), Client)


def tasks(account: ReplicateCredentials) -> None:
    created = create_prediction("owner/name", {"prompt": "a fox", "image": Path("a.png")}, account)
    assert_type(created, Prediction)
    assert_type(
        create_prediction("owner/name", {}, cancel_after=None, replaces=created), Prediction
    )
    assert_type(get_prediction(created), Prediction)
    assert_type(get_prediction("an id", account), Prediction)
    policy = PollPolicy(max_interval=30, run_timeout=600)
    done = wait_for_prediction(created, timeout=None, policy=policy, on_update=show)
    assert_type(done, Prediction)
    assert_type(cancel_prediction("an id"), Prediction)
    assert_type(download_outputs(done, Path("videos")), list[OutputFile])
    block = LocalFileSystem(basepath="videos")
    assert_type(download_outputs(done, block, account, allowed_hosts=["x.org"]), list[OutputFile])


async def async_tasks() -> None:
    created = await acreate_prediction("owner/name", {"prompt": "a fox"})
    assert_type(created, Prediction)
    assert_type(await aget_prediction(created.id), Prediction)
    done = await await_for_prediction(created, timeout=60, on_update=show)
    assert_type(done, Prediction)
    assert_type(await acancel_prediction(done), Prediction)
    assert_type(await adownload_outputs(done, "videos"), list[OutputFile])


def futures() -> None:
    # Prefect leaves the keywords of `submit` without types.
    future = create_prediction.submit("owner/name", {})  # pyright: ignore[reportUnknownMemberType]
    assert_type(future.result(), Prediction)
    retried = create_prediction.with_options(retries=2, name="create a fox")
    assert_type(retried("owner/name", {}), Prediction)


def models(account: ReplicateCredentials) -> None:
    model = ReplicateModel(
        model="owner/name",
        credentials=account,
        default_input={"seed": 1},
        timeout=600,
        policy=PollPolicy(),
    )
    # Prefect types what both colours can call as the result or a coroutine of it.
    run = model.trigger({"prompt": "a fox"})
    assert isinstance(run, PredictionRun)
    run.wait_for_completion(on_update=show)
    assert_type(run.prediction, Prediction)


async def async_models(model: ReplicateModel) -> None:
    run = await model.atrigger({"prompt": "a fox"})
    assert_type(run, PredictionRun)
    await run.await_for_completion()
    assert_type(await run.afetch_result(), Any)
    assert_type(await run.acancel(), Prediction)


@flow(
    on_cancellation=[cancel_predictions],
    on_crashed=[cancel_predictions],
    on_failure=[cancel_predictions],
)
def render(prompt: str) -> GeneratedVideo:
    try:
        video = generate_video(prompt, duration=5, image="https://x.org/a.png", timeout=None)
    except PredictionFailedError as error:
        assert_type(error.is_transient, bool)
        raise
    except PredictionError as error:
        assert_type(error.prediction, Prediction)
        raise
    assert_type(video, GeneratedVideo)
    assert_type(video.files, list[OutputFile])
    assert_type(video.predict_time, float | None)
    return video


async def async_render() -> None:
    assert_type(await agenerate_video("a fox", "owner/name", {"seed": 1}), GeneratedVideo)


@flow
def render_all(account: ReplicateCredentials) -> ModelOutputs:
    requests = ["a fox", VideoRequest(prompt="an owl", duration=5, image="a.png"), {"prompt": "x"}]
    try:
        videos = generate_videos(requests, credentials=account, concurrency=10, max_failures=3)
    except BatchError as error:
        assert_type(error.videos, ModelOutputs)
        return error.videos
    assert_type(videos, GeneratedVideos)
    assert_type(videos.failed, list[ItemOutcome])
    assert_type([one.files for one in videos.succeeded], list[list[OutputFile]])
    assert_type(videos.outcomes[0].error, str | None)
    assert_type((videos.summary, videos.predict_time), tuple[str, float])
    return videos


async def async_render_all() -> None:
    varied = await agenerate_videos(prompt="a fox", variations=[{"seed": 1}, {"seed": 2}])
    assert_type(varied, GeneratedVideos)
    read = await agenerate_videos(path=Path("rows.csv"), on_item_failure="stop")
    assert_type(read.wall_seconds, float)


def sweep(account: ReplicateCredentials) -> None:
    found = cancel_orphaned_predictions(account, dry_run=True, grace=60, silence=600)
    assert_type(found, list[Orphan])
    assert_type([one.seconds_saved for one in found], list[float])
    assert_type(found[0].prediction_id, str | None)


async def async_sweep() -> None:
    assert_type(await acancel_orphaned_predictions(), list[Orphan])
