"""Collections of models, and the search over models and collections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_replicate.emulator import problems
from prefect_replicate.emulator.api.models import write_model
from prefect_replicate.emulator.api.replies import paged
from prefect_replicate.emulator.models.catalogue import Collection
from prefect_replicate.emulator.platform import platform_of

T = TypeVar("T")
_LIMIT, _HIGHEST_LIMIT = 20, 50


async def list_collections(request: Request) -> Response:
    """List the collections, without their models."""
    collections = platform_of(request).catalogue.collections
    return paged(request, collections, lambda one: one.slug, _write_collection)


async def get_collection(request: Request) -> Response:
    """Describe a collection and its models."""
    catalogue, slug = platform_of(request).catalogue, request.path_params["slug"]
    found = next((one for one in catalogue.collections if one.slug == slug), None)
    if found is None:
        raise problems.not_found()
    models = [write_model(one) for one in catalogue.models if one.full_name in found.models]
    return JSONResponse({**_write_collection(found), "full_description": None, "models": models})


async def search(request: Request) -> Response:
    """Find the models and collections with any of the words, those with the most first."""
    words = (query := request.query_params.get("query", "")).lower().split()
    if not words:
        return _refusal('Query parameter "query" is required')
    limit = request.query_params.get("limit", str(_LIMIT))
    if not limit.isdecimal() or not 1 <= int(limit) <= _HIGHEST_LIMIT:
        return _refusal(f'Query parameter "limit" must be from 1 to {_HIGHEST_LIMIT}')
    catalogue = platform_of(request).catalogue
    models = _found(catalogue.models, lambda one: f"{one.full_name} {one.description}", words)
    collections = _found(catalogue.collections, lambda one: f"{one.name} {one.description}", words)
    return JSONResponse(
        {
            "query": query,
            "models": [
                {"model": write_model(one), "metadata": {"score": score, "tags": []}}
                for score, one in models[: int(limit)]
            ],
            "collections": [
                {**_write_collection(one), "models": one.models} for _, one in collections
            ],
            "pages": [],
        }
    )


def _found(
    all_of_them: Sequence[T], text: Callable[[T], str], words: list[str]
) -> list[tuple[int, T]]:
    scored = ((sum(word in text(one).lower() for word in words), one) for one in all_of_them)
    return sorted(((score, one) for score, one in scored if score), key=lambda pair: -pair[0])


def _refusal(detail: str) -> Response:
    # Unlike other refusals, a search's is documented as plain JSON.
    return JSONResponse({"detail": detail}, 400)


def _write_collection(collection: Collection) -> dict[str, Any]:
    return {
        "name": collection.name,
        "slug": collection.slug,
        "description": collection.description,
    }


routes = [
    Route("/v1/collections", list_collections),
    Route("/v1/collections/{slug}", get_collection),
    Route("/v1/search", search),
]
