"""Creating, reading, listing and canceling predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_replicate.emulator import problems
from prefect_replicate.emulator.api.deployments import find_deployment
from prefect_replicate.emulator.api.models import find_model
from prefect_replicate.emulator.api.replies import paged, read_json
from prefect_replicate.emulator.durations import parse_lifetime, parse_wait
from prefect_replicate.emulator.models.model import Model, Version
from prefect_replicate.emulator.orders import order_from
from prefect_replicate.emulator.platform import platform_of
from prefect_replicate.emulator.predictions import Record, ending_of, state_at
from prefect_replicate.emulator.problems import InvalidField
from prefect_replicate.emulator.timestamps import parse_time
from prefect_replicate.emulator.validation import (
    CREATE,
    CREATE_FROM_VERSION,
    check_create_body,
    check_input,
)


async def create_from_version(request: Request) -> Response:
    """Run the version, or the official model, that the body names."""
    body = await _read_body(request, CREATE_FROM_VERSION)
    found = platform_of(request).catalogue.resolve(body["version"])
    if found is None:
        raise problems.unknown_version()
    return await _create(request, *found, body)


async def create_from_model(request: Request) -> Response:
    """Run an official model; others do not have this route."""
    model = find_model(request)
    if not model.is_official:
        raise problems.not_found()
    body = await _read_body(request, CREATE)
    return await _create(request, model, model.latest_version, body)


async def create_from_deployment(request: Request) -> Response:
    """Run the model of a deployment."""
    deployment = find_deployment(request)
    body = await _read_body(request, CREATE)
    model = deployment.model
    return await _create(request, model, deployment.version, body, deployment.full_name)


async def list_predictions(request: Request) -> Response:
    """List the account's predictions, newest first, 100 per page."""
    if (source := request.query_params.get("source")) not in (None, "web"):
        raise problems.bad_request(f"source can only be web, not {source!r}")
    platform = platform_of(request)
    after, before = _moment(request, "created_after"), _moment(request, "created_before")
    records = platform.history.records_between(after, before) if source is None else []
    now, writer = platform.clock.now(), platform.writer
    return paged(
        request,
        records,
        lambda record: record.id,
        lambda record: writer.database(record, state_at(record, now)),
    )


async def get_prediction(request: Request) -> Response:
    """Describe a prediction."""
    platform, record = platform_of(request), _find_record(request)
    state = state_at(record, platform.clock.now())
    return JSONResponse(platform.writer.polled(record, state))


async def cancel_prediction(request: Request) -> Response:
    """Stop a prediction; one that has ended stays as it is."""
    platform, record = platform_of(request), _find_record(request)
    now, behaviour = platform.clock.now(), platform.behaviour
    was_over = state_at(record, now).is_terminal
    state = platform.history.cancel(record, now, behaviour.cancel_lag)
    platform.clock.wake()
    if was_over and behaviour.finished_cancel_status != 200:
        detail = f"Prediction has already {state.status}"
        raise problems.Problem(behaviour.finished_cancel_status, detail)
    return JSONResponse(platform.writer.canceled(record, state))


async def _read_body(request: Request, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    body = await read_json(request)
    if invalid := check_create_body(body, schema):
        raise problems.invalid_fields(invalid)
    return body


async def _create(
    request: Request,
    model: Model,
    version: Version,
    body: Mapping[str, Any],
    deployment: str | None = None,
) -> Response:
    platform = platform_of(request)
    if not platform.behaviour.credit:
        raise problems.insufficient_credit()
    strict = platform.behaviour.strict_input
    if invalid := check_input(body["input"], version.openapi_schema, strict=strict):
        raise problems.invalid_fields(invalid)
    if platform.behaviour.version_substitution:
        version = model.latest_version
    record = platform.start(model, version, order_from(body, _lifetime(request), deployment))
    return await _reply_to_create(request, record)


async def _reply_to_create(request: Request, record: Record) -> Response:
    platform = platform_of(request)
    wait = parse_wait(request.headers.get("prefer", ""))
    if wait is None:
        body = platform.writer.live(record, state_at(record, record.created_at))
        return JSONResponse(body, platform.behaviour.pending_create_status)
    end = record.created_at + wait
    await platform.clock.sleep_until(
        lambda: min(ending_of(record).completed_at, end), real_limit=wait
    )
    state = state_at(record, platform.clock.now())
    return JSONResponse(
        platform.writer.waited(record, state),
        201 if state.is_terminal else platform.behaviour.pending_create_status,
        headers={"preference-applied": f"wait={wait:g}"},
    )


def _lifetime(request: Request) -> float | None:
    asked = request.headers.get("cancel-after")
    if asked is None:
        return None
    try:
        return parse_lifetime(asked)
    except ValueError as exc:
        invalid = InvalidField("invalid_header", "Cancel-After", str(exc))
        raise problems.invalid_fields([invalid]) from exc


def _moment(request: Request, name: str) -> float | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as exc:
        raise problems.bad_request(f"{name} is not an ISO 8601 date-time: {text!r}") from exc


def _find_record(request: Request) -> Record:
    record = platform_of(request).history.find(request.path_params["prediction_id"])
    if record is None:
        raise problems.not_found()
    return record


routes = [
    Route("/v1/predictions", create_from_version, methods=["POST"]),
    Route("/v1/predictions", list_predictions),
    Route("/v1/predictions/{prediction_id}", get_prediction),
    Route("/v1/predictions/{prediction_id}/cancel", cancel_prediction, methods=["POST"]),
    Route("/v1/models/{owner}/{name}/predictions", create_from_model, methods=["POST"]),
    Route("/v1/deployments/{owner}/{name}/predictions", create_from_deployment, methods=["POST"]),
]
