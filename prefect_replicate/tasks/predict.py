"""A whole prediction in one call: create, wait, and store."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.blocks.credentials import acall_as, call_as
from prefect_replicate.lifecycle.creation import (
    DEFAULT_TIMEOUT,
    OnCrash,
    Request,
    create,
    deadline_for,
    keeps,
)
from prefect_replicate.lifecycle.delivery import output_of
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.waiting import OnUpdate, wait
from prefect_replicate.outputs import check_destination
from prefect_replicate.presentation import task_run_name
from prefect_replicate.settings import or_default
from prefect_replicate.tasks.arguments import checked, parameters_of
from prefect_replicate.tasks.download import Destination
from prefect_replicate.values import ModelOutput, PollPolicy, Prediction


@dataclass(frozen=True)
class _Call:
    """The parameters of `predict`, which documents them."""

    model: str
    input: Mapping[str, Any]
    credentials: ReplicateCredentials | None = None
    _: KW_ONLY
    destination: Destination | None = None
    timeout: float | None = DEFAULT_TIMEOUT
    policy: PollPolicy | None = None
    on_update: OnUpdate | None = None
    on_crash: OnCrash = "cancel"
    regenerate_expired: bool = False
    check_input: bool = True
    allowed_hosts: Sequence[str] = ()

    async def perform(self, run: Run) -> ModelOutput:
        """Create a prediction, wait for it, and store its output."""
        model, input, on_crash, regenerate_expired, check_input = checked(
            model=self.model,
            input=self.input,
            on_crash=self.on_crash,
            regenerate_expired=self.regenerate_expired,
            check_input=self.check_input,
        )
        timeout, policy, on_update, destination, allowed_hosts = checked(
            timeout=self.timeout,
            policy=self.policy,
            on_update=self.on_update,
            to=self.destination,
            allowed_hosts=self.allowed_hosts,
        )
        if destination is not None:
            await check_destination(destination)
        request = Request(
            model,
            input,
            deadline_for(timeout),
            keep_on_crash=keeps(on_crash),
            regenerate_expired=regenerate_expired,
            check_input=check_input,
        )
        prediction = await wait(run, await create(run, request), timeout, policy, on_update)
        return await output_of(run, prediction, destination, allowed_hosts)


@task(task_run_name="predict {model}", cache_policy=NO_CACHE)
@parameters_of(_Call)
def predict(*args: Any, **parameters: Any) -> ModelOutput:
    """Run a model once: start a prediction, wait for it, and store its files.

    Args:
        model: `owner/name`, `owner/name:version`, a 64-hex version, or `deployment:owner/name`.
        input: The input, which is checked against the model's schema. Files in it are uploaded, as
            in `create_prediction`.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN`.
        destination: Where to store files, as in `download_outputs`; `None` stores none.
        timeout: Seconds from the prediction's creation after which it is canceled. `None`: no
            limit.
        policy: How often to poll, and separate limits for queue and run time. By default, the
            settings decide.
        on_update: Called with the prediction after each status request, and every five seconds in
            between; a coroutine function is awaited. An exception in it is logged.
        on_crash: What happens to the prediction when the run crashes: `cancel` it, or `keep` it
            running for a retry of the run to continue with.
        regenerate_expired: Whether a retry pays again if this call succeeded, but Replicate has
            deleted the result, as it does after an hour.
        check_input: Whether to check the input; `False` for a model whose schema is wrong.
        allowed_hosts: Hosts to download from, in addition to Replicate's own.

    Returns:
        The output: its stored files, its text, or JSON.

    Raises:
        InvalidInputError: The model or the input is invalid; nothing was paid.
        ConfigurationError: There is no usable token, or nowhere to store files; nothing was paid.
        PredictionError: The prediction failed, was canceled, or took too long.
        OutputError: It succeeded, but its files could not be stored.

    Example:
        ```python
        from prefect import flow
        from prefect_replicate import predict

        @flow
        def ask(question: str) -> str | None:
            return predict("emulator/language", {"prompt": question}).text
        ```
    """
    asked = _Call(*args, **parameters)
    return call_as(asked.credentials, asked.perform)


@task(task_run_name="predict {model}", cache_policy=NO_CACHE)
@parameters_of(_Call)
async def apredict(*args: Any, **parameters: Any) -> ModelOutput:
    """Async version of `predict`."""
    asked = _Call(*args, **parameters)
    return await acall_as(asked.credentials, asked.perform)


# For the flows, which know what to store only when the prediction has ended.
@task(name="store_output", task_run_name=task_run_name("store"), cache_policy=NO_CACHE)
def store_output(
    prediction: Prediction,
    destination: Destination | None,
    credentials: ReplicateCredentials | None,
) -> ModelOutput:
    """Store a prediction's files, if it has any, and return its output."""
    return call_as(credentials, output_of, prediction, or_default(destination), shown="page")


@task(name="store_output", task_run_name=task_run_name("store"), cache_policy=NO_CACHE)
async def astore_output(
    prediction: Prediction,
    destination: Destination | None,
    credentials: ReplicateCredentials | None,
) -> ModelOutput:
    """Async version of `store_output`."""
    return await acall_as(credentials, output_of, prediction, or_default(destination), shown="page")
