"""A batch that is made by several processes, and what they have paid for it."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from endings.house import PROGRAMS, House, Started, until
from leftovers import processes_with
from prefect import Flow
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed, Scheduled
from prefect.utilities.callables import parameter_schema

from prefect_replicate import generate_videos
from prefect_replicate.emulator.history import Snapshot

SCRIPT = str(PROGRAMS / "campaign.py")
BYTES = 3000


def deploy(house: House, pool: str, flow: Flow[Any, Any] = generate_videos) -> str:
    """Deploy a flow of the package to a work pool, as deployments/prefect.yaml does it."""
    house.make_pool(pool)
    with house.client() as client:
        client.create_deployment(
            flow_id=client.create_flow_from_name(flow.name),
            name=pool,
            entrypoint=f"prefect_replicate.{flow.fn.__name__}",
            work_pool_name=pool,
            pull_steps=[],
            parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
            enforce_parameter_schema=True,
        )
    return f"{flow.name}/{pool}"


def start_worker(
    house: House, pool: str, name: str, limit: int = 1, env: dict[str, str] | None = None
) -> Started:
    """Start a process worker, which does so many runs at a time."""
    command = ["-m", "prefect", "worker", "start", "--pool", pool, "--limit", str(limit)]
    return house.start(name, *command, env=env)


def save_account(house: House, name: str) -> None:
    """Save the account as a block of this name."""
    token, url = house.env["REPLICATE_API_TOKEN"], house.env["REPLICATE_BASE_URL"]
    program = (
        "from prefect_replicate import ReplicateCredentials;"
        f"ReplicateCredentials(api_token={token!r}, base_url={url!r}).save({name!r})"
    )
    assert house.start(f"{name}-saved", "-c", program).process.wait(60) == 0


def process_of(run: FlowRun) -> int:
    """The process that a worker has started for a run."""
    [pid] = processes_with("PREFECT__FLOW_RUN_ID", str(run.id))
    return pid


class Campaign:
    """A batch, told from all others by its tag and its prompts.

    Args:
        house: Where it runs.
        count: Of its items.
        seconds: That each takes.
        parameters: Further ones of the flow.
    """

    def __init__(self, house: House, count: int, seconds: float, **parameters: Any) -> None:
        self.house = house
        self.api = house.client()
        self.tag = f"campaign-{uuid.uuid4().hex[:12]}"
        self.count = count
        self.folder = house.folder / self.tag
        self.parameters: dict[str, Any] = {
            "requests": [f"{self.tag}-{number}" for number in range(count)],
            "model": "emulator/timer",
            "input": {"seconds": seconds, "output_bytes": BYTES},
            "destination": str(self.folder),
            **parameters,
        }

    def start_script(self, *arguments: str, env: dict[str, str] | None = None) -> Started:
        """Have a script make it."""
        made = SCRIPT, json.dumps(self.parameters), self.tag, *arguments
        return self.house.start(self.tag, *made, env=env)

    def start_deployment(self, name: str) -> None:
        """Have a worker make it."""
        deployment = self.api.read_deployment_by_name(name)
        self.api.create_flow_run_from_deployment(
            deployment.id, parameters=self.parameters, tags=[self.tag]
        )

    def flow_run(self) -> FlowRun:
        """The run at the top."""
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[self.tag]))
        found = until(lambda: self.api.read_flow_runs(flow_run_filter=tagged), what="it runs")
        return next(one for one in found if one.parent_task_run_id is None)

    def state(self) -> StateType | None:
        run = self.flow_run()
        return run.state and run.state.type

    def children(self) -> list[FlowRun]:
        """The runs that its parts were handed to."""
        parent = FlowRunFilterParentFlowRunId(any_=[self.flow_run().id])
        return self.api.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent))

    def child_states(self) -> Counter[StateType]:
        return Counter(one.state.type for one in self.children() if one.state)

    def message(self) -> str:
        """Of the run at the top."""
        state = self.flow_run().state
        return (state and state.message) or ""

    def declare_crashed(self, run: FlowRun) -> None:
        """As an automation does it that hears no heartbeat."""
        self.api.set_flow_run_state(run.id, Crashed(), force=True)

    def retry(self) -> None:
        """As `prefect flow-run retry` does it."""
        until(self._comes_back, what="the retry has begun")

    def _comes_back(self) -> bool:
        run = self.flow_run()
        # A worker may set the state of a crash once more.
        if run.state and run.state.type in (StateType.CRASHED, StateType.FAILED):
            self.api.set_flow_run_state(run.id, Scheduled())
        return run.run_count > 1

    def let_predictions_end(self) -> None:
        """Have as much time pass at Replicate as they take."""
        self.house.replicate.clock.advance(self.parameters["input"]["seconds"])

    def predictions(self) -> list[Snapshot]:
        all_of_them = self.house.replicate.predictions
        return [one for one in all_of_them if str(one.input.get("prompt")).startswith(self.tag)]

    def live(self) -> list[Snapshot]:
        return [one for one in self.predictions() if one.is_live]

    def succeeded(self) -> list[Snapshot]:
        return [one for one in self.predictions() if one.status == "succeeded"]

    def processing(self) -> list[Snapshot]:
        return [one for one in self.predictions() if one.status == "processing"]

    def prompts(self, predictions: list[Snapshot]) -> Counter[str]:
        """How often each prompt is among them."""
        return Counter(str(one.input["prompt"]) for one in predictions)

    def creator_of(self, prediction: Snapshot) -> int:
        """The process that works on it."""
        return self.house.witness.creators(str(prediction.input["prompt"]))[0].pid

    @property
    def once_each(self) -> Counter[str]:
        return Counter(self.parameters["requests"])

    def running_child(self) -> FlowRun:
        """One of the runs that are at work."""
        running = [one for one in self.children() if one.state and one.state.is_running()]
        return running[0]

    def videos(self) -> list[Path]:
        """The files, as far as they are whole."""
        return [one for one in self.folder.iterdir() if one.stat().st_size == BYTES]

    def all_that_prefect_keeps(self) -> str:
        """What its runs were given, and what they show."""
        runs = [self.flow_run(), *self.children()]
        chosen = ArtifactFilterFlowRunId(any_=[one.id for one in runs])
        shown = self.api.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=chosen))
        return "".join(one.model_dump_json() for one in [*runs, *shown])
