"""How the runs are ended; each way returns the moment from which the seconds count."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from prefect.states import Completed

from .cells import Way
from .house import until
from .scene import Scene

_FLOW_TIMEOUT = {"in_dask": 30.0}
_TASK_TIMEOUT = 4.0


def _cancel(scene: Scene) -> None:
    scene.cancel()


def _cancel_from_the_command_line(scene: Scene) -> None:
    scene.house.prefect("flow-run", "cancel", str(scene.flow_run().id))


def _complete(scene: Scene) -> None:
    scene.api.set_flow_run_state(scene.flow_run().id, Completed(), force=True)


def _delete(scene: Scene) -> None:
    scene.api.delete_flow_run(scene.flow_run().id)


def _ctrl_c(scene: Scene) -> None:
    scene.group.signal_group(signal.SIGINT)


def _ctrl_c_without_prefect(scene: Scene) -> None:
    scene.way_to_prefect.stop()
    _ctrl_c(scene)


def _terminate_flow(scene: Scene) -> None:
    os.kill(scene.flow_pid(), signal.SIGTERM)


def _terminate_supervisor(scene: Scene) -> None:
    os.kill(scene.group.pid, signal.SIGTERM)


def _kill_flow(scene: Scene) -> None:
    os.kill(scene.flow_pid(), signal.SIGKILL)


def _kill_all(scene: Scene) -> None:
    flow = scene.flow_pid()
    scene.group.signal_group(signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):  # it may be in the group of what started it
        os.kill(flow, signal.SIGKILL)


def _fail_another_task(scene: Scene) -> None:
    (scene.house.folder / scene.prompt).touch()


_ACTS: dict[Way, Callable[[Scene], None]] = {
    "canceled": _cancel,
    "canceled from the command line": _cancel_from_the_command_line,
    "canceled in the middle of the create": _cancel,
    "canceled while suspended": _cancel,
    "parent canceled, of a subflow": _cancel,
    "parent canceled, of `run_deployment`": _cancel,
    "set to Completed by hand": _complete,
    "deleted": _delete,
    "Ctrl-C": _ctrl_c,
    "Ctrl-C, Prefect server gone": _ctrl_c_without_prefect,
    "SIGTERM to the flow's process": _terminate_flow,
    "SIGTERM to what started it": _terminate_supervisor,
    "SIGKILL of the flow's process": _kill_flow,
    "SIGKILL of it and what started it": _kill_all,
    "another task failed": _fail_another_task,
}


def _end_of_flow_timeout(scene: Scene) -> float:
    run = scene.flow_run()
    assert run.start_time is not None
    return run.start_time.timestamp() + _FLOW_TIMEOUT.get(scene.cell.form, 8.0)


def _end_of_task_timeout(scene: Scene) -> float:
    return scene.predictions()[0].created_at + _TASK_TIMEOUT


_TIMEOUTS: dict[Way, Callable[[Scene], float]] = {
    "flow timeout": _end_of_flow_timeout,
    "task timeout": _end_of_task_timeout,
}


def _is_suspended(scene: Scene) -> bool:
    state = scene.flow_run().state
    return state is not None and state.is_paused()


def _is_created(scene: Scene) -> bool:
    return bool(scene.predictions())


_READINESS: dict[Way, Callable[[Scene], bool]] = {
    "canceled in the middle of the create": _is_created,
    "canceled while suspended": _is_suspended,
    "another task failed": Scene.processing,
}


def end(scene: Scene) -> float:
    """End the run of a scene, once its predictions are waited for, and return when that was."""
    way = scene.cell.way
    is_ready = _READINESS.get(way, Scene.are_watched)
    until(lambda: is_ready(scene), what="its predictions are waited for")
    if way in _TIMEOUTS:
        moment = _TIMEOUTS[way](scene)
        until(lambda: time.time() >= moment)
        return moment
    moment = time.time()
    _ACTS[way](scene)
    return moment
