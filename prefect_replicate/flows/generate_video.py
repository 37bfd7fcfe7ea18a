"""From a prompt to a stored video."""

# No `from __future__ import annotations` in modules with flows and tasks: Prefect loads a served
# flow from its file, where Pydantic could not resolve string annotations.

from typing import Any

from prefect import flow

from prefect_replicate.blocks.credentials import acall_as, call_as
from prefect_replicate.flows.run_model import OPTIONS, agenerated, generated
from prefect_replicate.presentation import Presentation
from prefect_replicate.tasks.arguments import parameters_of
from prefect_replicate.values import GeneratedVideo, ModelOutput
from prefect_replicate.video.options import VideoGeneration


def _as_video(output: ModelOutput) -> GeneratedVideo:
    return GeneratedVideo(**dict(output))


@flow(name="generate-video", **OPTIONS)
@parameters_of(VideoGeneration)
def generate_video(*args: Any, **parameters: Any) -> GeneratedVideo:
    """Generate a video from a prompt, and store it.

    The parameters are mapped to the chosen model's own names, and the whole input is checked
    against the model's own schema before anything is paid. The run leaves no prediction
    running, however it ends; only with `on_crash="keep"`, a crash does.

    Args:
        prompt: What the video should show; leave it out for a model that takes no text.
        model: `owner/name`, `owner/name:version`, a 64-hex version, or `deployment:owner/name`.
        input: More input, by the model's own names; it overrides the parameters below.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN`.
        image: First frame: a URL or a local file.
        duration: Length in seconds.
        aspect_ratio: Such as `16:9`.
        resolution: Such as `720p`.
        seed: For reproducible results.
        negative_prompt: What to keep out of the video.
        destination: Where to store files: a directory, a URL such as `s3://bucket/folder`, a
            storage block, or `block:type-slug/name` for a saved one. By default, the setting
            `destination`: `~/replicate`.
        timeout: Seconds from a prediction's creation after which it is canceled. `None`: no limit.
        retries: How many new predictions to start when one fails because of Replicate, not because
            of the input.
        policy: How often to poll, and separate limits for queue and run time.
        on_crash: What happens to the prediction when the run crashes: `cancel` it, or `keep` it
            running for a retry of the run to continue with.
        regenerate_expired: Whether a retry pays again when Replicate has deleted the result, as it
            does after an hour.
        check_input: Whether to check the input; `False` for a model whose schema is wrong.
        secrets: Secret inputs: maps the name of each to the name of the saved Secret block that
            holds it.
        advanced: Rarely needed parameters, grouped for the form; one given directly takes
            precedence.

    Returns:
        The video: its stored files, and the prediction that made it.

    Raises:
        InvalidInputError: The model doesn't accept this input; nothing was paid.
        PredictionError: The prediction failed, was canceled, or took too long.
        OutputError: It succeeded, but its files could not be stored.

    Example:
        ```python
        from prefect_replicate import generate_video

        video = generate_video("a lighthouse in a storm", duration=5)
        print(video.files[0].location, video.predict_time)
        ```
    """
    asked, shown = VideoGeneration(*args, **parameters), Presentation()
    video = _as_video(generated(asked, shown))
    call_as(asked.credentials, shown.finished, video)
    return video


# To users it is the same flow, called sync or async.
@flow(name="generate-video", **OPTIONS)
@parameters_of(VideoGeneration)
async def agenerate_video(*args: Any, **parameters: Any) -> GeneratedVideo:
    """Async version of `generate_video`."""
    asked, shown = VideoGeneration(*args, **parameters), Presentation()
    video = _as_video(await agenerated(asked, shown))
    await acall_as(asked.credentials, shown.finished, video)
    return video
