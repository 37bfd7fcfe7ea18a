"""From a batch of inputs to what a model makes of each."""

# No `from __future__ import annotations` in modules with flows and tasks: Prefect loads a served
# flow from its file, where Pydantic could not resolve annotations that are text.

from typing import Any

from prefect import flow

from prefect_replicate.batch.plan import ModelBatch
from prefect_replicate.flows.batch import amade, made
from prefect_replicate.flows.run_model import OPTIONS
from prefect_replicate.tasks.arguments import parameters_of
from prefect_replicate.values import ModelOutputs


@flow(name="run-models", **OPTIONS)
@parameters_of(ModelBatch)
def run_models(*args: Any, **parameters: Any) -> ModelOutputs:
    """Run a batch of inputs through any model, and store what it makes of each.

    Each item has an outcome of its own, as in `generate_videos`. What is no file is stored as one:
    a text as `.txt`, JSON as `.json`.

    Args:
        requests: One for each item: a `ModelRequest`, a dict whose fields are those of one and
            whose others are inputs, or a text, which is its prompt.
        model: For requests without one: `owner/name`, `owner/name:version`, a 64-hex version, or
            `deployment:owner/name`.
        input: Of all; that of a request wins, name by name.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN` where the work is done.
        prompts: Instead of `requests`: texts, each line of which is the prompt of an item.
        variations: Instead of `requests`: the inputs in which each item differs from `input`.
        path: Instead of `requests`: a CSV, JSONL or Parquet file with a row for each item, local or
            in a saved block, as `block:type-slug/name/path`. Columns are the model's own inputs, or
            `model`, `id` and `input.NAME`.
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
        concurrency: As of `generate_videos`.
        on_item_failure: As of `generate_videos`.
        max_failures: As of `generate_videos`.
        raise_on_failure: As of `generate_videos`.
        chunk_size: As of `generate_videos`.
        fan_out: As of `generate_videos`.
        worker_timeout: As of `generate_videos`.
        part: As of `generate_videos`.
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
        from prefect_replicate import run_models

        answers = run_models(["What do foxes eat?", "And owls?"], "emulator/language")
        print([one.output for one in answers.succeeded])
        ```
    """
    return made(ModelBatch(*args, **parameters))


# The same flow to people, in whichever form it is called.
@flow(name="run-models", **OPTIONS)
@parameters_of(ModelBatch)
async def arun_models(*args: Any, **parameters: Any) -> ModelOutputs:
    """Async version of `run_models`."""
    return await amade(ModelBatch(*args, **parameters))
