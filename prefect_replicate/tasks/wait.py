"""Waiting for a prediction."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.blocks.credentials import acall_as, call_as
from prefect_replicate.lifecycle.creation import DEFAULT_TIMEOUT
from prefect_replicate.lifecycle.waiting import OnUpdate, wait
from prefect_replicate.presentation import task_run_name
from prefect_replicate.tasks.arguments import checked
from prefect_replicate.values import PollPolicy, Prediction


@task(task_run_name=task_run_name("wait"), cache_policy=NO_CACHE)
def wait_for_prediction(
    prediction: Prediction | str,
    credentials: ReplicateCredentials | None = None,
    *,
    timeout: float | None = DEFAULT_TIMEOUT,
    policy: PollPolicy | None = None,
    on_update: OnUpdate | None = None,
) -> Prediction:
    """Poll a prediction with back-off until it succeeds.

    The model's log is forwarded to the run's log as it grows. If the wait is interrupted by a
    cancellation, a Prefect timeout or Ctrl-C, the prediction is canceled. A failed status request
    doesn't end the wait.

    Args:
        prediction: A prediction or its id.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN`.
        timeout: Seconds from the prediction's creation after which it is canceled. `None`: no
            limit.
        policy: How often to poll, and separate limits for queue and run time. By default, the
            settings decide.
        on_update: Called with the prediction after each status request, and every five seconds in
            between; a coroutine function is awaited. An exception in it is logged.

    Returns:
        The prediction, which has succeeded.

    Raises:
        PredictionFailedError: The model failed.
        PredictionCanceledError: It was canceled or aborted, or its flow run was ended.
        PredictionTimeoutError: A limit passed; it was canceled, and the message says how it ended.
        APIError: Status requests failed for longer than the policy's `failure_budget`.

    Example:
        ```python
        from prefect import flow
        from prefect_replicate import PollPolicy, create_prediction, wait_for_prediction

        @flow
        def patient(prompt: str) -> str:
            started = create_prediction("emulator/timer", {"prompt": prompt})
            policy = PollPolicy(max_interval=30, queue_timeout=600)
            return wait_for_prediction(started, timeout=1800, policy=policy).status
        ```
    """
    asked = checked(prediction=prediction, timeout=timeout, policy=policy, on_update=on_update)
    return call_as(credentials, wait, *asked)


@task(task_run_name=task_run_name("wait"), cache_policy=NO_CACHE)
async def await_for_prediction(
    prediction: Prediction | str,
    credentials: ReplicateCredentials | None = None,
    *,
    timeout: float | None = DEFAULT_TIMEOUT,
    policy: PollPolicy | None = None,
    on_update: OnUpdate | None = None,
) -> Prediction:
    """Async version of `wait_for_prediction`."""
    asked = checked(prediction=prediction, timeout=timeout, policy=policy, on_update=on_update)
    return await acall_as(credentials, wait, *asked)
