"""Uploading, describing, deleting and downloading files."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from prefect_replicate.emulator import problems
from prefect_replicate.emulator.api.replies import paged, parsed
from prefect_replicate.emulator.platform import Platform, platform_of
from prefect_replicate.emulator.problems import InvalidField
from prefect_replicate.emulator.uploads import SIZE_LIMIT, Upload, sign_download

_NAME_LIMIT = 255
# More than the other parts of a multipart body need: a larger body isn't parsed.
_ENVELOPE = 1_000_000
_ANY_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class _Parts:
    name: str
    content_type: str
    content: bytes
    metadata: dict[str, Any]


async def create_file(request: Request) -> Response:
    """Store the file of a multipart body."""
    if int(request.headers.get("content-length", "0")) > SIZE_LIMIT + _ENVELOPE:
        raise problems.too_large()
    platform = platform_of(request)
    async with request.form() as form:
        parts = await _read_parts(form)
    upload = platform.uploads.add(
        parts.name, parts.content_type, parts.content, parts.metadata, platform.clock.now()
    )
    return JSONResponse(_write(platform, upload), 201)


async def list_files(request: Request) -> Response:
    """List the files that have not expired, newest first."""
    platform = platform_of(request)
    files = platform.uploads.live(platform.clock.now(), platform.behaviour.file_lifetime)
    return paged(request, files, lambda one: one.id, lambda one: _write(platform, one))


async def get_file(request: Request) -> Response:
    """Describe a file."""
    return JSONResponse(_write(platform_of(request), _find(request)))


async def delete_file(request: Request) -> Response:
    """Delete a file; the empty reply was recorded with this content type."""
    platform_of(request).uploads.remove(_find(request).id)
    return PlainTextResponse("", 204)


async def download_file(request: Request) -> Response:
    """Return a file's bytes to the bearer of a signed URL."""
    upload = _find(request)
    if not _is_signed(request, upload):
        raise problems.not_found("File not found")
    return Response(upload.content, media_type=_ANY_TYPE)


async def _read_parts(form: FormData) -> _Parts:
    content = form.get("content")
    if content is None:
        raise problems.invalid_fields([InvalidField("required", "", "content is required")])
    if isinstance(content, UploadFile) and (content.size or 0) > SIZE_LIMIT:
        raise problems.too_large()
    data = content.encode() if isinstance(content, str) else await content.read()
    name = await _text(form, "filename") or getattr(content, "filename", None) or "file"
    if len(name.encode()) > _NAME_LIMIT:
        raise problems.bad_request(f"filename is longer than {_NAME_LIMIT} bytes")
    return _Parts(name, await _content_type(form, name), data, await _metadata(form))


async def _content_type(form: FormData, name: str) -> str:
    content = form["content"]
    sent = content.content_type if isinstance(content, UploadFile) else None
    return await _text(form, "type") or sent or mimetypes.guess_type(name)[0] or _ANY_TYPE


async def _metadata(form: FormData) -> dict[str, Any]:
    metadata = parsed(await _text(form, "metadata") or "{}", "metadata")
    if not isinstance(metadata, dict):
        raise problems.bad_request("metadata is not a JSON object")
    return metadata  # pyright: ignore[reportUnknownVariableType] the keys of JSON objects are strings


async def _text(form: FormData, name: str) -> str | None:
    part = form.get(name)
    return (await part.read()).decode() if isinstance(part, UploadFile) else part


def _find(request: Request) -> Upload:
    platform = platform_of(request)
    upload = platform.uploads.find(
        request.path_params["file_id"], platform.clock.now(), platform.behaviour.file_lifetime
    )
    if upload is None:
        raise problems.not_found("File not found")
    return upload


def _write(platform: Platform, upload: Upload) -> dict[str, Any]:
    return upload.body(platform.base_url, platform.behaviour.file_lifetime)


def _is_signed(request: Request, upload: Upload) -> bool:
    query, platform = request.query_params, platform_of(request)
    owner, expiry = query.get("owner", ""), query.get("expiry", "")
    if not expiry.isdigit() or int(expiry) < platform.clock.now():
        return False
    expected = sign_download(platform.signing_secret, owner, upload.id, int(expiry))
    return query.get("signature") == expected


routes = [
    Route("/v1/files", create_file, methods=["POST"]),
    Route("/v1/files", list_files),
    Route("/v1/files/{file_id}", get_file),
    Route("/v1/files/{file_id}", delete_file, methods=["DELETE"]),
    Route("/v1/files/{file_id}/download", download_file),
]
