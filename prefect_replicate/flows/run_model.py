"""From a model's input to its output."""

# No `from __future__ import annotations` in modules with flows and tasks: Prefect loads a served
# flow from its file, where Pydantic could not resolve string annotations.

from typing import Any

from prefect import flow
from tenacity import AsyncRetrying, Retrying

from prefect_replicate.blocks.credentials import acall_as, call_as
from prefect_replicate.cleanup.hook import cancel_predictions
from prefect_replicate.generation import ModelGeneration, attempts
from prefect_replicate.ledger.scope import keep_result_if_deployed
from prefect_replicate.lifecycle.creation import deadline_for
from prefect_replicate.presentation import Presentation, flow_run_name
from prefect_replicate.tasks import (
    acreate_prediction,
    astore_output,
    await_for_prediction,
    create_prediction,
    store_output,
    wait_for_prediction,
)
from prefect_replicate.tasks.arguments import parameters_of
from prefect_replicate.values import ModelOutput, Prediction

OPTIONS: dict[str, Any] = {
    "flow_run_name": flow_run_name,
    "on_cancellation": [cancel_predictions],
    "on_crashed": [cancel_predictions],
    "on_failure": [cancel_predictions],
}


def generated(asked: ModelGeneration, shown: Presentation) -> ModelOutput:
    """Run one generation, with its retries: what the flows that make one output have in common."""
    keep_result_if_deployed()
    model, account = asked.model, asked.credentials
    input = call_as(account, asked.prepared)
    prediction: Prediction | None = None
    for attempt in Retrying(**attempts(asked.retries)):
        with attempt:
            prediction = create_prediction(
                model, input, account,
                cancel_after=deadline_for(asked.timeout), replaces=prediction,
                on_crash=asked.on_crash, regenerate_expired=asked.regenerate_expired,
                check_input=asked.check_input,
            )  # fmt: skip
            call_as(account, shown.started, prediction)
            prediction = wait_for_prediction(
                prediction, account,
                timeout=asked.timeout, policy=asked.policy, on_update=shown.updated,
            )  # fmt: skip
    assert prediction is not None
    return store_output(prediction, asked.destination, account)


async def agenerated(asked: ModelGeneration, shown: Presentation) -> ModelOutput:
    """Async version of `generated`."""
    keep_result_if_deployed()
    model, account = asked.model, asked.credentials
    input = await acall_as(account, asked.prepared)
    prediction: Prediction | None = None
    async for attempt in AsyncRetrying(**attempts(asked.retries)):
        with attempt:
            prediction = await acreate_prediction(
                model, input, account,
                cancel_after=deadline_for(asked.timeout), replaces=prediction,
                on_crash=asked.on_crash, regenerate_expired=asked.regenerate_expired,
                check_input=asked.check_input,
            )  # fmt: skip
            await acall_as(account, shown.started, prediction)
            prediction = await await_for_prediction(
                prediction, account,
                timeout=asked.timeout, policy=asked.policy, on_update=shown.updated,
            )  # fmt: skip
    assert prediction is not None
    return await astore_output(prediction, asked.destination, account)


@flow(name="run-model", **OPTIONS)
@parameters_of(ModelGeneration)
def run_model(*args: Any, **parameters: Any) -> ModelOutput:
    """Run any model, and store the files that it makes.

    The input is checked against the model's own schema before anything is paid. The run leaves no
    prediction running, however it ends; only with `on_crash="keep"`, a crash does.

    Args:
        model: `owner/name`, `owner/name:version`, a 64-hex version, or `deployment:owner/name`.
        input: The model's input, by its own names. Where the model takes a file, a text that isn't
            a URL is the path of a local file.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN`.
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
        The output: its stored files, its text, or JSON.

    Raises:
        InvalidInputError: The model doesn't accept this input; nothing was paid.
        PredictionError: The prediction failed, was canceled, or took too long.
        OutputError: It succeeded, but its files could not be stored.

    Example:
        ```python
        from prefect_replicate import run_model

        answer = run_model("emulator/language", {"prompt": "Why do foxes laugh?"})
        print(answer.text)
        ```
    """
    shown = Presentation()
    asked = ModelGeneration(*args, **parameters)
    output = generated(asked, shown)
    call_as(asked.credentials, shown.finished, output)
    return output


# To users it is the same flow, called sync or async.
@flow(name="run-model", **OPTIONS)
@parameters_of(ModelGeneration)
async def arun_model(*args: Any, **parameters: Any) -> ModelOutput:
    """Async version of `run_model`."""
    shown = Presentation()
    asked = ModelGeneration(*args, **parameters)
    output = await agenerated(asked, shown)
    await acall_as(asked.credentials, shown.finished, output)
    return output
