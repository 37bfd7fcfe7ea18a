"""Every way in which a run ends, in every place where it can run: the table of what is promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Way = Literal[
    "canceled",
    "canceled from the command line",
    "canceled in the middle of the create",
    "canceled while suspended",
    "parent canceled, of a subflow",
    "parent canceled, of `run_deployment`",
    "set to Completed by hand",
    "deleted",
    "Ctrl-C",
    "Ctrl-C, Prefect server gone",
    "SIGTERM to the flow's process",
    "SIGTERM to what started it",
    "SIGKILL of the flow's process",
    "SIGKILL of it and what started it",
    "flow timeout",
    "task timeout",
    "another task failed",
]
Place = Literal["script", "serve", "worker"]
Mechanism = Literal["in-run cleanup", "hook", "sweep", "deadline"]

IN_RUN: tuple[Mechanism, ...] = ("in-run cleanup",)
HOOK: tuple[Mechanism, ...] = ("hook",)
ORPHANS: tuple[Mechanism, ...] = ("sweep",)
DEADLINE: tuple[Mechanism, ...] = ("deadline",)

FORMS = {
    "generate_video": "`generate_video`",
    "agenerate_video": "`agenerate_video`",
    "called": "tasks called",
    "awaited": "tasks awaited",
    "gathered": "tasks gathered",
    "submitted": "tasks submitted",
    "mapped": "tasks mapped",
    "in_dask": "tasks in Dask workers",
    "short_deadline": "tasks called, `cancel_after=15`",
}
_COUNTS = {"gathered": 3, "submitted": 2, "mapped": 3, "in_dask": 2}

_NEEDS_OWN_SUPERVISOR = {
    "Ctrl-C",
    "SIGTERM to what started it",
    "SIGKILL of it and what started it",
}


@dataclass(frozen=True)
class Cell:
    """A run that ends in one way, in one place, and what then ends its predictions."""

    way: Way
    place: Place
    form: str
    by: tuple[Mechanism, ...]
    """Where it says more than one, chance decides which is first: a gather, for one, is left at its
    first exception, so that the hook comes while other waits still clean up."""
    within: float
    """Seconds after which nothing runs any more: after the end of the run, or, where only the
    sweep is left to do it, after its start."""

    @property
    def id(self) -> str:
        return f"{self.way}-{self.place}-{self.form}"

    @property
    def creates(self) -> int:
        """How many predictions are paid for."""
        return _COUNTS.get(self.flow.removeprefix("timed_"), 1)

    @property
    def flow(self) -> str:
        """Its name in programs/render.py."""
        return {
            "flow timeout": f"timed_{self.form}",
            "task timeout": f"{self.form}_with_task_timeout",
            "another task failed": f"{self.form}_beside_a_failure",
            "canceled in the middle of the create": "slow_to_create",
            "canceled while suspended": "suspending",
            "parent canceled, of a subflow": "parent",
            "parent canceled, of `run_deployment`": "client",
        }.get(self.way, self.form)

    @property
    def is_swept(self) -> bool:
        """Whether the sweep may be needed."""
        return set(ORPHANS) <= set(self.by)

    @property
    def reaches_prefect(self) -> bool:
        """Whether Prefect's API is there at the end of the run."""
        return self.way != "Ctrl-C, Prefect server gone"

    @property
    def is_recorded(self) -> bool:
        """Whether the ledger says how the predictions ended."""
        return self.reaches_prefect and self.by != DEADLINE and self.way != "deleted"

    @property
    def has_own_supervisor(self) -> bool:
        """Whether its way ends the `serve` or worker process, too."""
        return self.way in _NEEDS_OWN_SUPERVISOR


_CANCELED = (
    Cell("canceled", "script", "generate_video", IN_RUN, 15),
    Cell("canceled", "script", "awaited", IN_RUN, 15),
    Cell("canceled", "script", "submitted", IN_RUN, 15),
    Cell("canceled", "serve", "generate_video", IN_RUN, 15),
    Cell("canceled", "serve", "awaited", IN_RUN, 15),
    Cell("canceled", "serve", "gathered", IN_RUN + HOOK, 15),
    Cell("canceled", "serve", "submitted", IN_RUN, 15),
    Cell("canceled", "serve", "mapped", IN_RUN, 15),
    Cell("canceled", "serve", "in_dask", IN_RUN + HOOK, 60),
    Cell("canceled", "worker", "agenerate_video", IN_RUN, 15),
    Cell("canceled", "worker", "submitted", IN_RUN, 15),
    Cell("canceled", "worker", "in_dask", IN_RUN + HOOK, 60),
    Cell("canceled from the command line", "worker", "generate_video", IN_RUN, 30),
    Cell("canceled in the middle of the create", "script", "called", IN_RUN, 60),
    Cell("canceled in the middle of the create", "serve", "called", IN_RUN, 60),
    Cell("canceled in the middle of the create", "worker", "called", IN_RUN, 60),
    Cell("canceled while suspended", "serve", "called", ORPHANS, 30),
    Cell("canceled while suspended", "worker", "called", ORPHANS, 30),
    Cell("parent canceled, of a subflow", "script", "generate_video", IN_RUN, 15),
    Cell("parent canceled, of a subflow", "serve", "generate_video", IN_RUN, 15),
    Cell("parent canceled, of a subflow", "worker", "generate_video", IN_RUN, 15),
    Cell("parent canceled, of `run_deployment`", "serve", "generate_video", IN_RUN, 15),
    Cell("parent canceled, of `run_deployment`", "worker", "generate_video", IN_RUN, 15),
    Cell("set to Completed by hand", "serve", "called", IN_RUN, 15),
    Cell("deleted", "script", "called", IN_RUN, 15),
)
_INTERRUPTED = (
    Cell("Ctrl-C", "script", "generate_video", IN_RUN, 15),
    Cell("Ctrl-C", "script", "awaited", IN_RUN, 15),
    Cell("Ctrl-C", "script", "gathered", IN_RUN + HOOK, 15),
    Cell("Ctrl-C", "script", "submitted", IN_RUN, 15),
    Cell("Ctrl-C", "script", "in_dask", IN_RUN + HOOK, 30),
    Cell("Ctrl-C", "serve", "generate_video", IN_RUN + HOOK + ORPHANS, 30),
    Cell("Ctrl-C", "worker", "generate_video", ORPHANS, 30),
    Cell("Ctrl-C, Prefect server gone", "script", "generate_video", IN_RUN, 15),
    Cell("Ctrl-C, Prefect server gone", "script", "awaited", IN_RUN, 15),
    Cell("Ctrl-C, Prefect server gone", "script", "submitted", IN_RUN, 15),
    Cell("SIGTERM to the flow's process", "script", "generate_video", IN_RUN, 15),
    Cell("SIGTERM to the flow's process", "script", "awaited", IN_RUN, 15),
    Cell("SIGTERM to the flow's process", "script", "gathered", IN_RUN + HOOK, 15),
    Cell("SIGTERM to the flow's process", "script", "submitted", IN_RUN, 15),
    Cell("SIGTERM to the flow's process", "script", "mapped", IN_RUN, 15),
    Cell("SIGTERM to the flow's process", "script", "in_dask", IN_RUN + HOOK, 30),
    Cell("SIGTERM to the flow's process", "serve", "submitted", IN_RUN, 15),
    Cell("SIGTERM to the flow's process", "worker", "submitted", IN_RUN, 15),
    Cell("SIGTERM to what started it", "serve", "generate_video", IN_RUN + HOOK + ORPHANS, 30),
    Cell("SIGTERM to what started it", "worker", "generate_video", ORPHANS, 30),
)
_KILLED = (
    Cell("SIGKILL of the flow's process", "script", "called", ORPHANS, 30),
    Cell("SIGKILL of the flow's process", "serve", "called", HOOK, 30),
    Cell("SIGKILL of the flow's process", "worker", "generate_video", HOOK, 45),
    Cell("SIGKILL of the flow's process", "worker", "mapped", HOOK, 45),
    Cell("SIGKILL of it and what started it", "serve", "short_deadline", DEADLINE, 16),
    Cell("SIGKILL of it and what started it", "worker", "called", ORPHANS, 30),
)
_TIMED_OUT = (
    Cell("flow timeout", "script", "called", IN_RUN, 15),
    Cell("flow timeout", "script", "awaited", IN_RUN, 15),
    Cell("flow timeout", "script", "gathered", IN_RUN + HOOK, 15),
    Cell("flow timeout", "script", "submitted", HOOK + IN_RUN, 15),
    Cell("flow timeout", "script", "mapped", HOOK + IN_RUN, 15),
    Cell("flow timeout", "script", "in_dask", HOOK + IN_RUN, 15),
    Cell("flow timeout", "serve", "agenerate_video", IN_RUN, 15),
    Cell("flow timeout", "worker", "mapped", HOOK + IN_RUN, 15),
    Cell("task timeout", "script", "called", IN_RUN, 15),
    Cell("task timeout", "script", "awaited", IN_RUN, 15),
    Cell("task timeout", "script", "submitted", IN_RUN, 15),
)
_FAILED = (
    Cell("another task failed", "script", "called", HOOK, 15),
    Cell("another task failed", "script", "gathered", IN_RUN + HOOK, 15),
    Cell("another task failed", "script", "submitted", HOOK + IN_RUN, 15),
    Cell("another task failed", "worker", "called", HOOK, 15),
)

CELLS = (*_CANCELED, *_INTERRUPTED, *_KILLED, *_TIMED_OUT, *_FAILED)

EVERY_TIME = frozenset({
    "canceled-script-awaited",
    "canceled-serve-submitted",
    "canceled from the command line-worker-generate_video",
    "canceled in the middle of the create-script-called",
    "canceled while suspended-serve-called",
    "parent canceled, of a subflow-script-generate_video",
    "parent canceled, of `run_deployment`-serve-generate_video",
    "set to Completed by hand-serve-called",
    "deleted-script-called",
    "Ctrl-C-script-gathered",
    "Ctrl-C, Prefect server gone-script-awaited",
    "SIGTERM to the flow's process-script-submitted",
    "SIGTERM to what started it-worker-generate_video",
    "SIGKILL of the flow's process-worker-generate_video",
    "SIGKILL of it and what started it-serve-short_deadline",
    "flow timeout-script-called",
    "task timeout-script-awaited",
    "another task failed-script-called",
})  # fmt: skip
"""One for each way, and each place; the others are played with `--all`."""

CONTRACT = frozenset({
    "canceled-serve-submitted",
    "canceled from the command line-worker-generate_video",
    "canceled in the middle of the create-script-called",
    "canceled while suspended-serve-called",
    "Ctrl-C-script-gathered",
    "SIGTERM to the flow's process-script-submitted",
    "SIGKILL of the flow's process-worker-generate_video",
    "flow timeout-script-called",
})  # fmt: skip
"""Of these, what might end otherwise with another Prefect, or another database of its."""
