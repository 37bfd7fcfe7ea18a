"""Starting a prediction."""

from collections.abc import Mapping
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
from prefect_replicate.settings import settings
from prefect_replicate.tasks.arguments import checked
from prefect_replicate.values import Prediction


def _request(
    model: str,
    input: Mapping[str, Any],
    cancel_after: float | None,
    replaces: Prediction | str | None,
    on_crash: OnCrash,
    regenerate_expired: bool,
    check_input: bool,
) -> Request:
    model, input, cancel_after, replaces, on_crash, regenerate_expired, check_input = checked(
        model=model,
        input=input,
        cancel_after=cancel_after,
        replaces=replaces,
        on_crash=on_crash,
        regenerate_expired=regenerate_expired,
        check_input=check_input,
    )
    settings()  # an invalid setting costs nothing now, but a result later
    replaced = replaces.id if isinstance(replaces, Prediction) else replaces
    deadline = deadline_for(None) if cancel_after is None else cancel_after
    return Request(
        model,
        input,
        deadline,
        replaced,
        keeps(on_crash),
        regenerate_expired,
        check_input=check_input,
    )


# Not cached: whether a call has been paid for is decided by the ledger, not by Prefect's results.
@task(task_run_name="create {model}", cache_policy=NO_CACHE)
def create_prediction(
    model: str,
    input: Mapping[str, Any],
    credentials: ReplicateCredentials | None = None,
    *,
    cancel_after: float | None = deadline_for(DEFAULT_TIMEOUT),
    replaces: Prediction | str | None = None,
    on_crash: OnCrash = "cancel",
    regenerate_expired: bool = False,
    check_input: bool = True,
) -> Prediction:
    """Start a prediction, or return the one that this call started before its run was retried.

    Args:
        model: `owner/name`, `owner/name:version`, a 64-hex version, or `deployment:owner/name`.
        input: The input, which is checked against the model's schema. Paths, open binary files and
            bytes in it are uploaded, each up to 100 MB; a `Prediction`, `ModelOutput` or
            `OutputFile` stands for its file or text.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN`.
        cancel_after: Seconds from creation after which Replicate ends it by itself, even if no
            process is left to cancel it; at least 5. `None`: one day.
        replaces: A failed prediction that this one retries, as a new attempt at the same call.
        on_crash: What happens to it when the run crashes, for example by SIGTERM, Ctrl-C or the
            death of its process: `cancel` it, or `keep` it running for a retry of the run to
            continue with.
        regenerate_expired: Whether a retry pays again if this call succeeded, but Replicate has
            deleted the result, as it does after an hour. If not, the download reports it.
        check_input: Whether to check the input; `False` for a model whose schema is wrong.

    Returns:
        The prediction, usually `starting`; from a retry, in whatever status it is.

    Raises:
        InvalidInputError: The model or the input is invalid; nothing was paid.
        ConfigurationError: The token is missing or was rejected.
        LedgerError: Prefect's API could not be read or written; nothing was paid.
        RunEndedError: Prefect has ended the flow run; nothing was paid.
        UncertainCreateError: Replies were lost, and no matching prediction was found.

    Example:
        ```python
        from prefect import flow
        from prefect_replicate import create_prediction, wait_for_prediction

        @flow
        def render(prompts: list[str]) -> list[str]:
            started = [
                create_prediction.submit("emulator/timer", {"prompt": one}) for one in prompts
            ]
            return [one.result().id for one in wait_for_prediction.map(started)]
        ```
    """
    request = _request(
        model, input, cancel_after, replaces, on_crash, regenerate_expired, check_input
    )
    return call_as(credentials, create, request)


@task(task_run_name="create {model}", cache_policy=NO_CACHE)
async def acreate_prediction(
    model: str,
    input: Mapping[str, Any],
    credentials: ReplicateCredentials | None = None,
    *,
    cancel_after: float | None = deadline_for(DEFAULT_TIMEOUT),
    replaces: Prediction | str | None = None,
    on_crash: OnCrash = "cancel",
    regenerate_expired: bool = False,
    check_input: bool = True,
) -> Prediction:
    """Async version of `create_prediction`."""
    request = _request(
        model, input, cancel_after, replaces, on_crash, regenerate_expired, check_input
    )
    return await acall_as(credentials, create, request)
