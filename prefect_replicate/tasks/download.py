"""Storing a prediction's files."""

import reprlib
from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.blocks.abstract import ObjectStorageBlock
from prefect.cache_policies import NO_CACHE
from prefect.filesystems import WritableFileSystem

from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.blocks.credentials import acall_as, call_as
from prefect_replicate.exceptions import OutputError
from prefect_replicate.lifecycle.delivery import deliver
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.presentation import task_run_name
from prefect_replicate.settings import or_default
from prefect_replicate.tasks.arguments import checked
from prefect_replicate.values import OutputFile, Prediction

Destination = str | Path | WritableFileSystem | ObjectStorageBlock


async def _download(
    run: Run, prediction: Prediction, destination: Destination, allowed_hosts: Sequence[str]
) -> list[OutputFile]:
    files = await deliver(run, prediction, destination, allowed_hosts)
    if not files:
        raise OutputError(
            f"Prediction {prediction.id} made no files: its output is"
            f" {reprlib.repr(prediction.output)}. It is in `prediction.output`."
        )
    return files


@task(task_run_name=task_run_name("download"), cache_policy=NO_CACHE)
def download_outputs(
    prediction: Prediction,
    destination: Destination | None = None,
    credentials: ReplicateCredentials | None = None,
    *,
    allowed_hosts: Sequence[str] = (),
) -> list[OutputFile]:
    """Store the files of a succeeded prediction, complete and with their SHA-256.

    Replicate deletes them an hour after the prediction has ended. An interrupted download is
    resumed, within the call and by a retry of the task; it never starts a new prediction.

    Args:
        prediction: A prediction that has succeeded.
        destination: A directory, which is created if missing; a URL such as `s3://bucket/folder`; a
            storage block, or `block:type-slug/name` for a saved one. By default, the setting
            `destination`: `~/replicate`.
        credentials: The account; `None` reads `REPLICATE_API_TOKEN`. The token is sent to the
            API's own address only.
        allowed_hosts: Hosts to download from, in addition to Replicate's own.

    Returns:
        One entry for each file in the output, in order.

    Raises:
        OutputExpiredError: Replicate has deleted the files.
        OutputError: The output has no files, or one could not be fetched or stored.

    Example:
        ```python
        from prefect_replicate import create_prediction, download_outputs, wait_for_prediction

        started = create_prediction("emulator/picture", {"prompt": "a red fox"})
        for file in download_outputs(wait_for_prediction(started), "pictures"):
            print(file.location, file.sha256)
        ```
    """
    place = or_default(destination)
    asked = checked(made=prediction, destination=place, allowed_hosts=allowed_hosts)
    return call_as(credentials, _download, *asked)


@task(task_run_name=task_run_name("download"), cache_policy=NO_CACHE)
async def adownload_outputs(
    prediction: Prediction,
    destination: Destination | None = None,
    credentials: ReplicateCredentials | None = None,
    *,
    allowed_hosts: Sequence[str] = (),
) -> list[OutputFile]:
    """Async version of `download_outputs`."""
    place = or_default(destination)
    asked = checked(made=prediction, destination=place, allowed_hosts=allowed_hosts)
    return await acall_as(credentials, _download, *asked)
