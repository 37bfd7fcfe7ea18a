"""`urls.stream`: a prediction as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from prefect_replicate.emulator.outputs import written_output
from prefect_replicate.emulator.platform import Platform, platform_of
from prefect_replicate.emulator.predictions import (
    Record,
    State,
    ending_of,
    logs_at,
    output_at,
    state_at,
)

_REASONS = {"failed": "error", "canceled": "canceled", "aborted": "canceled"}


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    name: Literal["output", "logs", "error", "done"]
    data: str


async def get_stream(request: Request) -> Response:
    """Send logs and output as they grow, then the rest of the output, then `done`."""
    platform = platform_of(request)
    record = platform.history.find(request.path_params["prediction_id"])
    if record is None:
        return PlainTextResponse("Not found\n", 404)
    headers = {"cache-control": "no-store", "access-control-allow-origin": "*"}
    return StreamingResponse(
        _numbered(_events(platform, record)), headers=headers, media_type="text/event-stream"
    )


async def _numbered(events: AsyncIterator[Event]) -> AsyncIterator[str]:
    # The official client drops events without an id.
    number = 0
    async for event in events:
        number += 1
        data = "".join(f"data: {line}\n" for line in event.data.split("\n"))
        yield f"event: {event.name}\nid: {number}\n{data}\n"


async def _events(platform: Platform, record: Record) -> AsyncIterator[Event]:
    printed, sent = "", 0
    started = record.created_at + record.plan.queue
    moments = {*(line.at for line in record.plan.logs), *record.plan.arrivals}
    for moment in [*(started + at for at in sorted(moments)), float("inf")]:
        state = await _state_after(platform, record, moment)
        logs = logs_at(record, state)
        if logs != printed:
            yield Event("logs", logs[len(printed) :])
            printed = logs
        output = written_output(record, output_at(record, state), platform.files_url)
        texts = _texts(output)
        for text in texts[sent:]:
            yield Event("output", text)
        sent = len(texts)
    for event in _last_events(record, state_at(record, platform.clock.now())):
        yield event


async def _state_after(platform: Platform, record: Record, moment: float) -> State:
    await platform.clock.sleep_until(lambda: min(moment, ending_of(record).completed_at))
    return state_at(record, platform.clock.now())


def _texts(output: Any) -> list[str]:
    if output is None:
        return []
    parts = cast("list[Any]", output) if isinstance(output, list) else [output]
    return [part if isinstance(part, str) else json.dumps(part) for part in parts]


def _last_events(record: Record, state: State) -> list[Event]:
    if state.status == "succeeded":
        return [Event("done", "{}")]
    closing = Event("done", json.dumps({"reason": _REASONS[state.status]}))
    if state.status == "failed":
        return [Event("error", json.dumps({"detail": record.plan.error})), closing]
    return [closing]
