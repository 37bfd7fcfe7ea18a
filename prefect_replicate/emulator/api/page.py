"""`urls.web`: a page for people to watch a prediction on."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from prefect_replicate.emulator import problems
from prefect_replicate.emulator.outputs import file_url, files_of
from prefect_replicate.emulator.platform import platform_of
from prefect_replicate.emulator.predictions import Record, state_at

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{id}</title>{refresh}
<style>body{{font:16px system-ui;margin:2em auto;max-width:44em}}pre{{overflow:auto}}</style></head>
<body><h1>{model}</h1><p><b>{status}</b> {id}</p>{files}
<h2>Input</h2><pre>{input}</pre><h2>Output</h2><pre>{output}</pre><h2>Logs</h2><pre>{logs}</pre>
</body></html>
"""
_TAGS = {
    "video": '<video controls autoplay loop src="{url}"></video>',
    "image": '<img src="{url}" alt="">',
    "audio": '<audio controls src="{url}"></audio>',
}


async def get_page(request: Request) -> Response:
    """Show a prediction, refreshed every second while it runs."""
    platform = platform_of(request)
    record = platform.history.find(request.path_params["prediction_id"])
    if record is None:
        raise problems.not_found()
    state = state_at(record, platform.clock.now())
    body = platform.writer.database(record, state)
    files = _files(record, platform.files_url) if state.status == "succeeded" else ""
    return HTMLResponse(_render(body, files, is_live=not state.is_terminal))


def _files(record: Record, files_url: str) -> str:
    shown = (
        (_TAGS.get(file.media_type.partition("/")[0]), file_url(files_url, key, file))
        for key, file in files_of(record).items()
    )
    return "".join(tag.format(url=html.escape(url)) for tag, url in shown if tag)


def _render(body: Mapping[str, Any], files: str, *, is_live: bool) -> str:
    return _PAGE.format(
        id=body["id"],
        model=html.escape(body.get("model", "")),
        status=body["status"],
        refresh='<meta http-equiv="refresh" content="1">' if is_live else "",
        files=files,
        input=html.escape(json.dumps(body["input"], indent=2)),
        output=html.escape(json.dumps(body["output"], indent=2)),
        logs=html.escape(body["logs"]),
    )


routes = [Route("/p/{prediction_id}", get_page)]
