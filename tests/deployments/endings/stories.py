"""Runs that are interrupted and go on: what must not be paid for a second time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling, Scheduled

from .house import House, Started, until
from .run import Run

BY_HAND = "by-hand"
"""A work pool without a worker: the tests start the processes of its runs."""

_ID = '\\"made\\":'
"""In the request that writes down the id of a prediction."""

_NOTICED_SECONDS = 12.0
"""After this, a wait would have noticed the end of its run, or of one around it."""


@dataclass(frozen=True)
class Story:
    """A run that goes on after something has happened to it."""

    what: str
    place: str
    goes_on: str
    """By what."""
    flow: str
    play: Callable[[Teller], None]
    creates: int = 1
    cancels: int = 0
    live: int = 1
    """When the run has gone on."""

    @property
    def id(self) -> str:
        return f"{self.what}-{self.place}-{self.goes_on}"


@dataclass(frozen=True)
class Account:
    """What was paid for a run, and what it has then."""

    creates: int
    cancels: int
    live: int


class Teller(Run):
    """The run of a story."""

    def __init__(self, house: House, flow: str) -> None:
        super().__init__(house)
        self.flow = flow
        self.going_on: FlowRun | None = None
        """The run that goes on, where it is not the one at the top."""
        self._executions = 0

    def start(self, place: str, *, with_own_way: bool = False) -> None:
        """Have it run as a deployment; by hand, it is only scheduled."""
        name = BY_HAND if place == BY_HAND else f"shared-{place}"
        if place == BY_HAND:
            self.house.make_pool(BY_HAND)
        else:
            self.house.shared(place)
        if place != "serve":
            self.house.deploy(name, self.flow)
        parameters = {"prompt": self.prompt}
        self.start_deployment(
            self.flow, name, parameters, self._own_way() if with_own_way else None
        )

    def _own_way(self) -> dict[str, str]:
        return {"PREFECT_API_URL": self.env_with_own_way()["PREFECT_API_URL"]}

    def execute(self, env: dict[str, str] | None = None) -> Started:
        """Execute the flow run in a process, as a worker does it."""
        self._executions += 1
        own = {"PREFECT__FLOW_RUN_ID": str(self.flow_run().id)}
        name = f"{self.prompt}-{self._executions}"
        return self.house.start(name, "-m", "prefect.engine", env=(env or self.house.env) | own)

    def state(self) -> StateType | None:
        state = self.flow_run().state
        return state.type if state else None

    def creator(self) -> int:
        """The process that sent the first create."""
        return self.house.witness.creators(self.prompt)[0].pid

    def is_watched_by(self, pid: int) -> bool:
        return any(
            pid == one.pid
            for prediction in self.live()
            for one in self.house.witness.lookers(prediction.id)
        )

    def is_watched_by_another(self, pid: int) -> bool:
        """Whether another process than this one waits for the prediction that lives."""
        return any(
            pid != one.pid
            for prediction in self.live()
            for one in self.house.witness.lookers(prediction.id)
        )

    def is_watched(self) -> bool:
        return self.is_watched_by_another(0)

    def retry(self, gone: int) -> None:
        """Schedule a crashed run again, as `prefect flow-run retry` does, until it goes on.

        A worker may report the crash a second time, which undoes it.
        """

        def goes_on() -> bool:
            if self.state() is StateType.CRASHED:
                self.api.set_flow_run_state(self.flow_run().id, Scheduled(), force=True)
            return self.is_watched_by_another(gone)

        until(goes_on, 180, "another process waits for the prediction")

    def cancel(self) -> None:
        run = self.going_on or self.flow_run()
        self.api.set_flow_run_state(run.id, Cancelling())

    def account(self) -> Account:
        predictions = self.predictions()
        return Account(
            len(predictions), sum(one.cancel_requests for one in predictions), len(self.live())
        )


def told(story: Story, house: House) -> Account:
    """Play a story, and say what was paid; then cancel the run, which is to end all of it."""
    teller = Teller(house, story.flow)
    story.play(teller)
    account = teller.account()
    if teller.live():
        teller.cancel()
        until(lambda: not teller.live(), 60, "the run that goes on can be canceled")
    teller.way_to_prefect.stop()
    return account


def _killed_before_the_create(teller: Teller) -> int:
    until(lambda: teller.house.witness.has_kept(teller.prompt), what="a create is on its way")
    return _killed(teller)


def _killed_during_the_create(teller: Teller) -> int:
    until(teller.predictions, what="a create is processed")
    return _killed(teller)


def _killed_before_the_id_is_recorded(teller: Teller) -> int:
    until(lambda: teller.way_to_prefect.has_kept(_ID), what="the id is on its way to Prefect")
    assert not teller.recorded()
    return _killed(teller)


def _killed_while_it_waits(teller: Teller) -> int:
    until(teller.is_watched, what="the prediction is waited for")
    return _killed(teller)


def _killed(teller: Teller) -> int:
    pid = teller.creator()
    os.kill(pid, signal.SIGKILL)
    return pid


_Moment = Literal["before", "during", "after", "later"]
_KILLS: dict[_Moment, Callable[[Teller], int]] = {
    "before": _killed_before_the_create,
    "during": _killed_during_the_create,
    "after": _killed_before_the_id_is_recorded,
    "later": _killed_while_it_waits,
}


def _prepare(teller: Teller, moment: _Moment) -> None:
    if moment == "before":
        teller.house.witness.keep_back(f'"{teller.prompt}"')
    if moment == "during":
        teller.house.keep_reply_back()
    if moment == "after":
        teller.way_to_prefect.keep_back(_ID)


def _killed_and_executed_again(moment: _Moment) -> Callable[[Teller], None]:
    def play(teller: Teller) -> None:
        _prepare(teller, moment)
        teller.start(BY_HAND)
        teller.execute(teller.env_with_own_way())
        _KILLS[moment](teller)
        again = teller.execute()
        until(lambda: teller.is_watched_by(again.pid), 180, "the second process waits for it")

    return play


def _killed_and_retried(moment: _Moment) -> Callable[[Teller], None]:
    def play(teller: Teller) -> None:
        _prepare(teller, moment)
        teller.start("worker", with_own_way=True)
        teller.retry(_KILLS[moment](teller))

    return play


def _retried_from_the_command_line(teller: Teller) -> None:
    teller.start("worker")
    pid = _killed_while_it_waits(teller)
    until(lambda: not teller.live(), what="the hook has canceled it")
    teller.house.prefect("flow-run", "retry", str(teller.flow_run().id))
    teller.retry(pid)


def _terminated_and_retried(teller: Teller) -> None:
    teller.start("worker")
    until(teller.is_watched, what="the prediction is waited for")
    pid = teller.creator()
    os.kill(pid, signal.SIGTERM)
    until(lambda: teller.state() is StateType.CRASHED, what="the run has crashed")
    teller.retry(pid)


def _executed_twice_at_once(teller: Teller) -> None:
    teller.start(BY_HAND)
    both = [teller.execute() for _ in range(2)]
    until(lambda: all(teller.is_watched_by(one.pid) for one in both), what="both wait for it")


def _executed_again_during_the_create(teller: Teller) -> None:
    teller.house.keep_reply_back()
    teller.start(BY_HAND)
    first = teller.execute()
    until(teller.predictions, what="a create is processed")
    both = [first, teller.execute()]
    until(lambda: all(teller.is_watched_by(one.pid) for one in both), what="both wait for it")


def _suspended_and_resumed(place: str) -> Callable[[Teller], None]:
    def play(teller: Teller) -> None:
        teller.start(place)
        until(lambda: teller.state() is StateType.PAUSED, what="the run is suspended")
        [prediction] = teller.live()
        teller.api.resume_flow_run(teller.flow_run().id)
        until(lambda: teller.is_watched_by_another(teller.creator()), what="it is resumed")
        assert teller.live()[0].id == prediction.id

    return play


def _timed_out_and_retried(teller: Teller) -> None:
    script = teller.start_script(teller.flow, {"prompt": teller.prompt})
    until(lambda: "Continuing with prediction" in script.text(), what="it goes on after a timeout")


def _failed_look(teller: Teller) -> None:
    script = teller.start_script(teller.flow, {"prompt": teller.prompt})
    [prediction] = until(teller.predictions, what="there is a prediction")
    look = {"method": "GET", "path": f"/predictions/{prediction.id}$"}
    teller.house.replicate.faults.add("error_page", status=500, **look)
    until(lambda: script.has_ended, what="the script is done")
    assert script.process.returncode == 0
    looks = teller.house.replicate.requests.matching("GET", prediction.id)
    assert 500 in [one.status for one in looks]


def _created_after_the_end(teller: Teller) -> None:
    script = teller.start_script(teller.flow, {"prompt": teller.prompt})
    hook_has_run = "Hook 'cancel_predictions' finished"
    until(lambda: hook_has_run in script.text(), what="the flow is over, and its hook has run")
    (teller.house.folder / teller.prompt).touch()
    until(lambda: script.has_ended, what="the script is done")


def _left_alone_by_what_started_it(teller: Teller) -> None:
    teller.house.shared("worker")
    teller.house.deploy("shared-worker", "called")
    parameters = {"prompt": teller.prompt, "deployment": "called/called-shared-worker"}
    script = teller.start_script(teller.flow, parameters)
    until(teller.is_watched, what="the deployment's run waits for its prediction")
    (teller.house.folder / teller.prompt).touch()
    until(lambda: script.has_ended, what="the script has failed")
    assert teller.state() is StateType.FAILED
    time.sleep(_NOTICED_SECONDS)
    teller.going_on = teller.subflow_run()


_AGAIN, _RETRY = "another process executes it again", "it is retried"
STORIES = (
    Story("SIGKILL before the create arrives", BY_HAND, _AGAIN, "called",
          _killed_and_executed_again("before")),
    Story("SIGKILL during the create", BY_HAND, _AGAIN, "slow_to_create",
          _killed_and_executed_again("during")),
    Story("SIGKILL before the id is recorded", BY_HAND, _AGAIN, "called",
          _killed_and_executed_again("after")),
    Story("SIGKILL during the wait", BY_HAND, _AGAIN, "called",
          _killed_and_executed_again("later")),
    Story('SIGKILL before the create arrives, `on_crash="keep"`', "worker", _RETRY, "kept_on_crash",
          _killed_and_retried("before")),
    Story('SIGKILL during the create, `on_crash="keep"`', "worker", _RETRY,
          "slow_to_create_kept_on_crash", _killed_and_retried("during")),
    Story('SIGKILL before the id is recorded, `on_crash="keep"`', "worker", _RETRY, "kept_on_crash",
          _killed_and_retried("after")),
    Story('SIGKILL during the wait, `on_crash="keep"`', "worker", _RETRY, "kept_on_crash",
          _killed_and_retried("later")),
    Story('SIGTERM during the wait, `on_crash="keep"`', "worker", _RETRY, "kept_on_crash",
          _terminated_and_retried),
    Story("SIGKILL during the wait", "worker", "`prefect flow-run retry`", "called",
          _retried_from_the_command_line, creates=2, cancels=1),
    Story("two processes execute it at once", BY_HAND, "both", "called", _executed_twice_at_once),
    Story("another process executes it during the create", BY_HAND, "both", "slow_to_create",
          _executed_again_during_the_create),
    Story("suspended", "serve", "it is resumed", "suspending", _suspended_and_resumed("serve")),
    Story("suspended", "worker", "it is resumed", "suspending", _suspended_and_resumed("worker")),
    Story("timeout of a task with a retry", "script", "the task's retry", "with_retried_task",
          _timed_out_and_retried),
    Story("timeout of a flow with a retry", "script", "the flow's retry", "retried",
          _timed_out_and_retried),
    Story("one HTTP 500 at a look, task with a retry", "script", "itself, to its end", "short",
          _failed_look, live=0),
    Story("the flow that has started its deployment fails", "worker", "the deployment's run",
          "starter", _left_alone_by_what_started_it),
    Story("timeout of the flow, before a task in a thread comes to its create", "script",
          "the task goes on", "late", _created_after_the_end, creates=0, live=0),
    Story("timeout of the flow, before a task in a Dask worker comes to its create", "script",
          "the task goes on", "late_in_dask", _created_after_the_end, creates=0, live=0),
)  # fmt: skip

EVERY_TIME = frozenset({
    f"SIGKILL during the create-{BY_HAND}-{_AGAIN}",
    f'SIGKILL during the wait, `on_crash="keep"`-worker-{_RETRY}',
    f"two processes execute it at once-{BY_HAND}-both",
    "suspended-serve-it is resumed",
})  # fmt: skip
"""One for each way in which a process goes on; the others are played with `--all`."""

CONTRACT = frozenset({
    f"SIGKILL during the create-{BY_HAND}-{_AGAIN}",
    f"two processes execute it at once-{BY_HAND}-both",
})  # fmt: skip
"""Of these, what might go on otherwise with another Prefect, or another database of its."""
