"""The flows, run from a terminal.

A generation is shown line by line, with a progress bar below. Both come from the flow's log, which
Prefect gets as well: the bar needs no requests of its own to Prefect or Replicate.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from prefect import get_client
from prefect import serve as serve_deployments
from prefect.deployments.runner import DeploymentApplyError
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_UI_URL
from prefect.utilities.urls import url_for
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.blocks.credentials import call_as
from prefect_replicate.cleanup.sweep import Swept
from prefect_replicate.cleanup.table import done, left_running, seconds, summary
from prefect_replicate.demo.prefect_server import prefect_server, running
from prefect_replicate.engine import call
from prefect_replicate.exceptions import ConfigurationError, ReplicateError
from prefect_replicate.flows.cancel_orphaned_predictions import sweep
from prefect_replicate.flows.deploy import drifts, model_deployment
from prefect_replicate.generation import from_text, schema_of
from prefect_replicate.ledger.limits import (
    NAME,
    GlobalLimit,
    read_limit,
    remove_limit,
    set_limit,
)
from prefect_replicate.ledger.prefect_api import next_step
from prefect_replicate.lifecycle.model_logs import percent_done
from prefect_replicate.text import in_line
from prefect_replicate.values import ModelOutput, ModelReference, Orphan
from prefect_replicate.values.model_schema import ModelSchema

_PACKAGE = Path(__file__).parent
_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
_WIDTH = 160
"""Columns of a table that goes to a file or another program."""


def run(
    flow: Callable[..., ModelOutput], model: str, block: str | None, parameters: dict[str, Any]
) -> ModelOutput:
    """Run `run_model` or `generate_video`, and show its progress on standard error.

    From then on, the process no longer shows Prefect's own log lines.

    Args:
        flow: Which of the two.
        model: The model, as the flow takes it.
        block: Name of a saved `ReplicateCredentials` block.
        parameters: Other parameters of the flow.

    Raises:
        ReplicateError: The flow or Prefect failed.
    """
    with shown_on(Console(stderr=True), model):
        try:
            _check_prefect()
            credentials = _load(block) if block else None
            return flow(model=model, credentials=credentials, **parameters)
        except (PrefectException, httpx.HTTPError) as exc:
            raise ReplicateError(f"Prefect: {exc}") from exc


def _schema_of(model: str, block: str | None) -> ModelSchema:
    return call_as(_load(block) if block else None, schema_of, model)


def typed(model: str, block: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Convert texts to what the model takes: JSON where it takes no text.

    Raises:
        ReplicateError: There is no such model, or no usable token.
    """
    schema = _schema_of(model, block) if given else ModelSchema()
    return {
        name: from_text(value, schema.property(name)) if isinstance(value, str) else value
        for name, value in given.items()
    }


def inputs(model: str, block: str | None) -> None:
    """Show a model's inputs, as a table in Replicate's order, and what it makes.

    Raises:
        ReplicateError: There is no such model, or no usable token.
    """
    schema = _schema_of(model, block)
    console = _console()
    if not schema.is_known:
        console.print(Text(f"{model} has no readable schema: it takes any input."))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("INPUT", no_wrap=True)
    for title in ("TAKES", "DEFAULT", "ABOUT"):
        table.add_column(title, overflow="fold")
    for one in schema.inputs.values():
        name = f"{one.name} *" if one.is_required else one.name
        default = "" if one.default is None else in_line(json.dumps(one.default), 60)
        table.add_row(*map(Text, (name, one.takes, default, in_line(one.description, 200))))
    console.print(table)
    made = {True: "files", False: "text or JSON", None: "anything"}[schema.output.makes_files]
    console.print(Text(f"* required. It makes {made}."))


def deploy(model: str, block: str | None, *, serve: bool, options: dict[str, Any]) -> None:
    """Deploy a model with a form of its inputs, or serve it until Ctrl-C.

    Raises:
        ReplicateError: The model or an option is invalid, or Prefect could not be reached.
    """
    _require_prefect("to deploy to")
    try:
        _check_prefect()
        _check_pool(options.get("work_pool_name"))
        deployment = model_deployment(model, credentials=_load(block) if block else None, **options)
        if serve:
            serve_deployments(deployment)
            return
        deployment_id = deployment.apply()
    except (DeploymentApplyError, PrefectException, httpx.HTTPError, ValueError) as exc:
        if isinstance(exc, ReplicateError):
            raise
        raise ReplicateError(f"Prefect: {_reason(exc)}") from exc
    console = _console()
    console.print(Text(f"{deployment.full_name} runs {model}."))
    if ui := PREFECT_UI_URL.value():
        console.print(Text(f"Its form: {ui}/deployments/deployment/{deployment_id}/run"))
    if deployment.work_pool_name is None:
        console.print(Text("Nothing runs it yet: use --pool or --serve."))


def _reason(exc: Exception) -> str:
    if isinstance(exc, ValidationError):
        first = exc.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))} is {first['input']!r}: {first['msg']}."
    return str(exc)


def _check_pool(name: str | None) -> None:
    if name is None:
        return
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(name)
        except ObjectNotFound as exc:
            raise ConfigurationError(
                f"There is no work pool {name!r}: create it with `prefect work-pool create {name}"
                " --type process`."
            ) from exc


def check_deployments() -> bool:
    """List how the models of deployments have changed, and return whether none has.

    Raises:
        ReplicateError: Prefect could not be reached.
    """
    _require_prefect("whose deployments to check")
    found = drifts()
    console = _console()
    for one in found:
        state = one.error or "; ".join(one.changes) or "unchanged"
        console.print(Text(f"{one.deployment} ({one.model}): {state}"))
    if not found:
        console.print(Text("There are no deployments of single models."))
    return not any(one.changes or one.error for one in found)


def check(model: str, block: str | None) -> None:
    """Check what can be checked before a Prefect server starts, which takes long.

    Raises:
        ReplicateError: The model reference is malformed, or there is no token.
    """
    ModelReference.parse(model)
    if block is None:
        ReplicateCredentials().address()


def has_prefect() -> bool:
    """Whether the user has set which Prefect server to use."""
    return bool(PREFECT_API_URL.value())


def again_with_prefect(arguments: list[str]) -> int:
    """Run a command line of `prefect-replicate` with its own temporary Prefect server.

    Prefect would start one by itself, but in the terminal's foreground, where Ctrl-C ends it before
    the flow run has reported its final state, and with a timeout that is too short for a small
    machine.
    """
    console = Console(stderr=True, highlight=False)
    with ExitStack() as stack:
        with console.status("Starting a Prefect server for this run"):
            server = stack.enter_context(prefect_server(PREFECT_HOME.value(), env=os.environ))
        command = ["-m", "prefect_replicate.cli", *arguments]
        return stack.enter_context(running(command, server.env)).wait()


def orphans(*, cancel: bool, grace: float, block: str | None) -> list[Orphan]:
    """Find the predictions that no flow run waits for, cancel them if asked to, and list them.

    Args:
        cancel: Whether to cancel them.
        grace: As `cancel_orphaned_predictions` takes it.
        block: Name of a saved `ReplicateCredentials` block.

    Raises:
        ReplicateError: Prefect could not be reached.
    """
    _require_prefect("whose flow runs to check")
    try:
        _check_prefect()
        # At exit, it warns that events about changed artifacts have not been sent to Prefect yet.
        logging.getLogger("EventsWorker").setLevel(logging.ERROR)
        credentials = _load(block) if block else None
        logger = logging.getLogger("prefect_replicate")
        swept = call(sweep(logger, credentials, dry_run=not cancel, grace=grace))
    except (PrefectException, httpx.HTTPError) as exc:
        raise ReplicateError(f"Prefect: {exc}") from exc
    _list(swept)
    return swept.orphans


def limits(creates_per_minute: int | None, *, remove: bool) -> None:
    """Show or change how many predictions all flow runs together may create.

    Args:
        creates_per_minute: The new limit, if given.
        remove: Whether to remove the limit.

    Raises:
        ReplicateError: Prefect could not be reached.
    """
    _require_prefect("whose flow runs to limit")
    try:
        _check_prefect()
    except (PrefectException, httpx.HTTPError) as exc:
        raise ReplicateError(f"Prefect: {exc}") from exc
    if remove:
        was_there = call(lambda _: remove_limit())
        _console().print(f"{NAME} is removed." if was_there else f"There is no limit {NAME}.")
        return
    if creates_per_minute is None:
        limit = call(lambda _: read_limit())
    else:
        limit = call(lambda _: set_limit(creates_per_minute))
    if limit is None:
        _console().print(f"There is no limit {NAME}.")
    else:
        _show_limit(limit)


def _show_limit(limit: GlobalLimit) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("LIMIT", no_wrap=True)
    for title in ("AT ONCE", "PER MINUTE", "IN USE"):
        table.add_column(title, justify="right")
    table.add_row(NAME, str(limit.limit), f"{limit.per_second * 60:.0f}", str(limit.used))
    _console().print(table)


def _list(swept: Swept) -> None:
    found = swept.orphans
    console = _console()
    table = Table(box=None, pad_edge=False)
    table.add_column("PREDICTION", no_wrap=True)
    for title in ("MODEL", "FLOW RUN", "WHY"):
        table.add_column(title, overflow="fold")
    table.add_column("RAN", justify="right")
    table.add_column("DONE", overflow="fold")
    for one in found:
        ran = "" if one.seconds_run is None else f"{seconds(one.seconds_run)} s"
        name = one.flow_run_name or str(one.flow_run_id)
        shown = (one.prediction_id or "no id", one.model, name, one.why, ran, done(one))
        table.add_row(*(Text(cell) for cell in shown))
    if found:
        console.print(table)
    console.print(summary(found))
    if swept.running:
        console.print(left_running(swept.running, swept.silence), soft_wrap=True)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    return console


def _load(block: str) -> ReplicateCredentials:
    try:
        return asyncio.run(ReplicateCredentials.aload(block))
    except ValueError as exc:
        raise ConfigurationError(str(exc)) from exc


def _require_prefect(purpose: str) -> None:
    if not has_prefect():
        raise ConfigurationError(
            f"PREFECT_API_URL is not set; set it to the Prefect server {purpose}."
        )


def _check_prefect() -> None:
    try:
        with get_client(sync_client=True) as client:
            problem = client.api_healthcheck()
    except httpx.InvalidURL as exc:
        raise ConfigurationError(
            "Prefect's API can't be reached: its address, or that of a proxy in the environment, is"
            f" not usable: {exc}"
        ) from exc
    if problem is not None:
        raise ConfigurationError(
            f"Prefect's API can't be reached: {problem}; {next_step()}. Nothing was started or"
            " canceled."
        ) from problem


@contextmanager
def shown_on(console: Console, title: str) -> Generator[None, None, None]:
    """Show the flow runs of this process on `console`, in place of Prefect's own lines."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[share]}"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as progress:
        display = _Display(progress, title)
        _replace_prefects_handlers(display)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(display)


def _replace_prefects_handlers(handler: logging.Handler) -> None:
    for logger in (logging.getLogger(), logging.getLogger("prefect")):
        for own in [one for one in logger.handlers if isinstance(one, PrefectConsoleHandler)]:
            logger.removeHandler(own)
    logging.getLogger().addHandler(handler)


class _Display(logging.Handler):
    def __init__(self, progress: Progress, title: str) -> None:
        super().__init__()
        self._progress = progress
        self._flow_run_id: str | None = None
        self._bar = progress.add_task(title, total=None, share="")

    def emit(self, record: logging.LogRecord) -> None:
        self._show_link(getattr(record, "flow_run_id", None))
        if not _is_news(record):
            return
        line = record.getMessage()
        percent = percent_done(line) if _is_of_model(line) else None
        if percent is not None:
            share = f"{percent:.0f} %"
            self._progress.update(self._bar, total=100, completed=percent, share=share)
        if percent is None or not self._progress.console.is_terminal:
            self._say(line)

    def _show_link(self, flow_run_id: str | None) -> None:
        if flow_run_id is None or flow_run_id == self._flow_run_id:
            return
        self._flow_run_id = flow_run_id
        link = url_for("flow-run", flow_run_id)
        if link is not None:
            self._say(f"Prefect run: {link}")

    def _say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record is for the user: this package's own lines, and warnings from others.

    A run's failure is also raised, and reported once at the end, without a traceback.
    """
    if record.exc_info:
        return False
    if _PACKAGE in Path(record.pathname).parents:
        return True
    return record.levelno >= logging.WARNING and record.name not in _RUN_LOGGERS


def _is_of_model(line: str) -> bool:
    return line.startswith("[")
