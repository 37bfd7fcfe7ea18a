"""A flow run of a user, told from all others by its prompt."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from benchmarks.written_facts import generations_of
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.states import Cancelling

from prefect_replicate.emulator.history import Snapshot

from .house import RENDER, House, Started, until
from .witness import Witness

Billed = tuple[str, float | None]
"""The status of a prediction, and the seconds that are paid for it."""


class Run:
    """A flow run that makes predictions, and what is known of both.

    Args:
        house: Where it runs.
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self.api = house.client()
        self.prompt = f"run-{uuid.uuid4().hex[:12]}"
        self.way_to_prefect = Witness(house.server.ui_url)
        """For a run that is to have one of its own, which can be closed."""

    def start_script(
        self, flow: str, parameters: Mapping[str, Any], env: Mapping[str, str] | None = None
    ) -> Started:
        """Start a script that calls a flow of render.py."""
        arguments = RENDER, flow, json.dumps(parameters), self.prompt
        return self.house.start(self.prompt, *arguments, env=env)

    def start_deployment(
        self,
        flow: str,
        at: str,
        parameters: Mapping[str, Any],
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Have a flow of render.py run, by a `serve` process or work pool of this name."""
        self.api.create_flow_run_from_deployment(
            self._deployment(f"{flow}-{at}").id,
            parameters=dict(parameters),
            tags=[self.prompt],
            job_variables={"env": dict(env)} if env else None,
        )

    def env_with_own_way(self) -> dict[str, str]:
        """The environment of a process that knows Prefect's API by `way_to_prefect` alone."""
        self.way_to_prefect.start()
        return self.house.env | {"PREFECT_API_URL": f"{self.way_to_prefect.base_url}/api"}

    def predictions(self) -> list[Snapshot]:
        all_of_them = self.house.replicate.predictions
        return [one for one in all_of_them if one.input.get("prompt") == self.prompt]

    def live(self) -> list[Snapshot]:
        return [one for one in self.predictions() if one.is_live]

    def flow_run(self) -> FlowRun:
        """The run at the top."""
        return until(self._find_flow_run, what="the flow run is known")

    def subflow_run(self) -> FlowRun:
        """The run that the one at the top has started."""
        [found] = [one for one in self._flow_runs() if one.parent_task_run_id is not None]
        return found

    def cancel(self) -> None:
        """As the UI does it."""
        self.api.set_flow_run_state(self.flow_run().id, Cancelling())

    def ends(self) -> dict[str, Billed]:
        """How each of its predictions stands at Replicate."""
        return {
            one.id: (one.status, (one.body["metrics"] or {}).get("predict_time"))
            for one in self.predictions()
        }

    def recorded(self) -> dict[str, Billed]:
        """How each of its predictions stands in the ledger."""
        run = self._find_flow_run()
        if run is None:  # it was deleted, with all that was written down
            return {}
        return {
            one.prediction_id: (one.status, one.predict_time)
            for one in generations_of(self.api, run.id)
            if one.prediction_id is not None
        }

    def _deployment(self, name: str) -> DeploymentResponse:
        chosen = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
        [found] = until(
            lambda: self.api.read_deployments(deployment_filter=chosen),
            what=f"there is a deployment {name}",
        )
        return found

    def _find_flow_run(self) -> FlowRun | None:
        return next((one for one in self._flow_runs() if one.parent_task_run_id is None), None)

    def _flow_runs(self) -> list[FlowRun]:
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[self.prompt]))
        return self.api.read_flow_runs(flow_run_filter=tagged)
