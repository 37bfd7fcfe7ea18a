"""From a batch of prompts to stored videos."""

# No `from __future__ import annotations` in modules with flows and tasks: Prefect loads a served
# flow from its file, where Pydantic could not resolve string annotations.

from typing import Any, cast

from prefect import flow

from prefect_replicate.batch.plan import VideoBatch
from prefect_replicate.flows.batch import amade, made
from prefect_replicate.flows.run_model import OPTIONS
from prefect_replicate.tasks.arguments import parameters_of
from prefect_replicate.values import GeneratedVideos


@flow(name="generate-videos", **OPTIONS)
@parameters_of(VideoBatch)
def generate_videos(*args: Any, **parameters: Any) -> GeneratedVideos:
    """Generate a batch of videos, and store them.

    Each item has its own outcome: a failed item doesn't affect the others. A table on the run's
    Artifacts page fills while it runs. A problem that would affect all items, such as a token that
    is rejected midway or no more credit, is reported once, and no more items are started. A retry
    of the run redoes only the items that have not succeeded, each from where it stopped. The items
    run in tasks of `chunk_size` items, on the flow's own task runner, or in other runs of a
    deployment.

    Args:
        requests: One for each video; a text is its prompt.
        model: Default model: `owner/name`, `owner/name:version`, a 64-hex version, or
            `deployment:owner/name`.
        input: More input, by the model's own names, for all videos; a video's own input overrides
            it.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN` where the work is done.
        prompts: Texts in which each line is the prompt of one video. In Python, `requests` can be
            used instead.
        prompt: With `variations`: what all videos show.
        variations: A video for each, all of the single line in `prompts`, with the fields in which
            it differs, such as `{"seed": 7}`. In Python, `prompt` can be used for that line.
        path: A CSV, JSONL or Parquet file with a row for each video, in place of `prompts`: local,
            or in a saved block, as `block:type-slug/name/path`. Its columns are `prompt`, `model`,
            `image`, `duration`, `aspect_ratio`, `resolution`, `seed`, `negative_prompt`, `id`, and
            `input.NAME` for the model's own inputs.
        image: Default first frame: a URL or a local file.
        duration: Default length in seconds.
        aspect_ratio: Default aspect ratio, such as `16:9`.
        resolution: Default resolution, such as `720p`.
        seed: Default seed.
        negative_prompt: By default, what to keep out of the videos.
        destination: Where to store files: a directory, a URL such as `s3://bucket/folder`, a
            storage block, or `block:type-slug/name` for a saved one. By default, the setting
            `destination`: `~/replicate`.
        timeout: Seconds from a prediction's creation after which it is canceled. `None`: no limit.
        retries: How many new predictions to start for an item that fails because of Replicate.
        policy: How often to poll, and separate limits for queue and run time.
        on_crash: What happens to the predictions when the run crashes: `cancel` them, or `keep`
            them running for a retry of the run to continue with.
        regenerate_expired: Whether a retry pays again for a result that Replicate has deleted.
        check_input: Whether to check the inputs; `False` for a model whose schema is wrong.
        concurrency: How many items may run at once, in each process that works on them.
        on_item_failure: Whether to `continue` with the others when an item fails, or `stop`
            starting more. Running items are finished.
        max_failures: Like `stop`, but only after more than this many failures. `None`: no limit.
        raise_on_failure: Whether the run fails when an item has failed; if not, it completes.
        chunk_size: Items per task, or per run of the deployment.
        fan_out: Whether the items go to `tasks` of this run, or to runs of a `deployment`, on all
            available workers. These get the credentials as a reference to a saved block.
        worker_timeout: Seconds to wait for a worker while none picks up or runs anything. `None`:
            no limit.
        part: Set for the runs of the deployment: names the part of the batch that a run works on,
            so that a run that replaces a crashed one continues with it.
        deployment: The deployment of this flow for `fan_out="deployment"`, as `flow/deployment`. By
            default, this run's own deployment, or else the one in `deployments/`.
        advanced: Rarely needed parameters, grouped for the form; one given directly takes
            precedence.

    Returns:
        The outcome of each item, in the order of the requests.

    Raises:
        InvalidInputError: The batch or a parameter is invalid; nothing was paid.
        ConfigurationError: There is no usable token, or nowhere to store a file; nothing was paid.
        BatchError: Not all items succeeded; `.videos` has the outcome of each.

    Example:
        ```python
        from prefect_replicate import generate_videos

        videos = generate_videos(["a red fox", "a blue heron"], duration=5, raise_on_failure=False)
        for one in videos.succeeded:
            print(one.prompt, one.files[0].location)
        print(videos.summary)
        ```
    """
    return cast("GeneratedVideos", made(VideoBatch(*args, **parameters)))


# To users it is the same flow, called sync or async.
@flow(name="generate-videos", **OPTIONS)
@parameters_of(VideoBatch)
async def agenerate_videos(*args: Any, **parameters: Any) -> GeneratedVideos:
    """Async version of `generate_videos`."""
    return cast("GeneratedVideos", await amade(VideoBatch(*args, **parameters)))
