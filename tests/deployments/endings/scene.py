"""One cell, played with real processes."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from typing import Any

from prefect_replicate.emulator.history import Snapshot

from .cells import DEADLINE, HOOK, IN_RUN, Cell
from .house import House, Started, until
from .run import Billed, Run
from .witness import Process

_MODEL = "emulator/timer"


class Scene(Run):
    """The run of a cell, from its start to after its end."""

    def __init__(self, cell: Cell, house: House) -> None:
        super().__init__(house)
        self.cell = cell
        self.ended_at = 0.0
        """When the run was ended, by the clock of Replicate's timestamps."""
        self.group = self._start()

    def processing(self) -> bool:
        under_way = [one for one in self.predictions() if one.status == "processing"]
        return len(under_way) == self.cell.creates

    def are_watched(self) -> bool:
        """Whether the waits for its predictions have begun."""
        witness = self.house.witness
        on_pages = witness.page_readers().intersection(witness.creators(self.prompt))
        looked_at = [on_pages or witness.lookers(one.id) for one in self.predictions()]
        return self.processing() and all(looked_at)

    def flow_pid(self) -> int:
        """The process that runs the flow."""
        if self.cell.place == "script":
            return self.group.pid
        return self.house.witness.creators(self.prompt)[0].pid

    def has_ended_by_itself(self) -> bool:
        """Whether nothing runs any more once all processes that could see to that are gone."""
        if self.cell.has_own_supervisor:
            until(lambda: not self.live() or not self.house.has_processes_of(self.prompt))
        return not self.live()

    def is_awaited(self) -> bool:
        """Whether the run comes to its own end, and does so soon."""
        # Without Prefect's API its client tries for minutes before it gives up.
        return self.cell.reaches_prefect and self.cell.by != DEADLINE and not self.cell.is_swept

    def is_settled(self) -> bool:
        """Whether nothing of the run is left that could still do anything."""
        if self.group.has_ended:
            return True
        run = self._find_flow_run()  # it may have been deleted
        return run is not None and run.state is not None and run.state.is_final()

    def _start(self) -> Started:
        cell, house = self.cell, self.house
        if cell.way == "canceled in the middle of the create":
            house.keep_reply_back()
        if cell.place == "script":
            env = None if cell.reaches_prefect else self.env_with_own_way()
            return self.start_script(cell.flow, self._parameters(""), env)
        name = self.prompt if cell.has_own_supervisor else f"shared-{cell.place}"
        group = self._supervisor(name)
        if cell.place == "worker":
            house.deploy(name, cell.flow)
            house.deploy(name, "generate_video")  # for those that run it as a deployment
        self.start_deployment(cell.flow, name, self._parameters(name))
        return group

    def _supervisor(self, name: str) -> Started:
        if not self.cell.has_own_supervisor:
            return self.house.shared(self.cell.place)
        if self.cell.place == "serve":
            return self.house.serve(name, [self.cell.flow])
        return self.house.worker(name)

    def _parameters(self, deployment: str) -> dict[str, Any]:
        if self.cell.flow == "client":
            return {
                "prompt": self.prompt,
                "deployment": f"generate-video/generate_video-{deployment}",
            }
        if "generate_video" not in self.cell.flow:
            return {"prompt": self.prompt}
        return {
            "model": _MODEL,
            "prompt": self.prompt,
            "input": {"queue_seconds": 0.2, "seconds": 3000},
            "destination": str(self.house.folder),
        }


@dataclass(frozen=True)
class Outcome:
    """What became of the predictions of a cell."""

    creates: int
    cancels: int
    live: int
    """When the bound had passed."""
    seconds: float | None
    """From the end of the run to the end of the last prediction."""
    ended_by: tuple[str, ...]
    ends: dict[str, Billed]
    """By prediction."""
    recorded: dict[str, Billed]
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
    ends = scene.ends()
    with contextlib.suppress(AssertionError):
        until(lambda: scene.recorded() == ends, 15 if scene.cell.reaches_prefect else 0)
    recorded = scene.recorded()
    moments = [one.completed_at for one in predictions]
    return Outcome(
        creates=len(predictions),
        cancels=sum(one.cancel_requests for one in predictions),
        live=live,
        seconds=max(one for one in moments if one) - since if all(moments) else None,
        ended_by=tuple(sorted({name for one in predictions for name in mechanisms(scene, one)})),
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
        return {"sweep"}
    if _runs_hooks_for_a_runner(first, scene):
        return {"hook"}
    if "multiprocessing" in first.command:
        return {"in-run cleanup"}  # a Dask worker, which runs no hooks
    if said := _by_log(scene.group.text(), prediction.id):
        return said
    if scene.group.pid == first.pid and set(IN_RUN + HOOK) <= set(scene.cell.by):
        # An event loop that is closed meanwhile takes the last lines with it.
        return {*IN_RUN, *HOOK}
    return {f"process {first.pid}, which does not say why: {first.command}"}


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
