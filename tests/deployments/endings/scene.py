"""One cell, played with real processes."""

from __future__ import annotations

import contextlib
import json
import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterType,
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.states import Cancelling

from prefect_replicate.emulator.history import Snapshot

from .cells import DEADLINE, Cell
from .house import RENDER, House, Started, until
from .witness import Process, Witness

_MODEL = "emulator/timer"
_LATE_SECONDS = 8.0


class Scene:
    """The run of a cell, from its start to after its end."""

    def __init__(self, cell: Cell, house: House) -> None:
        self.cell = cell
        self.house = house
        self.prompt = f"cell-{uuid.uuid4().hex[:12]}"
        self.ended_at = 0.0
        """When the run was ended, by the clock of Replicate's timestamps."""
        self._api = house.client()
        self.way_to_prefect = Witness(house.server.ui_url)
        self.group = self._start()

    def predictions(self) -> list[Snapshot]:
        all_of_them = self.house.replicate.predictions
        return [one for one in all_of_them if one.input.get("prompt") == self.prompt]

    def live(self) -> list[Snapshot]:
        return [one for one in self.predictions() if one.is_live]

    def processing(self) -> bool:
        under_way = [one for one in self.predictions() if one.status == "processing"]
        return len(under_way) == self.cell.creates

    def are_watched(self) -> bool:
        """Whether the waits for its predictions have begun."""
        looked_at = [self.house.witness.has_looked_at(one.id) for one in self.predictions()]
        return self.processing() and all(looked_at)

    def flow_run(self) -> FlowRun:
        """The run at the top."""
        return until(self._find_flow_run, what="the flow run is known")

    def flow_pid(self) -> int:
        """The process that runs the flow."""
        if self.cell.place == "script":
            return self.group.pid
        return self.house.witness.creator(self.prompt).pid

    def cancel(self) -> None:
        """As the UI does it."""
        self._api.set_flow_run_state(self.flow_run().id, Cancelling())

    def has_ended_by_itself(self) -> bool:
        """Whether nothing runs any more once all processes that could see to that are gone."""
        if self.cell.has_own_supervisor:
            until(lambda: not self.house.has_processes_of(self.prompt), what="all are gone")
        return not self.live()

    def is_awaited(self) -> bool:
        """Whether the run comes to its own end, and does so soon."""
        # Without Prefect's API its client tries for minutes before it gives up.
        return self.cell.reaches_prefect and self.cell.by != DEADLINE and not self.cell.is_swept

    def is_settled(self) -> bool:
        """Whether nothing of the run is left that could still do anything."""
        if self.group.has_ended:
            return True
        run = self.flow_run()
        return run.state is not None and run.state.is_final()

    def recorded(self) -> dict[str, tuple[str, float | None]]:
        """The status, and the seconds that are paid, in the ledger of each of its predictions."""
        own = {one.id for one in self.predictions()}
        ours = ArtifactFilter(type=ArtifactFilterType(any_=["replicate-prediction"]))
        records: list[dict[str, Any]] = []
        while True:
            page = self._api.read_artifacts(artifact_filter=ours, limit=200, offset=len(records))
            records += [one.data for one in page]
            if len(page) < 200:
                break
        return {
            one["prediction_id"]: (one["status"], one["seconds_billed"])
            for one in records
            if one["prediction_id"] in own
        }

    def _start(self) -> Started:
        cell, house = self.cell, self.house
        if cell.way == "canceled in the middle of the create":
            house.replicate.faults.add(
                "late_reply", method="POST", path="^/v1/predictions$", seconds=_LATE_SECONDS
            )
        if cell.place == "script":
            parameters = json.dumps(self._parameters(""))
            env = house.env if cell.reaches_prefect else self._env_with_own_way()
            return house.start(self.prompt, RENDER, cell.flow, parameters, self.prompt, env=env)
        name = self.prompt if cell.has_own_supervisor else f"shared-{cell.place}"
        flows = [cell.flow]
        if cell.has_own_supervisor:
            start = house.serve if cell.place == "serve" else house.worker
            group = start(name, flows)
        else:
            group = house.shared(cell.place)
        deployment = self._deployment(f"{cell.flow}-{name}")
        self._api.create_flow_run_from_deployment(
            deployment.id, parameters=self._parameters(name), tags=[self.prompt]
        )
        return group

    def _env_with_own_way(self) -> dict[str, str]:
        self.way_to_prefect.start()
        return self.house.env | {"PREFECT_API_URL": f"{self.way_to_prefect.base_url}/api"}

    def _parameters(self, deployment: str) -> dict[str, Any]:
        if "generate_video" not in self.cell.flow:
            given = {"prompt": self.prompt}
            if self.cell.flow == "client":
                given["deployment"] = f"generate-video/generate_video-{deployment}"
            return given
        return {
            "model": _MODEL,
            "prompt": self.prompt,
            "input": {"queue_seconds": 0.2, "seconds": 600},
            "destination": str(self.house.folder),
        }

    def _deployment(self, name: str) -> DeploymentResponse:
        chosen = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
        [found] = until(
            lambda: self._api.read_deployments(deployment_filter=chosen),
            what=f"there is a deployment {name}",
        )
        return found

    def _find_flow_run(self) -> FlowRun | None:
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[self.prompt]))
        runs = self._api.read_flow_runs(flow_run_filter=tagged)
        return next((one for one in runs if one.parent_task_run_id is None), None)


@dataclass(frozen=True)
class Outcome:
    """What became of the predictions of a cell."""

    creates: int
    cancels: int
    live: int
    """When the bound had passed."""
    seconds: float | None
    """From the end of the run to the end of the last prediction."""
    by: tuple[str, ...]
    ends: dict[str, tuple[str, float | None]]
    """By prediction: its status, and the seconds that are paid."""
    recorded: dict[str, tuple[str, float | None]]
    """The same, as the ledger has it."""


def outcome_of(scene: Scene, since: float) -> Outcome:
    """Wait until the bound has passed or nothing runs any more, and look at what there is.

    Args:
        scene: After its end.
        since: From when the bound counts.
    """
    give_up = since + scene.cell.within
    while scene.live() and time.time() < give_up:
        time.sleep(0.05)
    live = len(scene.live())
    if not live and scene.is_awaited():
        until(scene.is_settled, what="the run is over")
    predictions = scene.predictions()
    ends = {one.id: (one.status, one.body["metrics"].get("predict_time")) for one in predictions}
    with contextlib.suppress(AssertionError):
        until(lambda: scene.recorded() == ends, 15 if scene.cell.reaches_prefect else 0)
    recorded = scene.recorded()
    moments = [one.completed_at for one in predictions]
    return Outcome(
        creates=len(predictions),
        cancels=sum(one.cancel_requests for one in predictions),
        live=live,
        seconds=max(one for one in moments if one) - since if all(moments) else None,
        by=tuple(sorted({name for one in predictions for name in mechanisms(scene, one)})),
        ends=ends,
        recorded=recorded,
    )


def mechanisms(scene: Scene, prediction: Snapshot) -> set[str]:
    """What ended a prediction: by the process that canceled it, and by that process's log."""
    cancelers = scene.house.witness.cancelers(prediction.id)
    if not cancelers:
        return {"deadline"} if _has_reached_deadline(prediction) else {"nothing"}
    first = cancelers[0]
    if first.pid == scene.house.sweeper:
        return {"orphan flow"}
    if _runs_hooks_for_a_runner(first, scene):
        return {"hook"}
    said = _by_log(scene.group.output.read_text("utf-8", "replace"), prediction.id)
    return said or {f"process {first.pid}, which does not say why: {first.command}"}


def _has_reached_deadline(prediction: Snapshot) -> bool:
    end, deadline = prediction.completed_at, prediction.deadline
    return end is not None and deadline is not None and abs(end - deadline) < 0.01


def _runs_hooks_for_a_runner(process: Process, scene: Scene) -> bool:
    if scene.cell.place == "serve":
        return process.pid == scene.group.pid
    return "_workspace_runtime_bootstrap" in process.command and " hook " in process.command


def _by_log(log: str, prediction_id: str) -> set[str]:
    """In a flow's own process: a hook logs to the flow run, and the tasks do to theirs."""
    said = re.findall(rf"(Flow|Task) run '[^']*' - Prediction {prediction_id}: ", log)
    return {{"Flow": "hook", "Task": "in-run cleanup"}[one] for one in said}
