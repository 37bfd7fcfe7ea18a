"""From a prompt to a stored video."""

# No `from __future__ import annotations` in modules with flows and tasks: Prefect loads a served
# flow from its file, where Pydantic could not resolve annotations that are text.

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.blocks.abstract import ObjectStorageBlock
from prefect.filesystems import WritableFileSystem
from tenacity import AsyncRetrying, Retrying

from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.blocks.credentials import acting_as
from prefect_replicate.cleanup.hook import cancel_predictions
from prefect_replicate.engine import Work, acall, call
from prefect_replicate.flows.presentation import Presentation
from prefect_replicate.flows.transient_failures import attempts
from prefect_replicate.flows.video_wish import Wish
from prefect_replicate.ledger.scope import keep_no_result_of_subflow
from prefect_replicate.lifecycle.bookkeeping import expectation_of
from prefect_replicate.lifecycle.creation import DEFAULT_TIMEOUT, OnCrash, deadline_for
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.tasks import (
    acreate_prediction,
    adownload_outputs,
    await_for_prediction,
    create_prediction,
    download_outputs,
    wait_for_prediction,
)
from prefect_replicate.values import GeneratedVideo, OutputFile, PollPolicy, Prediction
from prefect_replicate.values.expectation import Expectation

DEFAULT_MODEL = "bytedance/seedance-1-lite"
DEFAULT_DESTINATION = "~/videos"
"""Not relative: a process worker runs each flow in a temporary folder, which it deletes."""

_DEFAULT_POLICY = PollPolicy()
HOOKS: dict[str, Any] = {
    "on_cancellation": [cancel_predictions],
    "on_crashed": [cancel_predictions],
    "on_failure": [cancel_predictions],
}


def _result(prediction: Prediction, files: list[OutputFile]) -> GeneratedVideo:
    return GeneratedVideo(
        prediction=prediction, files=files, seconds_billed=prediction.predict_time
    )


def _outlook(
    prediction: Prediction, credentials: ReplicateCredentials | None
) -> Work[tuple[float, Expectation | None]]:
    """The age of a prediction in seconds, and how long it may take."""

    async def outlook(run: Run) -> tuple[float, Expectation | None]:
        age = run.connection.clock.seconds_since(prediction.created_at)
        return age, await expectation_of(run, prediction)

    return acting_as(credentials, outlook)


@flow(name="generate-video", **HOOKS)
def generate_video(
    prompt: str,
    model: str = DEFAULT_MODEL,
    input: dict[str, Any] | None = None,
    credentials: ReplicateCredentials | None = None,
    *,
    image: str | Path | None = None,
    duration: float | None = None,
    aspect_ratio: str | None = None,
    resolution: str | None = None,
    seed: int | None = None,
    negative_prompt: str | None = None,
    destination: str | Path | WritableFileSystem | ObjectStorageBlock = DEFAULT_DESTINATION,
    timeout: float | None = DEFAULT_TIMEOUT,
    retries: int = 2,
    policy: PollPolicy = _DEFAULT_POLICY,
    on_crash: OnCrash = "cancel",
    regenerate_expired: bool = False,
) -> GeneratedVideo:
    """Generate a video from a prompt, and store it.

    The parameters are given the names that the chosen model uses, and the whole input is checked
    against the model's own schema before anything is paid. However the run ends, it leaves no
    prediction running.

    Args:
        prompt: What the video is to show.
        model: `owner/name`, `owner/name:version`, a 64-hex version, or `deployment:owner/name`.
        input: Further input in the model's own names; it wins over the parameters below.
        credentials: The account; empty reads `REPLICATE_API_TOKEN`.
        image: First frame: a URL or a local file.
        duration: Length in seconds.
        aspect_ratio: Such as `16:9`.
        resolution: Such as `720p`.
        seed: For a result that can be repeated.
        negative_prompt: What the video is not to show.
        destination: A directory, a storage block, or `block:type-slug/name` for a saved one. A
            relative directory is lost where a worker runs the flow in a temporary folder.
        timeout: Seconds from a prediction's creation after which it is canceled. Empty: no limit.
        retries: New predictions when one fails for a reason of Replicate's, not of the input's.
        policy: How often to look, and separate limits for queue and run.
        on_crash: What becomes of the prediction when the run crashes: `cancel`, or `keep` it
            running for a retry of the run to continue with.
        regenerate_expired: Whether a retry pays again when Replicate has deleted the result, as it
            does after an hour.

    Raises:
        InvalidInputError: The model can't take this; nothing was paid.
        PredictionError: The prediction failed, was canceled, or took too long.
        OutputError: It succeeded, but its files could not be stored.

    Example:
        ```python
        from prefect_replicate import generate_video

        video = generate_video("a lighthouse in a storm", duration=5)
        print(video.files[0].location, video.seconds_billed)
        ```
    """
    keep_no_result_of_subflow()
    wish = Wish(
        prompt, model, input, image, duration, aspect_ratio, resolution, seed, negative_prompt
    )
    whole_input = call(wish.work(credentials, destination))
    shown = Presentation()
    prediction: Prediction | None = None
    for attempt in Retrying(**attempts(retries)):
        with attempt:
            prediction = create_prediction(
                model, whole_input, credentials,
                cancel_after=deadline_for(timeout), replaces=prediction,
                on_crash=on_crash, regenerate_expired=regenerate_expired,
            )  # fmt: skip
            shown.started(prediction, *call(_outlook(prediction, credentials)))
            prediction = wait_for_prediction(
                prediction, credentials, timeout=timeout, policy=policy, on_update=shown.updated
            )
    assert prediction is not None
    video = _result(prediction, download_outputs(prediction, destination, credentials))
    shown.finished(video)
    return video


@flow(name="agenerate-video", **HOOKS)
async def agenerate_video(
    prompt: str,
    model: str = DEFAULT_MODEL,
    input: dict[str, Any] | None = None,
    credentials: ReplicateCredentials | None = None,
    *,
    image: str | Path | None = None,
    duration: float | None = None,
    aspect_ratio: str | None = None,
    resolution: str | None = None,
    seed: int | None = None,
    negative_prompt: str | None = None,
    destination: str | Path | WritableFileSystem | ObjectStorageBlock = DEFAULT_DESTINATION,
    timeout: float | None = DEFAULT_TIMEOUT,
    retries: int = 2,
    policy: PollPolicy = _DEFAULT_POLICY,
    on_crash: OnCrash = "cancel",
    regenerate_expired: bool = False,
) -> GeneratedVideo:
    """Async version of `generate_video`."""
    keep_no_result_of_subflow()
    wish = Wish(
        prompt, model, input, image, duration, aspect_ratio, resolution, seed, negative_prompt
    )
    whole_input = await acall(wish.work(credentials, destination))
    shown = Presentation()
    prediction: Prediction | None = None
    async for attempt in AsyncRetrying(**attempts(retries)):
        with attempt:
            prediction = await acreate_prediction(
                model, whole_input, credentials,
                cancel_after=deadline_for(timeout), replaces=prediction,
                on_crash=on_crash, regenerate_expired=regenerate_expired,
            )  # fmt: skip
            shown.started(prediction, *await acall(_outlook(prediction, credentials)))
            prediction = await await_for_prediction(
                prediction, credentials, timeout=timeout, policy=policy, on_update=shown.updated
            )
    assert prediction is not None
    video = _result(prediction, await adownload_outputs(prediction, destination, credentials))
    shown.finished(video)
    return video
