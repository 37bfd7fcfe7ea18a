"""The Prefect events of predictions and their files, for automations to act on.

An event is built from values alone. Putting it into the queue of Prefect's own worker takes 0.1 ms;
a server that is down or refuses it does not affect the prediction.
"""

from __future__ import annotations

import math
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.assets import Asset
from prefect.assets.core import AssetProperties
from prefect.context import AssetContext, FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from prefect_replicate.engine import Recent, process_state
from prefect_replicate.ledger.facts import Origin
from prefect_replicate.ledger.scope import RunScope, known_flow_runs
from prefect_replicate.ledger.timings import EVENT_PREFIX, Timing, timed_model
from prefect_replicate.text import in_line
from prefect_replicate.values import OutputFile, Prediction
from prefect_replicate.values.expectation import Expectation

STORED = "prefect.asset.materialization.succeeded"
"""The event that Prefect itself emits for an asset."""

MAKER = "replicate"
_PROMPT_LENGTH = 200
_MOST_METRICS = 20


@dataclass(frozen=True)
class Around:
    """The runs that an event is related to."""

    flow_runs: tuple[UUID, ...] = ()
    """The flow run and those around it, innermost first."""
    task_run: UUID | None = None
    deployment: UUID | None = None

    @classmethod
    def of(cls, scope: RunScope, origin: Origin | None = None) -> Around:
        """Return the runs that a prediction belongs to: those that started it, if known.

        Args:
            scope: The runs that notice a change of it.
            origin: What the ledger says about its call.
        """
        here = known_flow_runs(scope)
        started_by = tuple([one.id for one in origin.flow_runs]) if origin else ()
        if started_by and started_by[:1] != here[:1]:
            return cls(started_by)
        return cls(started_by or here, scope.task_run_id, scope.deployment_id)

    def __bool__(self) -> bool:
        return bool(self.flow_runs or self.task_run)

    def related(self) -> list[dict[str, str]]:
        """Return them as related resources; actions use the first of each kind."""
        ids = [
            *[("flow-run", one) for one in self.flow_runs[:1]],
            *[("root-flow-run", one) for one in self.flow_runs[1:][-1:]],
            ("task-run", self.task_run),
            ("deployment", self.deployment),
        ]
        return [
            _resource(f"prefect.{role.removeprefix('root-')}.{id}", role) for role, id in ids if id
        ]


@dataclass(frozen=True)
class News:
    """A Prefect event."""

    event: str
    resource: dict[str, str]
    related: list[dict[str, str]]
    payload: dict[str, Any]
    id: UUID | None = None
    """The same for the same news from any process: Prefect's server keeps it once."""


def change_of(
    prediction: Prediction,
    change: str,
    base_url: str,
    around: Around,
    expected: Expectation | None = None,
    age: float | None = None,
) -> News:
    """Build the event of a prediction's change.

    Args:
        prediction: As it is now.
        change: The last part of the event's name: `created`, a status, or `overdue`.
        base_url: The address of its API.
        around: The runs that it belongs to.
        expected: How long it was expected to take.
        age: Seconds since its creation, if it has not ended.
    """
    timing = Timing.of(prediction)
    payload = {
        **_about(prediction),
        "base_url": base_url,
        "id": prediction.id,
        "version": prediction.version,
        "status": in_line(prediction.status),
        "seconds_queued": _seconds(prediction.created_at, prediction.started_at),
        "seconds": _seconds(prediction.created_at, prediction.completed_at) or age,
        "predict_time": prediction.predict_time,
        "metrics": _numbers(prediction.metrics),
        "reason": _reason(prediction),
        "error": in_line(prediction.error) if prediction.error else None,
        **(expected.model_dump() if expected else {}),
        "workload": timing.workload if timing else None,
    }
    return News(
        event=f"{EVENT_PREFIX}{change}",
        resource=_labelled(prediction),
        related=around.related(),
        payload={name: value for name, value in payload.items() if value is not None},
        id=uuid5(NAMESPACE_URL, f"{base_url}/predictions/{prediction.id}#{change}"),
    )


def materialization_of(file: OutputFile, prediction: Prediction, around: Around) -> News:
    """Build the event of a stored file, as Prefect does for a task's assets."""
    about = _about(prediction)
    name = PurePath(file.location).name
    properties = AssetProperties(name=in_line(name), description=about.get("prompt"))
    made_from = _labelled(prediction) | {"prefect.resource.role": "prediction"}
    return News(
        event=STORED,
        resource=AssetContext.asset_as_resource(Asset(key=file.uri, properties=properties)),
        related=[
            *around.related(),
            made_from,
            AssetContext.related_materialized_by(MAKER),
        ],
        payload={
            **about,
            "prediction": prediction.id,
            "location": file.location,
            "block": file.block,
            "output_path": file.output_path,
            "media_type": file.media_type,
            "size": file.size,
            "sha256": file.sha256,
        },
    )


def _about(prediction: Prediction) -> dict[str, str]:
    """Return what events of both kinds say. From the input, that is only the prompt."""
    about = {"model": in_line(timed_model(prediction)), "url": in_line(prediction.web_url)}
    if prediction.prompt is not None:
        about["prompt"] = in_line(prediction.prompt, _PROMPT_LENGTH)
    return about


def _labelled(prediction: Prediction) -> dict[str, str]:
    """Return the prediction as a resource, with labels that automations can match."""
    model, reason = in_line(timed_model(prediction)), _reason(prediction)
    return {
        **_resource(f"replicate.prediction.{prediction.id}"),
        "prefect.resource.name": f"{model} {prediction.id}".strip(),
        "replicate.model": model,
        "replicate.status": in_line(prediction.status),
        **({"replicate.reason": reason} if reason else {}),
    }


def _reason(prediction: Prediction) -> str | None:
    if prediction.status != "failed":
        return None
    if prediction.is_flagged:
        return "flagged"
    return "transient" if prediction.is_transient_failure else "other"


def _resource(id: str, role: str | None = None) -> dict[str, str]:
    return {"prefect.resource.id": id} | ({"prefect.resource.role": role} if role else {})


def _seconds(since: datetime | None, until: datetime | None) -> float | None:
    return (until - since).total_seconds() if since and until else None


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    found = [
        (in_line(name), value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]
    return dict(found[:_MOST_METRICS])


class _Emitted(Recent[UUID, None]):
    """Events that this process has already emitted."""

    limit = 10_000


def emit(news: News) -> None:
    """Put an event into the queue, unless this process has done so before. Never raises."""
    emitted = process_state("emitted events", _Emitted)
    if news.id in emitted or PREFECT_API_URL.value() is None:
        return
    if news.id is not None:
        emitted[news.id] = None
    copy_context().run(_emit, news)


def _emit(news: News) -> None:
    # Prefect would ask its API for more about the run that an event is emitted in.
    contexts: Any = (FlowRunContext, TaskRunContext)
    for context in contexts:
        context.__var__.set(None)
    emit_event(news.event, news.resource, None, news.related, news.payload, news.id)
