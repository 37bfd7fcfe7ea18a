"""Serve flows of render.py, each as a deployment of a given name.

Usage: served.py DEPLOYMENT FLOW...
"""

import sys
from typing import Any

import render
from prefect import serve


def deployment_of(name: str, flow_name: str) -> Any:
    deployment = getattr(render, flow_name).to_deployment(f"{flow_name}-{name}")
    # Several flows are one function with other options, so that Prefect can't tell where they are.
    deployment.entrypoint = f"render.{flow_name}"
    return deployment


if __name__ == "__main__":
    serve(
        *[deployment_of(sys.argv[1], flow_name) for flow_name in sys.argv[2:]],
        query_seconds=1,
        print_starting_message=False,
    )
