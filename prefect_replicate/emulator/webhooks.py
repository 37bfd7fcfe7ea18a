"""Webhooks: when they are due, how they are signed, and their delivery."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import httpx
from standardwebhooks import Webhook

from prefect_replicate.emulator.behaviour import Behaviour
from prefect_replicate.emulator.clock import Clock
from prefect_replicate.emulator.predictions import (
    Record,
    WebhookEvent,
    ending_of,
    state_at,
)
from prefect_replicate.emulator.serialise import Writer

_DEFAULT_EVENTS: tuple[WebhookEvent, ...] = ("output", "completed")
_THROTTLED: tuple[WebhookEvent, ...] = ("output", "logs")
_THROTTLE = 0.5
# The last attempt comes about a minute after completion.
_RETRY_DELAYS = (1, 2, 4, 8, 16, 32)
_PATIENCE = 5.0


@dataclass(frozen=True)
class Due:
    """A webhook to send, and when."""

    at: float
    event: WebhookEvent


@dataclass(frozen=True)
class Delivery:
    """One attempt to send a webhook; `status` is `None` if nobody answered."""

    prediction_id: str
    webhook_id: str
    event: WebhookEvent
    url: str
    time: float
    status: int | None


def schedule(record: Record) -> list[Due]:
    """Return the webhooks of a prediction, if nobody interferes with it from now on.

    A cancel changes only webhooks that are still to come.
    """
    wanted = record.webhook_events
    events = _DEFAULT_EVENTS if wanted is None else wanted
    return list(_throttled(due for due in _all_events(record) if due.event in events))


def payload(record: Record, due: Due, writer: Writer) -> Mapping[str, Any]:
    """Return the body of a webhook: the prediction as GET showed it at that moment."""
    state = state_at(record, due.at)
    if due.event == "output" and state.status == "succeeded":
        return writer.with_output(record, state)
    return writer.polled(record, state)


def signed_headers(secret: str, webhook_id: str, body: str) -> dict[str, str]:
    """Return the headers that let a receiver verify that a webhook is genuine."""
    # Receivers compare with their own clock, not with the emulator's.
    now = datetime.now(timezone.utc)
    return {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(webhook_id, now, body),
    }


class Courier:
    """Delivers webhooks. Only predictions that have one need a task."""

    def __init__(
        self,
        clock: Clock,
        writer: Callable[[], Writer],
        behaviour: Callable[[], Behaviour],
        secret: str,
    ) -> None:
        self._clock = clock
        self._writer = writer
        self._behaviour = behaviour
        self._secret = secret
        self._tasks: set[asyncio.Task[None]] = set()
        self._deliveries: list[Delivery] = []

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """All attempts so far, in order."""
        return tuple(self._deliveries)

    def follow(self, record: Record) -> None:
        """Send the webhooks of `record` as they become due."""
        if record.webhook is not None:
            task = asyncio.get_running_loop().create_task(self._follow(record, record.webhook))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def clear(self) -> None:
        """Send nothing more, and forget what was sent."""
        for task in self._tasks:
            task.cancel()
        self._deliveries.clear()

    async def _follow(self, record: Record, url: str) -> None:
        sent = 0
        async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
            while due := await self._next(record, sent):
                await self._send(client, record, url, due)
                sent += 1

    async def _next(self, record: Record, sent: int) -> Due | None:
        def moment() -> float:
            rest = schedule(record)[sent:]
            return rest[0].at if rest else 0.0

        await self._clock.sleep_until(moment)
        return next(iter(schedule(record)[sent:]), None)

    async def _send(self, client: httpx.AsyncClient, record: Record, url: str, due: Due) -> None:
        webhook_id = f"msg_{uuid.uuid4().hex}"
        body = json.dumps(payload(record, due, self._writer()))

        async def attempt() -> bool:
            status = await _post(client, url, body, signed_headers(self._secret, webhook_id, body))
            self._deliveries.append(
                Delivery(record.id, webhook_id, due.event, url, self._clock.now(), status)
            )
            return status is not None and 200 <= status < 300

        arrived = await attempt()
        if self._behaviour().duplicate_webhooks:
            await attempt()
        if due.event == "completed" and not arrived:
            await self._retry(attempt)

    async def _retry(self, attempt: Callable[[], Any]) -> None:
        for delay in _RETRY_DELAYS:
            moment = self._clock.now() + delay
            await self._clock.sleep_until(lambda moment=moment: moment)
            if await attempt():
                return


async def _post(
    client: httpx.AsyncClient, url: str, body: str, headers: Mapping[str, str]
) -> int | None:
    try:
        return (await client.post(url, content=body, headers=headers)).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        return None


def _all_events(record: Record) -> Iterator[Due]:
    ending = ending_of(record)
    started = record.created_at + record.plan.queue
    if ending.started_at == started:
        yield Due(started, "start")
        lines = dict.fromkeys(started + line.at for line in record.plan.logs)
        due = [Due(at, "logs") for at in lines]
        due += [Due(started + at, "output") for at in record.plan.arrivals]
        due.sort(key=lambda one: one.at)
        yield from (one for one in due if one.at <= ending.completed_at)
    if ending.status == "succeeded" and record.plan.output is not None:
        yield Due(ending.completed_at, "output")
    yield Due(ending.completed_at, "completed")


def _throttled(events: Iterator[Due]) -> Iterator[Due]:
    last: dict[WebhookEvent, float] = {}
    for due in events:
        if due.event in _THROTTLED:
            if due.at - last.get(due.event, float("-inf")) < _THROTTLE:
                continue
            last[due.event] = due.at
        yield due
