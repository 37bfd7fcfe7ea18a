"""From a batch of inputs to a model's output for each."""

# No `from __future__ import annotations` in modules with flows and tasks: Prefect loads a served
# flow from its file, where Pydantic could not resolve string annotations.

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
    """Run a batch of inputs through any model, and store the output of each.

    Each item has its own outcome, as in `generate_videos`. Output that isn't a file is stored as
    one: text as `.txt`, JSON as `.json`.

    Args:
        requests: One for each item: a `ModelRequest`, a dict of its fields (any other key is an
            input), or a text, which is the prompt.
        model: Default model: `owner/name`, `owner/name:version`, a 64-hex version, or
            `deployment:owner/name`.
        input: Input for all items; an item's own input overrides it, name by name.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN` where the work is done.
        prompts: Texts in which each line is the prompt of one item. In Python, `requests` can be
            used instead.
        variations: In place of `prompts`: for each item, the inputs in which it differs from
            `input`.
        path: In place of `prompts`: a CSV, JSONL or Parquet file with a row for each item, local or
            in a saved block, as `block:type-slug/name/path`. Columns are the model's own inputs, or
            `model`, `id` and `input.NAME`.
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
        from prefect_replicate import run_models

        answers = run_models(["What do foxes eat?", "And owls?"], "emulator/language")
        print([one.output for one in answers.succeeded])
        ```
    """
    return made(ModelBatch(*args, **parameters))


# To users it is the same flow, called sync or async.
@flow(name="run-models", **OPTIONS)
@parameters_of(ModelBatch)
async def arun_models(*args: Any, **parameters: Any) -> ModelOutputs:
    """Async version of `run_models`."""
    return await amade(ModelBatch(*args, **parameters))
