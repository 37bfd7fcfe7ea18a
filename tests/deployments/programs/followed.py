"""Serve what automations run: a flow that writes down where a file is, and batches.

Usage: followed.py FOLDER
"""

import sys
from pathlib import Path

from prefect import flow, serve
from prefect.types.entrypoint import EntrypointType

from prefect_replicate import generate_videos


@flow
def publish(location: str, folder: str) -> None:
    (Path(folder) / "published.txt").write_text(location)


if __name__ == "__main__":
    [folder] = sys.argv[1:]
    serve(
        publish.to_deployment("on-demand", parameters={"folder": folder}),  # type: ignore[arg-type]
        generate_videos.to_deployment(  # type: ignore[arg-type]
            "on-event",
            parameters={"destination": folder},
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
        query_seconds=1,
        print_starting_message=False,
    )
