"""Bringing a finished prediction's files home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from prefect_replicate.api.route import Route
from prefect_replicate.engine import process_state
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.outputs import store_outputs
from prefect_replicate.values import OutputFile, Prediction


async def deliver(
    run: Run, prediction: Prediction, destination: Any, allowed_hosts: Sequence[str]
) -> list[OutputFile]:
    """Store the files of a prediction, as `prefect_replicate.outputs` does it."""
    address = run.connection.address
    files = await store_outputs(
        prediction,
        destination,
        http=process_state("downloads", _downloads),
        api_url=address.base_url,
        token=address.token.get_secret_value(),
        allowed_hosts=allowed_hosts,
    )
    for file in files:
        run.say("Stored %s (%s)", file.location, _readable(file.size))
    return files


def _downloads() -> httpx.Client:
    return httpx.Client(transport=Route())


def _readable(size: float) -> str:
    """Bytes in decimal units, as file managers show them."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
