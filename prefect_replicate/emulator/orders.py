"""What a create asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from prefect_replicate.emulator.predictions import WebhookEvent


@dataclass(frozen=True)
class Order:
    """What a valid create asks for."""

    input: Mapping[str, Any]
    lifetime: float | None = None
    deployment: str | None = None
    webhook: str | None = None
    webhook_events: tuple[WebhookEvent, ...] | None = None


def order_from(body: Mapping[str, Any], lifetime: float | None, deployment: str | None) -> Order:
    """Return what the body of a create asks for."""
    events = cast("Sequence[WebhookEvent] | None", body.get("webhook_events_filter"))
    return Order(
        input=body["input"],
        lifetime=lifetime,
        deployment=deployment,
        webhook=body.get("webhook"),
        webhook_events=None if events is None else tuple(events),
    )
