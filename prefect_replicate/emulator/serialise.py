"""The two forms in which Replicate writes a prediction.

The create and polls of a running prediction return the live form, which leaves out keys without a
value. The database form has every key, `null` for a missing value, and a `created_at` that is some
milliseconds later. Both were recorded for the same prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from prefect_replicate.emulator.behaviour import Behaviour
from prefect_replicate.emulator.outputs import written_output
from prefect_replicate.emulator.predictions import Record, State, logs_at, output_at, removed_at
from prefect_replicate.emulator.timestamps import format_time

_LIVE_DIGITS = (3, 6, 8, 9)


@dataclass(frozen=True)
class Writer:
    """Writes predictions for one server.

    Args:
        base_url: Origin of the API.
        files_url: Origin of the file host.
    """

    base_url: str
    files_url: str
    behaviour: Behaviour

    def live(self, record: Record, state: State) -> dict[str, Any]:
        """Return the live form."""
        digits = _LIVE_DIGITS[ord(record.id[-1]) % len(_LIVE_DIGITS)]
        body = self._core(record, state)
        body["created_at"] = format_time(record.created_at, digits)
        body.update(_times(state, digits))
        if (metrics := _metrics(record, state)) is not None:
            body["metrics"] = metrics
        if body["output"] is None and not body["data_removed"]:
            del body["output"]
        return body

    def database(self, record: Record, state: State) -> dict[str, Any]:
        """Return the database form."""
        times = {"completed_at": None, "started_at": None, **_times(state, 6)}
        return {
            "completed_at": times["completed_at"],
            "created_at": format_time(stored_at(record)),
            "metrics": _metrics(record, state),
            "started_at": times["started_at"],
            **self._core(record, state),
            "webhook_completed": None,
        }

    def canceled(self, record: Record, state: State) -> dict[str, Any]:
        """Return the reply to a cancel: the database form, recorded without logs."""
        return {**self.database(record, state), "logs": None}

    def polled(self, record: Record, state: State) -> dict[str, Any]:
        """Return the reply to a GET, which changes form some time after completion."""
        ended = state.completed_at
        if ended is not None and state.moment >= ended + self.behaviour.archived_after:
            return self.database(record, state)
        return self.live(record, state)

    def waited(self, record: Record, state: State) -> dict[str, Any]:
        """Return the reply to a create with `Prefer: wait` once the wait is over."""
        if state.status != "succeeded":
            return self.live(record, state)
        lags = self.behaviour.sync_status_lags
        body = self.with_output(record, state) if lags else self.live(record, state)
        limit = self.behaviour.sync_data_uri_limit
        output = written_output(record, record.plan.output, self.files_url, limit)
        return {**body, "output": output}

    def with_output(self, record: Record, state: State) -> dict[str, Any]:
        """Return the prediction with all of its output, but not yet succeeded."""
        body = self.live(record, replace(state, status="processing", completed_at=None))
        return {**body, "output": written_output(record, record.plan.output, self.files_url)}

    def _core(self, record: Record, state: State) -> dict[str, Any]:
        removed = is_removed(record, state, self.behaviour.retention)
        body: dict[str, Any] = {
            "id": record.id,
            "model": record.model,
            "version": record.version,
            "input": {} if removed else record.shown_input,
            "logs": "" if removed else logs_at(record, state),
            "output": None if removed else self._output(record, state),
            "data_removed": removed,
            "error": record.plan.error if state.status == "failed" else None,
            "status": state.status,
            "source": "api",
            "urls": self._urls(record),
            **_asked(record),
        }
        if self.behaviour.omit_model:
            del body["model"]
        return body

    def _output(self, record: Record, state: State) -> Any:
        return written_output(record, output_at(record, state), self.files_url)

    def _urls(self, record: Record) -> dict[str, str]:
        api = f"{self.base_url}/v1/predictions/{record.id}"
        return {
            "cancel": f"{api}/cancel",
            "get": api,
            "stream": f"{self.files_url}/v1/streams/{record.id}",
            "web": f"{self.base_url}/p/{record.id}",
        }


def stored_at(record: Record) -> float:
    """Return when the database says that `record` was created."""
    lag = 0.001 * (1 + sum(map(ord, record.id)) % 50)
    # At most half of the prediction's time, however short that is.
    return record.created_at + min(lag, (record.plan.queue + record.plan.run) / 2)


def is_removed(record: Record, state: State, retention: float) -> bool:
    """Return whether the data of `record` is gone."""
    return state.is_terminal and state.moment >= removed_at(record, retention)


def _asked(record: Record) -> dict[str, Any]:
    asked = {
        "deadline": None if record.deadline is None else format_time(record.deadline),
        "deployment": record.deployment,
        "webhook": record.webhook,
        "webhook_events_filter": record.webhook_events,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _times(state: State, digits: int) -> dict[str, str]:
    times = {"started_at": state.started_at, "completed_at": state.completed_at}
    return {name: format_time(at, digits) for name, at in times.items() if at is not None}


def _metrics(record: Record, state: State) -> dict[str, Any] | None:
    if state.completed_at is None:
        return None
    metrics: dict[str, Any] = {"total_time": round(state.completed_at - record.created_at, 6)}
    if state.started_at is not None:
        metrics["predict_time"] = round(state.run_seconds, 6)
    return {**metrics, **record.plan.metrics} if state.status == "succeeded" else metrics
