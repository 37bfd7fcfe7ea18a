"""The state of one emulator: the account, what it ran and uploaded, and how it behaves."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from starlette.requests import Request

from prefect_replicate.emulator.behaviour import Behaviour
from prefect_replicate.emulator.clock import Clock
from prefect_replicate.emulator.faults import FaultPlan
from prefect_replicate.emulator.frames import first_frame
from prefect_replicate.emulator.history import History
from prefect_replicate.emulator.limits import Meter
from prefect_replicate.emulator.models.catalogue import Catalogue, default_catalogue
from prefect_replicate.emulator.models.cog import defaults
from prefect_replicate.emulator.models.cog import secrets as secrets_of
from prefect_replicate.emulator.models.model import Job, Model, Version
from prefect_replicate.emulator.orders import Order
from prefect_replicate.emulator.plans import Plan
from prefect_replicate.emulator.predictions import Record
from prefect_replicate.emulator.serialise import Writer
from prefect_replicate.emulator.traffic import Traffic
from prefect_replicate.emulator.uploads import Uploads
from prefect_replicate.emulator.webhooks import Courier

DEFAULT_TOKEN = "r8_emulator00000000000000000000000000000"
WEBHOOK_SECRET = "whsec_ZW11bGF0b3Itd2ViaG9vay1zZWNyZXQtMzItYnl0ZXM="
USERNAME = "acme"
_ID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"


@dataclass
class Platform:
    """Everything that requests read and change.

    Args:
        base_url: Origin of the API, without `/v1`.
        files_url: Origin of the file host.
    """

    base_url: str
    files_url: str
    tokens: frozenset[str]
    clock: Clock
    behaviour: Behaviour
    catalogue: Catalogue = field(default_factory=default_catalogue)
    faults: FaultPlan = field(default_factory=FaultPlan)
    traffic: Traffic = field(default_factory=Traffic)
    uploads: Uploads = field(default_factory=Uploads)
    meter: Meter = field(default_factory=Meter)
    signing_secret: bytes = b"emulator-files-api-signing-secret"
    history: History = field(init=False)
    courier: Courier = field(init=False)

    def __post_init__(self) -> None:
        self._first = self.behaviour, self.clock.speed, self.catalogue
        self.history = History(self.clock.now, lambda: self.writer)
        self.courier = Courier(
            self.clock, lambda: self.writer, lambda: self.behaviour, WEBHOOK_SECRET
        )

    @property
    def writer(self) -> Writer:
        """The writer of predictions under the current `behaviour`."""
        return Writer(self.base_url, self.files_url, self.behaviour)

    def reset(self) -> None:
        """Forget everything that happened, and behave as at the start."""
        self.behaviour, speed, self.catalogue = self._first
        self.clock.reset(speed)
        self.courier.clear()
        for part in (self.history, self.faults, self.traffic, self.uploads, self.meter):
            part.clear()

    def add_model(self, model: Model) -> None:
        """Offer `model` until the next `reset`."""
        self.catalogue = self.catalogue.with_model(model)

    def start(self, model: Model, version: Version, order: Order) -> Record:
        """Create a prediction."""
        record = Record(
            id="".join(secrets.choice(_ID_LETTERS) for _ in range(26)),
            model=model.full_name,
            version="hidden" if model.is_official else version.id,
            input=order.input,
            plan=self._plan(model, version, order.input),
            created_at=(now := self.clock.now()),
            deployment=order.deployment,
            deadline=None if order.lifetime is None else now + order.lifetime,
            webhook=order.webhook,
            webhook_events=order.webhook_events,
            secrets=secrets_of(version.openapi_schema),
        )
        self.history.add(record)
        self.courier.follow(record)
        return record

    def _plan(self, model: Model, version: Version, asked: Mapping[str, Any]) -> Plan:
        filled = {**defaults(version.openapi_schema), **_with_integers(asked)}
        image = filled.get(model.image_input) if model.image_input else None
        lifetime = self.behaviour.file_lifetime
        job = Job(
            model=model.full_name,
            input=filled,
            seed=_seed(model.full_name, filled),
            factor=self.behaviour.duration_factor,
            image=first_frame(image, self.uploads, self.clock.now(), lifetime),
        )
        return model.planner(job)


def platform_of(request: Request) -> Platform:
    """Return the platform that serves `request`."""
    return cast("Platform", request.app.state.platform)


def _with_integers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Read `7.0` as 7, since JSON Schema counts it as an integer, too."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in values.items()
    }


def _seed(model: str, values: Mapping[str, Any]) -> int:
    text = f"{model} {json.dumps(values, sort_keys=True)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
