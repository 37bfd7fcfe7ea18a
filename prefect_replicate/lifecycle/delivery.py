"""Bringing a finished prediction's files home."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import httpx

from prefect_replicate.api.connection import keep_no_cookies
from prefect_replicate.api.models import output_schema_of
from prefect_replicate.api.route import Route
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import LedgerError, OutputExpiredError
from prefect_replicate.ledger.ledger import ledger_of
from prefect_replicate.lifecycle.bookkeeping import logs_of, record_files
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.outputs import is_there, store_outputs
from prefect_replicate.outputs.failure import expired_error
from prefect_replicate.outputs.fetch import AccessRules
from prefect_replicate.outputs.found import collect_files
from prefect_replicate.values import ModelOutput, OutputFile, Prediction
from prefect_replicate.values.output import OutputSchema

_JSON = "application/json"
_SHORT = 2000
"""Characters of a text or JSON that is written down with the item that it is of."""


async def deliver(
    run: Run,
    prediction: Prediction,
    destination: Any,
    allowed_hosts: Collection[str] = (),
    schema: OutputSchema | None = None,
) -> list[OutputFile]:
    """Store the files of a prediction, as `prefect_replicate.outputs` does it.

    Where Replicate has deleted them, those count that this run has stored before.

    Raises:
        OutputExpiredError: Replicate has deleted the files.
        OutputError: They can't be stored.
    """
    address = run.connection.address
    try:
        files = await store_outputs(
            prediction,
            destination,
            http=process_state("downloads", _downloads),
            rules=_rules(run, allowed_hosts),
            token=address.token.get_secret_value(),
            schema=schema or await output_schema_of(run.connection, prediction),
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
    if files:
        await record_files(run, prediction, files)
    return files


def _rules(run: Run, allowed_hosts: Collection[str] = ()) -> AccessRules:
    return AccessRules.make(run.connection.address.base_url, run.file_hosts.union(allowed_hosts))


async def output_of(
    run: Run, prediction: Prediction, destination: Any, allowed_hosts: Collection[str] = ()
) -> ModelOutput:
    """What a prediction has made, with its files stored if there is a destination.

    Raises:
        OutputExpiredError: Replicate has deleted it, and no files of it are stored.
        OutputError: Its files can't be stored.
    """
    schema = await output_schema_of(run.connection, prediction) or OutputSchema()
    files = list[OutputFile]()
    if destination is not None:
        files = await deliver(run, prediction, destination, allowed_hosts, schema)
    if prediction.data_removed and not files:
        raise expired_error(prediction, "output")
    output = schema.joined(prediction.output)
    has_files = files or collect_files(prediction, schema, _rules(run).has_files_alone)
    text = output if isinstance(output, str) and not has_files else None
    return ModelOutput(prediction=prediction, output=output, text=text, files=files)


async def store_whole(
    run: Run, prediction: Prediction, destination: Any
) -> tuple[list[OutputFile], Any]:
    """Store what a prediction has made: its files, or a text or JSON as one.

    Returns:
        The files, and the text or JSON if it is short.

    Raises:
        OutputExpiredError: Replicate has deleted it, and nothing of it is stored.
        OutputError: It can't be stored.
    """
    made = await output_of(run, prediction, destination)
    if made.files:
        return made.files, None
    as_json = json.dumps(made.output, ensure_ascii=False)
    kind, text = ("text/plain", made.text) if made.text is not None else (_JSON, as_json)
    uri = f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"
    written = prediction.model_copy(update={"output": uri})
    files = await deliver(run, written, destination, schema=OutputSchema())
    return files, made.output if len(as_json) <= _SHORT else None


async def _stored_before(run: Run, prediction: Prediction) -> list[OutputFile]:
    """The files that are recorded, unless one of them was on this machine and is not any more."""
    with suppress(LedgerError):
        for log in await logs_of(await ledger_of(run.scope), prediction.id):
            files = log.generation.stored if log.generation else ()
            if files and all(map(is_there, files)):
                return list(files)
    return []


def _downloads() -> httpx.Client:
    http = httpx.Client(transport=Route())
    keep_no_cookies(http)
    return http


def _readable(size: float) -> str:
    """Bytes in decimal units, as file managers show them."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
