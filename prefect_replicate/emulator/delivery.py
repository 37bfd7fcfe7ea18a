"""The file host: serves outputs from an origin of its own, to anyone who knows the URL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from prefect_replicate.emulator.artifacts import Artifact, Body, load
from prefect_replicate.emulator.platform import Platform, platform_of
from prefect_replicate.emulator.predictions import state_at
from prefect_replicate.emulator.serialise import is_removed
from prefect_replicate.emulator.streams import get_stream

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def delivery_app(platform: Platform) -> Starlette:
    """Return the file host as an ASGI application."""
    app = Starlette(
        routes=[
            Route("/v1/streams/{prediction_id}", get_stream),
            Route("/{shard}/{key}/{name}", get_file),
        ]
    )
    app.state.platform = platform
    return app


async def get_file(request: Request) -> Response:
    """Serve a file, or the part of it that `Range` asks for."""
    artifact = _find_artifact(request)
    if isinstance(artifact, int):
        return PlainTextResponse("Not found\n", artifact)
    body = await load(artifact)
    headers = _headers(artifact, body)
    part = parse_range(_range_header(request, headers["etag"]), body.size)
    if part is None:
        return _reply(request, body, (0, body.size), 200, headers)
    if part[0] >= part[1]:
        headers["content-range"] = f"bytes */{body.size}"
        return Response(status_code=416, headers=headers)
    headers["content-range"] = f"bytes {part[0]}-{part[1] - 1}/{body.size}"
    return _reply(request, body, part, 206, headers)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last; they are equal if the part is empty.

    `None` means the whole file: no header, several ranges, or another unit.
    """
    match = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if int(first) >= size:
        return size, size
    return int(first), min(int(last) + 1, size) if last else size


def _find_artifact(request: Request) -> Artifact | int:
    platform = platform_of(request)
    found = platform.history.find_file(request.path_params["key"])
    if found is None or found[1].name != request.path_params["name"]:
        return 404
    record, artifact = found
    state = state_at(record, platform.clock.now())
    if state.status != "succeeded":
        return 404
    gone = is_removed(record, state, platform.behaviour.retention)
    return platform.behaviour.gone_status if gone else artifact


def _headers(artifact: Artifact, body: Body) -> dict[str, str]:
    return {
        "content-type": artifact.media_type,
        "etag": f'"{body.etag}"',
        "accept-ranges": "bytes",
        "cache-control": "public, max-age=3600",
        "access-control-allow-origin": "*",
    }


def _range_header(request: Request, etag: str) -> str | None:
    if request.headers.get("if-range", etag) != etag:
        return None
    return request.headers.get("range")


def _reply(
    request: Request, body: Body, part: tuple[int, int], status: int, headers: dict[str, str]
) -> Response:
    headers["content-length"] = str(part[1] - part[0])
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_stream(body, *part), status, headers)


async def _stream(body: Body, start: int, stop: int) -> AsyncIterator[bytes]:
    # A plain iterator would use a thread for every block.
    for chunk in body.chunks(start, stop):
        yield chunk
