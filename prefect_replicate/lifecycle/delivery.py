"""Storing what a finished prediction has made."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import httpx

from prefect_replicate.api.connection import keep_no_cookies
from prefect_replicate.api.models import output_schema_of
from prefect_replicate.api.route import Route
from prefect_replicate.engine import Recent, in_thread, process_state
from prefect_replicate.exceptions import LedgerError, OutputExpiredError
from prefect_replicate.ledger.ledger import ledger_of
from prefect_replicate.lifecycle.bookkeeping import logs_of, record_stored
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.outputs import is_there, store_outputs
from prefect_replicate.outputs.failure import expired_error
from prefect_replicate.outputs.fetch import AccessRules
from prefect_replicate.outputs.found import collect_files
from prefect_replicate.previews import Preview, Sizes, can_be_drawn, draw
from prefect_replicate.settings import settings
from prefect_replicate.values import ModelOutput, OutputFile, Prediction
from prefect_replicate.values.output import OutputSchema

_JSON = "application/json"
Place = Literal["page", "gallery"]
"""Where a file is shown: with the others of its output, or among the items of a batch."""

_SIZES = {"page": Sizes(still=40_000, moving=130_000), "gallery": Sizes(still=5_000, moving=0)}
"""Bytes: for all images on a page; for each image in a gallery."""

_ON_PAGE = 12

_KEPT = 100_000
"""The longest output, in characters of JSON, recorded for a retry after Replicate deletes it."""

_SHORT = 2000
"""The longest output, in characters of JSON, recorded with its batch item."""


async def deliver(
    run: Run,
    prediction: Prediction,
    destination: Any,
    allowed_hosts: Collection[str] = (),
    schema: OutputSchema | None = None,
    shown: Place | None = None,
) -> list[OutputFile]:
    """Store the files of a prediction through `prefect_replicate.outputs`.

    If Replicate has deleted them, the files that this run stored before count. If they will be
    `shown`, previews are drawn for `previews_of` while the files are on this machine.

    Raises:
        OutputExpiredError: Replicate has deleted the files.
        OutputError: They can't be stored.
    """
    address = run.connection.address

    async def stored(files: Sequence[OutputFile], paths: Mapping[str, Path]) -> None:
        for file in files:
            run.say("Stored %s (%s)", file.location, _readable(file.size))
        if files:
            await record_stored(run, prediction, files)
        if shown is not None:
            for problem in await _draw(files, paths, shown):
                run.say("No preview of prediction %s: %s", prediction.id, problem)

    try:
        return await store_outputs(
            prediction,
            destination,
            http=process_state("downloads", _downloads),
            rules=_rules(run, allowed_hosts),
            token=address.token.get_secret_value(),
            schema=schema or await output_schema_of(run.connection, prediction),
            on_stored=stored,
        )
    except OutputExpiredError:
        files = await _stored_before(run, prediction)
        if not files:
            if await _kept_before(run, prediction) is not None:
                return []
            raise
        run.say(
            "The files of prediction %s are already stored: %s", prediction.id, files[0].location
        )
        return files


class _Previews(Recent[str, Preview]):
    """By SHA-256, until they are shown."""

    limit = 100


async def _draw(files: Sequence[OutputFile], paths: Mapping[str, Path], place: Place) -> list[str]:
    """Draw missing previews, and return the problems."""
    drawn, sizes = process_state("previews", _Previews), _SIZES[place]
    if place == "page":
        files = files[:_ON_PAGE]
        sizes = sizes.shared_by(len(files))
    wanted = {
        one.sha256: (paths[one.sha256], one.media_type)
        for one in files
        if one.sha256 in paths and one.sha256 not in drawn and can_be_drawn(one.media_type)
    }
    if not wanted or not settings().previews:
        return []
    previews = await in_thread(draw, list(wanted.values()), sizes)
    made = dict(zip(wanted, previews, strict=True))
    for sha256, preview in made.items():
        drawn[sha256] = preview
    return [one.problem for one in made.values() if one.problem]


async def previews_of(files: Sequence[OutputFile], place: Place) -> list[Preview]:
    """Return previews of files, in order: drawn when they were stored, else from this machine.

    A preview that was drawn before is returned only once.
    """
    here = {one.sha256: Path(one.location) for one in files if one.block is None and is_there(one)}
    await _draw(files, here, place)
    drawn = process_state("previews", _Previews)
    found = {sha256: drawn.pop(sha256, Preview()) for sha256 in {one.sha256 for one in files}}
    return [found[one.sha256] for one in files]


def _rules(run: Run, allowed_hosts: Collection[str] = ()) -> AccessRules:
    return AccessRules.make(run.connection.address.base_url, run.file_hosts.union(allowed_hosts))


async def output_of(
    run: Run,
    prediction: Prediction,
    destination: Any,
    allowed_hosts: Collection[str] = (),
    shown: Place | None = None,
) -> ModelOutput:
    """Return what a prediction has made, with its files stored if there is a destination.

    Raises:
        OutputExpiredError: Replicate has deleted it, and no files of it are stored.
        OutputError: Its files can't be stored.
    """
    made, has_files = await _output_of(run, prediction, destination, allowed_hosts, shown)
    if not has_files and len(json.dumps(made.output)) <= _KEPT:
        await record_stored(run, prediction, output=made.output)
    return made


async def _output_of(
    run: Run,
    prediction: Prediction,
    destination: Any,
    allowed_hosts: Collection[str],
    shown: Place | None,
) -> tuple[ModelOutput, bool]:
    """Return the output, and whether it contains files, stored or not."""
    schema = await output_schema_of(run.connection, prediction) or OutputSchema()
    files = list[OutputFile]()
    if destination is not None:
        files = await deliver(run, prediction, destination, allowed_hosts, schema, shown)
    output = schema.joined(prediction.output)
    if prediction.data_removed and not files:
        output = await _kept_before(run, prediction)
        if output is None:
            raise expired_error(prediction, "output")
    has_files = bool(files or collect_files(prediction, schema, _rules(run).has_files_alone))
    text = output if isinstance(output, str) and not has_files else None
    return ModelOutput(prediction=prediction, output=output, text=text, files=files), has_files


async def store_whole(
    run: Run, prediction: Prediction, destination: Any, shown: Place | None = None
) -> tuple[list[OutputFile], Any]:
    """Store what a prediction has made: its files, and any other output as another file.

    Returns:
        The files, and the text or JSON if there is more than files and it is short.

    Raises:
        OutputExpiredError: Replicate has deleted it, and nothing of it is stored.
        OutputError: It can't be stored.
    """
    made, _ = await _output_of(run, prediction, destination, (), shown)
    if made.has_files_alone:
        return made.files, None
    as_json = json.dumps(made.output, ensure_ascii=False)
    kind, text = ("text/plain", made.text) if made.text is not None else (_JSON, as_json)
    uri = f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"
    # Named so that it can't be taken for, or overwrite, one of the model's own files.
    id = f"{prediction.id}-output" if made.files else prediction.id
    written = prediction.model_copy(update={"id": id, "output": uri})
    files = [*made.files, *await deliver(run, written, destination, schema=OutputSchema())]
    await record_stored(run, prediction, files)
    return files, made.output if len(as_json) <= _SHORT else None


async def _kept_before(run: Run, prediction: Prediction) -> Any:
    """Return the recorded text or JSON; `None` if there is none."""
    with suppress(LedgerError):
        for log in await logs_of(await ledger_of(run.scope), prediction.id):
            if log.generation is not None and log.generation.output is not None:
                return log.generation.output
    return None


async def _stored_before(run: Run, prediction: Prediction) -> list[OutputFile]:
    """Return the recorded files, unless one of them was on this machine and is gone."""
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
