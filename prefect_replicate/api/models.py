"""The route for a model's predictions, and the schema of its input."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from pydantic import BaseModel

from prefect_replicate.api.connection import Connection
from prefect_replicate.api.replies import parsed
from prefect_replicate.engine import process_state
from prefect_replicate.exceptions import (
    APIError,
    APIUnreachableError,
    InvalidInputError,
    ReplicateError,
)
from prefect_replicate.values import ModelReference, Prediction
from prefect_replicate.values.model_schema import ModelSchema
from prefect_replicate.values.output import OutputSchema

_FRESH_SECONDS = 300.0
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedModel:
    """A model reference, with what the API says about it."""

    reference: ModelReference
    create_path: str
    version: str | None
    """The body's `version`; `None` on routes that have none."""
    openapi_schema: dict[str, Any] | None
    """Cog's document for the version, if the API returns one."""

    @cached_property
    def schema(self) -> ModelSchema:
        """Its input and output; parsed once, since parsing costs more than checking an input."""
        return ModelSchema.from_openapi(self.openapi_schema)


class _Known(dict[Any, tuple[float, "asyncio.Task[ResolvedModel] | None"]]):
    """Replies and when they were requested, by account and reference."""


class _Version(BaseModel):
    id: str | None = None
    openapi_schema: Any = None

    @property
    def schema_document(self) -> dict[str, Any] | None:
        document = self.openapi_schema
        return cast("dict[str, Any]", document) if isinstance(document, dict) else None


class _Model(BaseModel):
    is_official: bool | None = None
    latest_version: _Version | None = None


class _Release(BaseModel):
    model: str | None = None
    version: str | None = None


class _Deployment(BaseModel):
    current_release: _Release | None = None


async def resolve_model(connection: Connection, model: str) -> ResolvedModel:
    """Find a model's route and schema; the reply is cached for five minutes.

    Raises:
        InvalidInputError: The reference has no accepted form, or there is no such model.
    """
    reference = ModelReference.parse(model)
    known = process_state("models", _Known)
    key = (connection.address, reference)
    asked_at, answer = known.get(key, (float("-inf"), None))
    if answer is None or time.monotonic() - asked_at > _FRESH_SECONDS or _has_failed(answer):
        answer = asyncio.create_task(_look_up(connection, reference))
        known[key] = (time.monotonic(), answer)
    return await asyncio.shield(answer)  # other callers wait for the same answer


async def output_schema_of(connection: Connection, prediction: Prediction) -> OutputSchema | None:
    """Return the output schema of a prediction's model; `None` if unreadable. Never raises."""
    with suppress(ReplicateError):
        model = await resolve_model(connection, prediction.model or prediction.version or "")
        if model.version not in (None, prediction.version) and prediction.model:
            versioned = f"{prediction.model}:{prediction.version}"
            model = await resolve_model(connection, versioned)
        return model.schema.output
    return None


def _has_failed(answer: asyncio.Task[Any]) -> bool:
    return answer.done() and (answer.cancelled() or answer.exception() is not None)


async def _look_up(connection: Connection, reference: ModelReference) -> ResolvedModel:
    try:
        if reference.is_deployment:
            return await _deployment(connection, reference)
        if reference.full_name is None:
            # No route reads a version without its model's name.
            return ResolvedModel(reference, "/v1/predictions", reference.version, None)
        if reference.version is not None:
            return await _version(connection, reference)
        return await _latest(connection, reference)
    except APIUnreachableError as exc:
        raise APIUnreachableError(f"{exc}. Nothing more was paid.", exc.status) from exc
    except APIError as exc:
        if exc.status != 404:
            raise
        raise InvalidInputError(
            f"{_kind(reference).capitalize()} {str(reference)!r} was not found, or this account"
            " can't use it. Check the spelling. Nothing was sent."
        ) from exc


def _kind(reference: ModelReference) -> str:
    if reference.is_deployment:
        return "deployment"
    return "model version" if reference.version else "model"


async def _deployment(connection: Connection, reference: ModelReference) -> ResolvedModel:
    path = f"/v1/deployments/{reference.full_name}"
    release = parsed(_Deployment, await connection.read("GET", path)).current_release
    schema = None
    if release is not None and release.model and release.version:
        schema = await _schema_of(connection, release.model, release.version)
    return ResolvedModel(reference, f"{path}/predictions", None, schema)


async def _version(connection: Connection, reference: ModelReference) -> ResolvedModel:
    assert reference.full_name is not None
    assert reference.version is not None
    schema = await _schema_of(connection, reference.full_name, reference.version)
    return ResolvedModel(reference, "/v1/predictions", reference.version, schema)


async def _schema_of(connection: Connection, model: str, version: str) -> dict[str, Any] | None:
    """Return a version's schema; `None` if its page is hidden, although it may be runnable."""
    try:
        reply = await connection.read("GET", f"/v1/models/{model}/versions/{version}")
    except APIError as exc:
        if not exc.is_refusal:
            raise
        _warn_of_no_check(f"{model}:{version}", exc)
        return None
    return parsed(_Version, reply).schema_document


def _warn_of_no_check(what: object, why: object) -> None:
    message = "The schema of %s can't be read, so its input is sent unchecked: %s"
    _logger.warning(message, what, why)


async def _latest(connection: Connection, reference: ModelReference) -> ResolvedModel:
    path = f"/v1/models/{reference.full_name}"
    model = parsed(_Model, await connection.read("GET", path))
    latest = model.latest_version
    if model.is_official:
        schema = latest.schema_document if latest else None
        return ResolvedModel(reference, f"{path}/predictions", None, schema)
    if latest is None or latest.id is None:
        # Official models show no version, and not every page says that its model is official.
        _warn_of_no_check(reference, "its page names no version")
        return ResolvedModel(reference, "/v1/predictions", reference.full_name, None)
    return ResolvedModel(reference, "/v1/predictions", latest.id, latest.schema_document)
