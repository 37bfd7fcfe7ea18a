"""The flow that cancels orphaned predictions."""

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.actions import ArtifactCreate
from prefect.logging.loggers import get_run_logger
from prefect.settings import get_current_settings

from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.cleanup.orphans import SILENT_HEARTBEATS
from prefect_replicate.cleanup.sweep import Sweep, Swept
from prefect_replicate.cleanup.table import left_running, rows, summary
from prefect_replicate.engine import Caller, acall, call
from prefect_replicate.exceptions import ReplicateError
from prefect_replicate.ledger.prefect_api import create_artifact
from prefect_replicate.ledger.scope import RunScope, keep_result_if_deployed
from prefect_replicate.settings import settings
from prefect_replicate.values import Orphan

TABLE_KEY = "orphaned-predictions"
_HEARTBEAT_SECONDS = 180


def sweep(
    logger: Any,
    credentials: ReplicateCredentials | None,
    *,
    dry_run: bool,
    grace: float | None = None,
    silence: float | None = None,
) -> Callable[[Caller], Coroutine[Any, Any, Swept]]:
    """Bind a sweep to the current Prefect run, if any, as work for the engine."""
    scope = RunScope.current()
    if silence is None:
        interval = get_current_settings().flows.heartbeat_frequency or _HEARTBEAT_SECONDS
        silence = float(SILENT_HEARTBEATS * interval)
    seconds = settings().sweep_grace if grace is None else grace

    async def work(caller: Caller) -> Swept:
        return await Sweep(caller, scope, logger, credentials, dry_run, seconds, silence).orphans()

    return work


def _sweep_and_show(
    credentials: ReplicateCredentials | None,
    dry_run: bool,
    grace: float | None,
    silence: float | None,
) -> Callable[[Caller], Coroutine[Any, Any, list[Orphan]]]:
    scope, logger = RunScope.current(), get_run_logger()
    swept = sweep(logger, credentials, dry_run=dry_run, grace=grace, silence=silence)

    async def work(caller: Caller) -> list[Orphan]:
        orphans, running, seconds = await swept(caller)
        await _show(scope, orphans)
        caller.tell(lambda: logger.info("%s", summary(orphans)))
        if running:
            caller.tell(lambda: logger.info("%s", left_running(running, seconds)))
        _check(orphans)
        return orphans

    return work


async def _show(scope: RunScope, orphans: Sequence[Orphan]) -> None:
    table = ArtifactCreate(
        key=TABLE_KEY,
        type="table",
        data=json.dumps(rows(orphans)),
        description=summary(orphans),
        flow_run_id=scope.flow_run_id,
    )
    await create_artifact(table, "write the table of orphaned predictions")


def _check(orphans: Sequence[Orphan]) -> None:
    failed = [one for one in orphans if one.outcome == "failed"]
    if failed:
        first = f"{failed[0].prediction_id or 'a lost create'} of {failed[0].model}"
        raise ReplicateError(
            f"{len(failed)} of {len(orphans)} orphaned predictions could not be handled, and may"
            f" run until their deadline; {first}: {failed[0].error}"
        )


@flow(name="cancel-orphaned-predictions")
def cancel_orphaned_predictions(
    credentials: ReplicateCredentials | None = None,
    *,
    dry_run: bool = False,
    grace: float | None = None,
    silence: float | None = None,
) -> list[Orphan]:
    """Cancel orphaned predictions, which no flow run waits for.

    Run it on a schedule, in addition to the hooks: if a machine, a worker or a process dies, no
    hook runs. A prediction is orphaned when its flow run, or a parent of that run, has ended, was
    deleted, or has stopped sending heartbeats, and also when all of them have completed without
    waiting for it. Flow runs that are suspended, scheduled or waiting for a retry keep their
    predictions. A prediction that no flow run has recorded is left alone, and so is one whose flow
    run was deleted together with its parents: its deadline ends it. A table on the run's Artifacts
    page shows all orphans.

    Args:
        credentials: The account for predictions that were created without a saved block; empty
            reads `REPLICATE_API_TOKEN`.
        dry_run: Only list the orphans, and change nothing.
        grace: Seconds after a flow run ends before its predictions count as orphaned. By default,
            the setting `sweep_grace`: 300.
        silence: Seconds without a heartbeat after which a running flow run counts as dead. Empty:
            three times Prefect's `flows.heartbeat_frequency`, nine minutes if that is not set. Set
            it if flow runs send heartbeats less often than this process's setting says.

    Returns:
        The orphans that were found, each with what was done about it.

    Raises:
        ReplicateError: Some orphans could not be handled; the others were.

    Example:
        ```python
        from prefect_replicate import cancel_orphaned_predictions

        cancel_orphaned_predictions.serve(interval=600)
        ```
    """
    keep_result_if_deployed()
    return call(_sweep_and_show(credentials, dry_run, grace, silence))


@flow(name="cancel-orphaned-predictions")
async def acancel_orphaned_predictions(
    credentials: ReplicateCredentials | None = None,
    *,
    dry_run: bool = False,
    grace: float | None = None,
    silence: float | None = None,
) -> list[Orphan]:
    """Async version of `cancel_orphaned_predictions`."""
    keep_result_if_deployed()
    return await acall(_sweep_and_show(credentials, dry_run, grace, silence))
