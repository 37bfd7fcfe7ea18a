"""What can be seen of a flow run from outside, as it happens."""

from __future__ import annotations

import threading
from collections.abc import Collection
from uuid import UUID

from prefect.client.schemas.objects import FlowRunInput

from benchmarks.chaos.place import Place
from benchmarks.chaos.plan import Event
from benchmarks.chaos.processes import engines_of
from prefect_replicate.emulator.history import Snapshot
from prefect_replicate.emulator.traffic import Request


class Witness:
    """Tells whether an event has come, for all runs of a place."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._creates: list[Request] = []
        self._seen = 0

    def saw(self, event: Event, flow_run_id: UUID, prompts: Collection[str]) -> bool:
        """Whether an event has come in the course of a run."""
        match event:
            case "process":
                return bool(engines_of(flow_run_id))
            case "intent":
                return bool(self._place.facts(flow_run_id))
            case "create":
                return any(self.has_create(prompt) for prompt in prompts)
            case "processing" | "succeeded":
                return any(one.status == event for one in self.predictions_of(prompts))

    def has_create(self, prompt: str) -> bool:
        """Whether a create with this prompt has reached Replicate."""
        sent = f'"{prompt}"'.encode()
        with self._lock:
            requests = self._place.emulator.requests
            while self._seen < len(requests):
                self._creates += filter(is_create, [requests[self._seen]])
                self._seen += 1
            # A body is read when the request is processed, which may be later.
            return any(sent in create.body for create in self._creates)

    def predictions_of(self, prompts: Collection[str]) -> list[Snapshot]:
        """The predictions with one of these prompts."""
        history = self._place.emulator.predictions
        # A snapshot is costly, and there are hundreds of predictions of other runs.
        ids = [one.id for one in history.records() if one.input["prompt"] in prompts]
        return [history[prediction_id] for prediction_id in ids]

    def facts_of(self, flow_run_id: UUID) -> list[FlowRunInput]:
        """What a run and its subflows have written down."""
        return self._place.facts(flow_run_id)


def is_create(request: Request) -> bool:
    """Whether a request is a paid one."""
    return request.method == "POST" and request.path.endswith("/predictions")
