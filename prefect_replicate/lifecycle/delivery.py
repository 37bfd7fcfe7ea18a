"""Bringing a finished prediction's files home."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx

from prefect_replicate.api.route import Route
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError, OutputExpiredError
from prefect_replicate.ledger.ledger import ledger_of
from prefect_replicate.lifecycle.bookkeeping import logs_of, record_files
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.outputs import is_there, store_outputs
from prefect_replicate.values import OutputFile, Prediction


async def deliver(
    run: Run, prediction: Prediction, destination: Any, allowed_hosts: Sequence[str]
) -> list[OutputFile]:
    """Store the files of a prediction, as `prefect_replicate.outputs` does it.

    Where Replicate has deleted them, those count that this run has stored before.
    """
    address = run.connection.address
    try:
        files = await store_outputs(
            prediction,
            destination,
            http=process_state("downloads", _downloads),
            api_url=address.base_url,
            token=address.token.get_secret_value(),
            allowed_hosts=allowed_hosts,
        )
    except OutputExpiredError:
        files = await _stored_before(run, prediction)
        if not files:
            raise
        run.say(
            "The files of prediction %s are stored already: %s", prediction.id, files[0].location
        )
        return files
    for file in files:
        run.say("Stored %s (%s)", file.location, _readable(file.size))
    await record_files(run, prediction, files)
    return files


async def _stored_before(run: Run, prediction: Prediction) -> list[OutputFile]:
    """The files that are recorded, unless one of them was on this machine and is not any more."""
    with suppress(LedgerError):
        for log in await logs_of(await ledger_of(run.scope), prediction.id):
            files = log.generation.stored if log.generation else ()
            if files and all(map(is_there, files)):
                return list(files)
    return []


def _downloads() -> httpx.Client:
    return httpx.Client(transport=Route())


def _readable(size: float) -> str:
    """Bytes in decimal units, as file managers show them."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
