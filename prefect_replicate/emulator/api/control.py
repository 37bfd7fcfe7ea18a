"""The emulator's own routes, for tests in other processes. They need no token.

| request | does |
|---|---|
| `GET /_emulator` | lists addresses, models, deployments and routes |
| `GET /_emulator/predictions?live=true` | lists predictions; with `live`, only running ones |
| `GET /_emulator/requests` | lists requests; counts those at the file host with Authorization |
| `GET /_emulator/webhooks` | lists attempts to deliver webhooks |
| `GET`, `POST`, `DELETE /_emulator/faults` | lists pending faults; adds one; removes all |
| `POST /_emulator/faults/random` | `{"rates": {"reset": 0.1}, "seed": 1}` and options of `Fault` |
| `GET`, `POST /_emulator/clock` | returns the time; `{"speed": 60}` |
| `POST /_emulator/clock/advance` | `{"seconds": 3600}` |
| `GET`, `PATCH /_emulator/behaviour` | returns the switches; changes some |
| `POST /_emulator/models` | adds a model: `{"name": "owner/name", "schema": {…}}`, other options |
| `POST /_emulator/reset` | forgets everything |

A fault is given as in Python: `{"kind": "lost_reply", "method": "POST", "path": "/predictions$"}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_replicate.emulator import problems, traffic
from prefect_replicate.emulator.api.replies import read_json
from prefect_replicate.emulator.behaviour import changed
from prefect_replicate.emulator.models.custom import custom_model
from prefect_replicate.emulator.platform import Platform, platform_of


async def get_overview(request: Request) -> Response:
    """List the addresses, models, deployments and routes."""
    platform = platform_of(request)
    return JSONResponse(
        {
            "base_url": platform.base_url,
            "files_url": platform.files_url,
            "models": [model.full_name for model in platform.catalogue.models],
            "deployments": [one.full_name for one in platform.catalogue.deployments],
            "routes": [route.path for route in routes],
        }
    )


async def list_predictions(request: Request) -> Response:
    """List the predictions with what only the server knows."""
    history = platform_of(request).history
    found = history.live() if request.query_params.get("live") == "true" else list(history)
    return JSONResponse(
        {
            "create_requests": history.create_requests,
            "cancel_requests": history.cancel_requests,
            "predictions": [asdict(one) for one in found],
        }
    )


async def list_requests(request: Request) -> Response:
    """List the requests, without the values of headers, which hold tokens."""
    received = platform_of(request).traffic
    return JSONResponse(
        {
            "file_authorizations": len(received.file_authorizations),
            "requests": [_write_request(one) for one in received],
        }
    )


async def list_webhooks(request: Request) -> Response:
    """List the attempts to deliver webhooks."""
    return JSONResponse([asdict(one) for one in platform_of(request).courier.deliveries])


async def list_faults(request: Request) -> Response:
    """List the faults that can still affect requests."""
    return JSONResponse([asdict(fault) for fault in platform_of(request).faults.pending])


async def add_fault(request: Request) -> Response:
    """Add a fault."""
    options = await _read_object(request)
    try:
        fault = platform_of(request).faults.add(options.pop("kind", "(none)"), **options)
    except ValueError as exc:
        raise problems.bad_request(str(exc)) from exc
    return JSONResponse(asdict(fault), 201)


async def add_random_faults(request: Request) -> Response:
    """Add faults that happen at random."""
    options = await _read_object(request)
    rates, seed = options.pop("rates", {}), options.pop("seed", 0)
    try:
        platform_of(request).faults.add_random(rates, seed, **options)
    except ValueError as exc:
        raise problems.bad_request(str(exc)) from exc
    return await list_faults(request)


async def clear_faults(request: Request) -> Response:
    """Remove all faults."""
    platform_of(request).faults.clear()
    return Response(status_code=204)


async def get_clock(request: Request) -> Response:
    """Return the emulator's time."""
    return _write_clock(platform_of(request))


async def set_clock(request: Request) -> Response:
    """Set how fast the time passes."""
    platform = platform_of(request)
    speed = _number(await _read_object(request), "speed")
    try:
        platform.clock.speed = speed
    except ValueError as exc:
        raise problems.bad_request(str(exc)) from exc
    return _write_clock(platform)


async def advance_clock(request: Request) -> Response:
    """Move the time forward."""
    platform = platform_of(request)
    seconds = _number(await _read_object(request), "seconds")
    try:
        platform.clock.advance(seconds)
    except ValueError as exc:
        raise problems.bad_request(str(exc)) from exc
    return _write_clock(platform)


async def get_behaviour(request: Request) -> Response:
    """Return the switches."""
    return JSONResponse(asdict(platform_of(request).behaviour))


async def change_behaviour(request: Request) -> Response:
    """Change some of the switches."""
    platform = platform_of(request)
    try:
        platform.behaviour = changed(platform.behaviour, await _read_object(request))
    except ValueError as exc:
        raise problems.bad_request(str(exc)) from exc
    return JSONResponse(asdict(platform.behaviour))


async def add_model(request: Request) -> Response:
    """Add a model by its schema."""
    options = await _read_object(request)
    try:
        model = custom_model(options.pop("name", ""), options.pop("schema", None), **options)
    except (TypeError, ValueError) as exc:
        raise problems.bad_request(str(exc)) from exc
    platform_of(request).add_model(model)
    return JSONResponse({"version": f"{model.full_name}:{model.latest_version.id}"}, 201)


async def reset(request: Request) -> Response:
    """Forget everything."""
    platform_of(request).reset()
    return Response(status_code=204)


async def _read_object(request: Request) -> dict[str, Any]:
    body = await read_json(request)
    if not isinstance(body, dict):
        raise problems.bad_request("the body must be a JSON object")
    return cast("dict[str, Any]", body)


def _number(body: Mapping[str, Any], name: str) -> float:
    value = body.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise problems.bad_request(f"the body must be {{{name!r}: a number}}")


def _write_clock(platform: Platform) -> Response:
    return JSONResponse({"now": platform.clock.now(), "speed": platform.clock.speed})


def _write_request(request: traffic.Request) -> dict[str, Any]:
    return {
        "host": request.host,
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": sorted(request.headers),
        "time": request.time,
        "status": request.status,
        "fault": request.fault,
    }


routes = [
    Route("/_emulator", get_overview),
    Route("/_emulator/predictions", list_predictions),
    Route("/_emulator/requests", list_requests),
    Route("/_emulator/webhooks", list_webhooks),
    Route("/_emulator/faults", list_faults),
    Route("/_emulator/faults", add_fault, methods=["POST"]),
    Route("/_emulator/faults", clear_faults, methods=["DELETE"]),
    Route("/_emulator/faults/random", add_random_faults, methods=["POST"]),
    Route("/_emulator/clock", get_clock),
    Route("/_emulator/clock", set_clock, methods=["POST"]),
    Route("/_emulator/clock/advance", advance_clock, methods=["POST"]),
    Route("/_emulator/behaviour", get_behaviour),
    Route("/_emulator/behaviour", change_behaviour, methods=["PATCH"]),
    Route("/_emulator/models", add_model, methods=["POST"]),
    Route("/_emulator/reset", reset, methods=["POST"]),
]
