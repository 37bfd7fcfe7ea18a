"""A batch of videos, as a script of a user has it made.

Usage: campaign.py PARAMETERS TAG [TASK_RUNNER [BLOCK]]
"""

import json
import sys
from typing import Any

from prefect import tags

from prefect_replicate import ReplicateCredentials, generate_videos


def task_runner(name: str) -> Any:
    if name == "threads":
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner()
    if name.startswith("dask"):
        from prefect_dask import DaskTaskRunner

        if name == "dask-nowhere":
            return DaskTaskRunner(address="tcp://127.0.0.1:9", client_kwargs={"timeout": 2})
        # What the variable is set to in the processes that do the work.
        account = {"REPLICATE_API_TOKEN": ""} if name == "dask-without-account" else None
        cluster = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": None}
        return DaskTaskRunner(cluster_kwargs={**cluster, "env": account})
    if name == "ray":
        from prefect_ray import RayTaskRunner

        quiet = {"include_dashboard": False, "configure_logging": False, "log_to_driver": False}
        return RayTaskRunner(init_kwargs={"num_cpus": 2, **quiet})
    from prefect.task_runners import ProcessPoolTaskRunner

    # Of two, Python's executor may never notice the death of the second.
    return ProcessPoolTaskRunner(max_workers=1)


def credentials(name: str) -> ReplicateCredentials:
    if name == "unsaved":
        return ReplicateCredentials(api_token="r8_" + "u" * 37)  # pyright: ignore[reportArgumentType]
    return ReplicateCredentials.load(name)  # pyright: ignore[reportReturnType]


if __name__ == "__main__":
    parameters, tag, *further = sys.argv[1:]
    chosen: dict[str, Any] = json.loads(parameters)
    made = generate_videos
    if further:
        made = generate_videos.with_options(task_runner=task_runner(further[0]))
    if further[1:]:
        chosen["credentials"] = credentials(further[1])
    with tags(tag):
        made(**chosen)
