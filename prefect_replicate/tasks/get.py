"""Getting a prediction's current state."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_replicate.api import predictions as api
from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.blocks.credentials import acall_as, call_as
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.presentation import task_run_name
from prefect_replicate.tasks.arguments import checked
from prefect_replicate.values import Prediction


async def _get(run: Run, prediction: Prediction | str) -> Prediction:
    return await api.get_prediction(run.connection, id_of(prediction))


def id_of(prediction: Prediction | str) -> str:
    return prediction if isinstance(prediction, str) else prediction.id


@task(task_run_name=task_run_name("get"), cache_policy=NO_CACHE)
def get_prediction(
    prediction: Prediction | str, credentials: ReplicateCredentials | None = None
) -> Prediction:
    """Return a prediction as Replicate describes it now.

    Args:
        prediction: A prediction or its id.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN`.

    Returns:
        The prediction as Replicate shows it now.

    Raises:
        APIError: There is no such prediction, or Replicate could not be reached.

    Example:
        ```python
        from prefect_replicate import create_prediction, get_prediction

        started = create_prediction("emulator/timer", {"seconds": 1})
        print(get_prediction(started.id).status)
        ```
    """
    return call_as(credentials, _get, *checked(prediction=prediction))


@task(task_run_name=task_run_name("get"), cache_policy=NO_CACHE)
async def aget_prediction(
    prediction: Prediction | str, credentials: ReplicateCredentials | None = None
) -> Prediction:
    """Async version of `get_prediction`."""
    return await acall_as(credentials, _get, *checked(prediction=prediction))
