"""Ending a prediction."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.blocks.credentials import acall_as, call_as
from prefect_replicate.lifecycle.cancellation import cancel_to_the_end
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.presentation import task_run_name
from prefect_replicate.tasks.arguments import checked
from prefect_replicate.tasks.get import id_of
from prefect_replicate.values import Prediction


async def _cancel(run: Run, prediction: Prediction | str) -> Prediction:
    if isinstance(prediction, Prediction) and prediction.is_terminal:
        return prediction
    is_known = isinstance(prediction, Prediction)
    return await cancel_to_the_end(run, id_of(prediction), is_known=is_known)


@task(task_run_name=task_run_name("cancel"), cache_policy=NO_CACHE)
def cancel_prediction(
    prediction: Prediction | str, credentials: ReplicateCredentials | None = None
) -> Prediction:
    """Cancel a prediction, wait until it has ended, and return it in its final state.

    A prediction that has already ended is returned unchanged; it may have `succeeded`.

    Args:
        prediction: A prediction or its id.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN`.

    Returns:
        The prediction in the status in which it ended.

    Raises:
        APIError: There is no such prediction, or Replicate could not be reached.
        PredictionError: It did not end within two minutes.

    Example:
        ```python
        from prefect_replicate import cancel_prediction, create_prediction

        ended = cancel_prediction(create_prediction("emulator/timer", {"seconds": 60}))
        print(ended.status, ended.predict_time)
        ```
    """
    return call_as(credentials, _cancel, *checked(prediction=prediction))


@task(task_run_name=task_run_name("cancel"), cache_policy=NO_CACHE)
async def acancel_prediction(
    prediction: Prediction | str, credentials: ReplicateCredentials | None = None
) -> Prediction:
    """Async version of `cancel_prediction`."""
    return await acall_as(credentials, _cancel, *checked(prediction=prediction))
