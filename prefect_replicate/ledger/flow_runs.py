"""What Prefect knows about flow runs: their states and last heartbeats."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple, TypeVar
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)

from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client, request

T = TypeVar("T")

# The server refuses more.
_RUNS_A_REQUEST = 200
_EVENTS_A_REQUEST = 50

_ANY_CLOCK = timedelta(days=7)
"""The server leaves out future events, such as those from a machine whose clock is ahead."""

_HEARTBEAT = "prefect.flow-run.heartbeat"
_RESOURCE = "prefect.flow-run."


TAG = "replicate"
"""Tags the flow runs at the top that have started predictions, for people to filter by."""

OPEN_TAG = "replicate-open"
"""Tags those that may have left some running, for sweeps."""

_GOING_ON = [
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
]

CANCELED = frozenset({StateType.CANCELLING, StateType.CANCELLED})

PART_TAG = "replicate-batch-part"
"""Tags a deployment's run that does a part of a batch, for the flow run that has started it."""


def lives_by_itself(run: FlowRun) -> bool:
    """Whether a flow run continues whatever happens to the runs around it, except a cancel.

    A deployment's run does, since it has its own process, unless it does a part of a batch.
    """
    return run.deployment_id is not None and PART_TAG not in run.tags


class FlowRunSeen(NamedTuple):
    """A flow run as Prefect's server showed it."""

    name: str
    state: StateType
    since: datetime
    """When it entered that state."""
    last_heartbeat: datetime | None = None
    """`None` if none is known."""
    lives_by_itself: bool = False


async def set_tags(flow_run_id: UUID, tags: Collection[str]) -> None:
    """Write the tags of a flow run.

    Raises:
        LedgerError: Prefect's API could not be written to.
    """
    json = {"tags": sorted(tags)}
    await request("tag the flow run", "PATCH", f"/flow_runs/{flow_run_id}", 204, json=json)


async def tagged_runs(tag: str, since: datetime) -> list[FlowRun]:
    """Return the flow runs with a tag that have not ended, or ended after `since` (server time).

    Raises:
        LedgerError: Prefect's API could not be read.
    """
    tags = FlowRunFilterTags(all_=[tag])
    going_on = FlowRunFilterState(type=FlowRunFilterStateType(any_=_GOING_ON))
    ended = FlowRunFilterEndTime.model_validate({"after_": since})
    found: dict[UUID, FlowRun] = {}
    for chosen in (
        FlowRunFilter(tags=tags, state=going_on),
        FlowRunFilter(tags=tags, end_time=ended),
    ):
        found |= {run.id: run for run in await flow_runs(chosen)}
    return list(found.values())


async def flow_runs(chosen: FlowRunFilter) -> list[FlowRun]:
    """Return all flow runs that a filter selects.

    Raises:
        LedgerError: Prefect's API could not be read.
    """
    client = await prefect_client()
    found: list[FlowRun] = []
    while True:
        with as_ledger_error("read the states of flow runs"):
            page = await client.read_flow_runs(
                flow_run_filter=chosen,
                sort=FlowRunSort.ID_DESC,
                limit=_RUNS_A_REQUEST,
                offset=len(found),
            )
        found += page
        if len(page) < _RUNS_A_REQUEST:
            return found


async def flow_runs_seen(ids: Collection[UUID]) -> dict[UUID, FlowRunSeen]:
    """Return the flow runs that exist, by id, without their heartbeats.

    Raises:
        LedgerError: Prefect's API could not be read.
    """
    found: dict[UUID, FlowRunSeen] = {}
    for chunk in _chunks(ids, _RUNS_A_REQUEST):
        runs = await flow_runs(FlowRunFilter(id=FlowRunFilterId(any_=chunk)))
        found |= {run.id: _seen(run) for run in runs}
    return found


def _seen(run: FlowRun) -> FlowRunSeen:
    state = run.state
    if state is None or state.timestamp is None:  # pyright: ignore[reportUnnecessaryComparison] a run that is being made has none
        assert run.created is not None
        return FlowRunSeen(run.name, StateType.PENDING, run.created, None, lives_by_itself(run))
    return FlowRunSeen(run.name, state.type, state.timestamp, None, lives_by_itself(run))


async def last_heartbeats(ids: Collection[UUID], since: datetime) -> dict[UUID, datetime]:
    """Return when the server last received a heartbeat of each flow run that sent one since a time.

    The process of a flow run emits a heartbeat when it starts and every three minutes from then on,
    unless Prefect's setting `flows.heartbeat_frequency` says otherwise.

    Raises:
        LedgerError: Prefect's API could not be read.
    """
    client = await prefect_client()
    found: dict[UUID, datetime] = {}
    until = since + _ANY_CLOCK
    for chunk in _chunks(ids, _EVENTS_A_REQUEST):
        resources = [f"{_RESOURCE}{one}" for one in chunk]
        chosen = EventFilter(
            occurred=EventOccurredFilter.model_validate({"since": since, "until": until}),
            event=EventNameFilter(name=[_HEARTBEAT]),
            resource=EventResourceFilter(id=resources, distinct=True),  # the newest of each
        )
        with as_ledger_error("read the heartbeats of flow runs"):
            page = await client.read_events(chosen, limit=_EVENTS_A_REQUEST)
        for event in page.events:
            flow_run_id = UUID(event.resource.id.removeprefix(_RESOURCE))
            # `occurred` is by the clock of the run's machine.
            found[flow_run_id] = max(event.received, found.get(flow_run_id, event.received))
    return found


async def was_listening(since: datetime, until: datetime) -> bool:
    """Whether the server received any event in that time, so it would have received heartbeats.

    Raises:
        LedgerError: Prefect's API could not be read.
    """
    client = await prefect_client()
    chosen = EventFilter(
        occurred=EventOccurredFilter.model_validate({"since": since, "until": until})
    )
    with as_ledger_error("read events"):
        page = await client.read_events(chosen, limit=_EVENTS_A_REQUEST)
    # Some arrive late, from processes that kept them while the server was down.
    return any(event.received <= until for event in page.events)


def _chunks(items: Iterable[T], size: int) -> Iterable[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
