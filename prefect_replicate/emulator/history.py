"""All predictions of the account, and what tests need to know about them."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prefect_replicate.emulator.artifacts import Artifact
from prefect_replicate.emulator.outputs import files_of
from prefect_replicate.emulator.predictions import Record, State, Status, state_at
from prefect_replicate.emulator.serialise import Writer, stored_at


@dataclass(frozen=True)
class Snapshot:
    """A prediction as it was at one moment, with what only the server knows.

    Args:
        body: The prediction as the API lists it.
        create_requests: How many creates with the same model and input were processed: more than
            one means that it was paid for again.
        cancel_requests: How many cancels of this prediction were processed.
    """

    id: str
    model: str
    input: Mapping[str, Any]
    status: Status
    is_live: bool
    created_at: float
    started_at: float | None
    completed_at: float | None
    deadline: float | None
    run_seconds: float
    webhook: str | None
    body: Mapping[str, Any]
    create_requests: int
    cancel_requests: int


class History:
    """The predictions, newest first."""

    def __init__(self, now: Callable[[], float], writer: Callable[[], Writer]) -> None:
        self._now = now
        self._writer = writer
        self._records: dict[str, Record] = {}
        self._oldest_first: list[Record] = []
        self._moments: list[float] = []
        self._files: dict[str, tuple[Record, Artifact]] = {}
        self._creates: dict[str, int] = {}
        self._cancel_requests = 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Snapshot]:
        now = self._now()
        return iter([self._snapshot(record, now) for record in self.records()])

    def __getitem__(self, prediction_id: str) -> Snapshot:
        return self._snapshot(self._records[prediction_id], self._now())

    def live(self) -> list[Snapshot]:
        """Return the predictions that are still running and cost money."""
        now = self._now()
        live = (one for one in self.records() if not state_at(one, now).is_terminal)
        return [self._snapshot(record, now) for record in live]

    @property
    def create_requests(self) -> int:
        """How many creates were processed, and so paid for."""
        return len(self._records)

    @property
    def cancel_requests(self) -> int:
        """How many cancels were processed, including those of finished predictions."""
        return self._cancel_requests

    def records(self) -> list[Record]:
        """Return all predictions, newest first."""
        return self._oldest_first[::-1]

    def records_between(self, after: float | None, before: float | None) -> list[Record]:
        """Return those created, according to the database, from `after` until before `before`."""
        start = 0 if after is None else bisect_left(self._moments, after)
        stop = len(self._moments) if before is None else bisect_left(self._moments, before)
        return self._oldest_first[start:stop][::-1]

    def find(self, prediction_id: str) -> Record | None:
        """Return the prediction with this id, if there is one."""
        return self._records.get(prediction_id)

    def find_file(self, key: str) -> tuple[Record, Artifact] | None:
        """Return the file with this key and the prediction that it belongs to."""
        return self._files.get(key)

    def add(self, record: Record) -> None:
        """Keep a new prediction."""
        fingerprint = _fingerprint(record)
        self._creates[fingerprint] = self._creates.get(fingerprint, 0) + 1
        self._files.update((key, (record, file)) for key, file in files_of(record).items())
        self._list(record)
        self._records[record.id] = record  # last, since tests read from other threads

    def _list(self, record: Record) -> None:
        # The database keeps six digits of a second, which is what a client can ask for.
        moment = round(stored_at(record), 6)
        place = bisect_right(self._moments, moment)
        self._moments.insert(place, moment)
        self._oldest_first.insert(place, record)

    def cancel(self, record: Record, now: float, lag: float) -> State:
        """Record a cancel, which takes effect `lag` seconds later if the model is running."""
        self._cancel_requests += 1
        record.cancel_requests += 1
        state = state_at(record, now)
        if not state.is_terminal and record.stop_at is None:
            record.stop_at = now + (lag if state.status == "processing" else 0.0)
        return state_at(record, now)

    def clear(self) -> None:
        """Forget all predictions."""
        self._records.clear()
        self._oldest_first.clear()
        self._moments.clear()
        self._files.clear()
        self._creates.clear()
        self._cancel_requests = 0

    def _snapshot(self, record: Record, now: float) -> Snapshot:
        state = state_at(record, now)
        return Snapshot(
            id=record.id,
            model=record.model,
            input=record.input,
            status=state.status,
            is_live=not state.is_terminal,
            created_at=record.created_at,
            started_at=state.started_at,
            completed_at=state.completed_at,
            deadline=record.deadline,
            run_seconds=state.run_seconds,
            webhook=record.webhook,
            body=self._writer().database(record, state),
            create_requests=self._creates[_fingerprint(record)],
            cancel_requests=record.cancel_requests,
        )


def _fingerprint(record: Record) -> str:
    return f"{record.model} {json.dumps(record.input, sort_keys=True)}"
