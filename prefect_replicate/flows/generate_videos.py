"""From a batch of prompts to stored videos."""

# No `from __future__ import annotations` in modules with flows and tasks: Prefect loads a served
# flow from its file, where Pydantic could not resolve annotations that are text.

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

    Each item has an outcome of its own: one that fails loses none of the others. A table on the
    run's Artifacts page fills while it runs. What all items would meet, such as a token that is
    rejected in the middle or no more credit, is said once and starts nothing more. A retry of the
    run redoes only what has not succeeded, each item from where it stood. The items are worked on
    in tasks of `chunk_size` items, on whatever task runner the flow has, or by other runs of a
    deployment.

    Args:
        requests: One for each video; a text is its prompt.
        model: For requests without one: `owner/name`, `owner/name:version`, a 64-hex version, or
            `deployment:owner/name`.
        input: Further input in the model's own names, for all; that of a request wins.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN` where the work is done.
        prompts: Instead of `requests`: texts, each line of which is the prompt of a video.
        prompt: With `variations`, instead of `requests`: what all of them show.
        variations: With `prompt`: the fields in which each video differs.
        path: Instead of `requests`: a CSV, JSONL or Parquet file with a row for each video, local
            or in a saved block, as `block:type-slug/name/path`. Columns are named as the fields of
            a request, and `input.NAME` for the model's own.
        image: First frame for requests without one: a URL or a local file.
        duration: Length in seconds, for requests without one.
        aspect_ratio: Such as `16:9`, for requests without one.
        resolution: Such as `720p`, for requests without one.
        seed: Default for requests without one.
        negative_prompt: Default for requests without one.
        destination: For files: a directory, a URL such as `s3://bucket/folder`, a storage block, or
            `block:type-slug/name` for a saved one. If not given, as the settings say:
            `~/replicate`.
        timeout: Seconds from a prediction's creation after which it is canceled. `None`: no limit.
        retries: New predictions for an item that fails for a reason of Replicate's.
        policy: How often to poll, and separate limits for queue and run.
        on_crash: What happens to the predictions when the run crashes: `cancel` them, or `keep`
            them running for a retry of the run to continue with.
        regenerate_expired: Whether a retry pays again for a result that Replicate has deleted.
        check_input: Whether to check the inputs; `False` for a model whose schema is wrong.
        concurrency: Items that may be under way at once, in each process that works on them.
        on_item_failure: Whether to `continue` with the others when an item fails, or `stop`
            starting more. What is under way is finished.
        max_failures: As `stop`, but after more than so many failures. `None`: no limit.
        raise_on_failure: Whether the run fails when an item has; if not, it completes.
        chunk_size: Items of one task, or of one run of the deployment.
        fan_out: Whether the items go to `tasks` of this run, or to runs of a `deployment`, on as
            many workers as there are. These get the credentials as a reference to a saved block.
        worker_timeout: Seconds to wait for a worker when none takes or does anything. `None`: no
            limit.
        part: Set for the runs of the deployment: names the part of the batch that one does, so that
            a run that takes the place of a crashed one goes on with it.
        deployment: Of this flow, for `fan_out="deployment"`, as `flow/deployment`. If not given,
            the one that this run is of, else that of `deployments/`.
        advanced: Rarely needed parameters, grouped for the form; one given directly takes
            precedence.

    Raises:
        InvalidInputError: The batch or a parameter makes no sense; nothing was paid.
        ConfigurationError: There is no usable token, or nowhere to store a file; nothing was paid.
        BatchError: Not all items have succeeded; `.videos` tells of each.

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


# The same flow to people, in whichever form it is called.
@flow(name="generate-videos", **OPTIONS)
@parameters_of(VideoBatch)
async def agenerate_videos(*args: Any, **parameters: Any) -> GeneratedVideos:
    """Async version of `generate_videos`."""
    return cast("GeneratedVideos", await amade(VideoBatch(*args, **parameters)))
