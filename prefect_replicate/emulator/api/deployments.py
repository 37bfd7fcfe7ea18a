"""Deployments, which clients can create, change and delete until the next reset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_replicate.emulator import problems
from prefect_replicate.emulator.api.models import HARDWARE, full_name
from prefect_replicate.emulator.api.replies import paged, read_json
from prefect_replicate.emulator.models.model import Deployment, Model, Version
from prefect_replicate.emulator.platform import USERNAME, platform_of
from prefect_replicate.emulator.problems import InvalidField
from prefect_replicate.emulator.timestamps import format_time
from prefect_replicate.emulator.validation import check_body

_CHANGES: dict[str, Any] = {
    "version": {"type": "string"},
    "hardware": {"type": "string", "enum": [one["sku"] for one in HARDWARE]},
    "min_instances": {"type": "integer", "minimum": 0, "maximum": 5},
    "max_instances": {"type": "integer", "minimum": 0, "maximum": 20},
}
_FIELDS: dict[str, Any] = {
    "name": {"type": "string", "pattern": r"^[\w-]+$"},
    "model": {"type": "string"},
    **_CHANGES,
}
_UPDATE = {"type": "object", "additionalProperties": False, "properties": _CHANGES}
_CREATE = {**_UPDATE, "required": list(_FIELDS), "properties": _FIELDS}
_UNUSED_SECONDS = 15 * 60


async def list_deployments(request: Request) -> Response:
    """List the account's deployments."""
    deployments = platform_of(request).catalogue.deployments
    return paged(request, deployments, lambda one: one.full_name, _write_deployment)


async def get_deployment(request: Request) -> Response:
    """Describe a deployment."""
    return JSONResponse(_write_deployment(find_deployment(request)))


async def create_deployment(request: Request) -> Response:
    """Deploy a version of a model."""
    body = await _read_body(request, _CREATE)
    catalogue = platform_of(request).catalogue
    model = catalogue.find_model(body["model"])
    if model is None:
        raise problems.not_found()
    if catalogue.find_deployment(f"{USERNAME}/{body['name']}"):
        taken = InvalidField("name", "name", "A deployment with this name already exists")
        raise problems.invalid_fields([taken])
    deployment = Deployment(USERNAME, body["name"], model)
    return _keep(request, replace(deployment, **_settings(body, model)))


async def update_deployment(request: Request) -> Response:
    """Change a deployment, which creates a new release."""
    deployment = find_deployment(request)
    body = await _read_body(request, _UPDATE)
    changes = _settings(body, deployment.model)
    return _keep(request, replace(deployment, number=deployment.number + 1, **changes))


async def delete_deployment(request: Request) -> Response:
    """Delete a deployment that has not run for a quarter of an hour."""
    platform, name = platform_of(request), find_deployment(request).full_name
    used_since = platform.history.records_between(platform.clock.now() - _UNUSED_SECONDS, None)
    if any(record.deployment == name for record in used_since):
        raise problems.bad_request("A deployment can be deleted after 15 minutes without use")
    platform.catalogue = platform.catalogue.without_deployment(name)
    return Response(status_code=204)


def find_deployment(request: Request) -> Deployment:
    """Return the deployment that the path names, or raise the 404."""
    deployment = platform_of(request).catalogue.find_deployment(full_name(request))
    if deployment is None:
        raise problems.not_found()
    return deployment


async def _read_body(request: Request, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    body = await read_json(request)
    if invalid := check_body(body, schema):
        raise problems.invalid_fields(invalid)
    return body


def _settings(body: Mapping[str, Any], model: Model) -> dict[str, Any]:
    settings = {name: body[name] for name in body if name not in ("name", "model", "version")}
    if "version" in body:
        settings["pinned"] = _version(model, body["version"])
    return settings


def _version(model: Model, version_id: str) -> Version:
    version = model.find_version(version_id)
    if version is None:
        raise problems.unknown_version()
    return version


def _keep(request: Request, deployment: Deployment) -> Response:
    platform = platform_of(request)
    platform.catalogue = platform.catalogue.with_deployment(deployment)
    return JSONResponse(_write_deployment(deployment))


def _write_deployment(deployment: Deployment) -> dict[str, Any]:
    version = deployment.version
    return {
        "owner": deployment.owner,
        "name": deployment.name,
        "current_release": {
            "number": deployment.number,
            "model": deployment.model.full_name,
            "version": version.id,
            "created_at": format_time(version.created_at),
            "created_by": {"type": "organization", "username": USERNAME, "name": "Acme Studio"},
            "configuration": {
                "hardware": deployment.hardware,
                "min_instances": deployment.min_instances,
                "max_instances": deployment.max_instances,
            },
        },
    }


routes = [
    Route("/v1/deployments", list_deployments),
    Route("/v1/deployments", create_deployment, methods=["POST"]),
    Route("/v1/deployments/{owner}/{name}", get_deployment),
    Route("/v1/deployments/{owner}/{name}", update_deployment, methods=["PATCH"]),
    Route("/v1/deployments/{owner}/{name}", delete_deployment, methods=["DELETE"]),
]
