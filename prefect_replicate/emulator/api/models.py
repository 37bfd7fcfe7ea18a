"""Models, their versions, trainings and hardware."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from prefect_replicate.emulator import problems
from prefect_replicate.emulator.api.replies import paged
from prefect_replicate.emulator.models.model import Model, Version
from prefect_replicate.emulator.platform import platform_of
from prefect_replicate.emulator.timestamps import format_time

_PAGE = 25
_WORD = re.compile(r"[\w.-]+")
HARDWARE = [
    {"name": "CPU", "sku": "cpu"},
    {"name": "Nvidia L40S GPU", "sku": "gpu-l40s"},
    {"name": "Nvidia H100 GPU", "sku": "gpu-h100"},
]


async def list_models(request: Request) -> Response:
    """List the public models, by default those with the newest version first."""
    sort_by = request.query_params.get("sort_by", "latest_version_created_at")
    if sort_by not in ("model_created_at", "latest_version_created_at"):
        raise problems.bad_request(f"sort_by cannot be {sort_by!r}")
    first = sort_by == "latest_version_created_at"
    models = sorted(
        platform_of(request).catalogue.models,
        key=lambda one: (one.versions[0 if first else -1].created_at, one.full_name),
        reverse=request.query_params.get("sort_direction", "desc") == "desc",
    )
    return paged(request, models, lambda one: one.full_name, write_model, _PAGE)


async def search_models(request: Request) -> Response:
    """Search the models for the words in the body, which the JavaScript client puts in quotes."""
    words = _WORD.findall((await request.body()).decode(errors="replace").lower())
    found = [
        write_model(one)
        for one in platform_of(request).catalogue.models
        if all(word in f"{one.full_name} {one.description}".lower() for word in words)
    ]
    return JSONResponse({"next": None, "previous": None, "results": found[:_PAGE]})


async def get_model(request: Request) -> Response:
    """Describe a model."""
    return JSONResponse(write_model(find_model(request)))


async def get_readme(request: Request) -> Response:
    """Return a model's readme."""
    model = find_model(request)
    return PlainTextResponse(f"# {model.full_name}\n\n{model.description}\n")


async def list_examples(request: Request) -> Response:
    """List a model's examples, of which the emulator has none."""
    find_model(request)
    return JSONResponse({"next": None, "previous": None, "results": []})


async def list_versions(request: Request) -> Response:
    """List a model's versions, newest first."""
    return paged(request, find_model(request).versions, lambda one: one.id, write_version)


async def get_version(request: Request) -> Response:
    """Describe a version."""
    version = find_model(request).find_version(request.path_params["version_id"])
    if version is None or platform_of(request).behaviour.hidden_versions:
        raise problems.not_found()
    return JSONResponse(write_version(version))


async def list_hardware(request: Request) -> Response:
    """List the hardware, as a bare array."""
    return JSONResponse(HARDWARE)


async def list_trainings(request: Request) -> Response:
    """List the account's trainings, of which the emulator has none."""
    return JSONResponse({"next": None, "previous": None, "results": []})


async def get_training(request: Request) -> Response:
    """Describe or cancel a training, of which the emulator has none."""
    raise problems.not_found()


async def refuse_training(request: Request) -> Response:
    """Refuse to train."""
    raise problems.left_out("trainings")


async def refuse_change(request: Request) -> Response:
    """Refuse to create, change or delete a model or a version."""
    raise problems.left_out("route to change models; add them with Emulator.add_model or --schema")


def find_model(request: Request) -> Model:
    """Return the model that the path names, or raise the 404."""
    model = platform_of(request).catalogue.find_model(full_name(request))
    if model is None:
        raise problems.not_found()
    return model


def write_model(model: Model) -> dict[str, Any]:
    """Return a model as the API describes it."""
    return {
        "url": f"https://replicate.com/{model.full_name}",
        "owner": model.owner,
        "name": model.name,
        "description": model.description,
        "visibility": "public",
        "is_official": model.is_official,
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": model.run_count,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": write_version(model.latest_version),
    }


def write_version(version: Version) -> dict[str, Any]:
    """Return a version as the API describes it."""
    return {
        "id": version.id,
        "created_at": format_time(version.created_at),
        "cog_version": version.cog_version,
        "openapi_schema": version.openapi_schema,
    }


def full_name(request: Request) -> str:
    """Return the `owner/name` that the path names."""
    return f"{request.path_params['owner']}/{request.path_params['name']}"


routes = [
    Route("/v1/hardware", list_hardware),
    Route("/v1/models", list_models),
    Route("/v1/models", search_models, methods=["QUERY"]),
    Route("/v1/models", refuse_change, methods=["POST"]),
    Route("/v1/models/{owner}/{name}", get_model),
    Route("/v1/models/{owner}/{name}", refuse_change, methods=["PATCH", "DELETE"]),
    Route("/v1/models/{owner}/{name}/readme", get_readme),
    Route("/v1/models/{owner}/{name}/examples", list_examples),
    Route("/v1/models/{owner}/{name}/versions", list_versions),
    Route("/v1/models/{owner}/{name}/versions/{version_id}", get_version),
    Route("/v1/models/{owner}/{name}/versions/{version_id}", refuse_change, methods=["DELETE"]),
    Route(
        "/v1/models/{owner}/{name}/versions/{version_id}/trainings",
        refuse_training,
        methods=["POST"],
    ),
    Route("/v1/trainings", list_trainings),
    Route("/v1/trainings/{training_id}", get_training),
    Route("/v1/trainings/{training_id}/cancel", get_training, methods=["POST"]),
]
