"""Plays cells, several at a time, since most of a cell is waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .cells import Cell
from .house import RENDER, House, until
from .scene import Outcome, Scene, outcome_of
from .stories import Account, Story, told
from .ways import end

_AT_ONCE = 4
_LOG = "the end of what was printed is"
_SILENCE = 6.0
"""Seconds after which a run without a heartbeat is given up for dead. Prefect's come every 30 s at
the least, but no run that is to live is left when the sweep is run."""

_SWEEP = f"""
from prefect_replicate import cancel_orphaned_predictions
cancel_orphaned_predictions(grace=0, silence={_SILENCE})
"""


class Matrix:
    """The outcomes of cells and stories, as they become known.

    Cells that only the sweep ends come to their end last: it is run once, when all the other
    runs are over, so that it has no hand in how they end.
    """

    def __init__(self, plays: Sequence[Cell | Story], house: House) -> None:
        self._house = house
        self._futures: dict[Cell | Story, Future[Any]] = {one: Future() for one in plays}
        self._is_over = threading.Event()
        self._conductor = threading.Thread(target=self._conduct, name="matrix")

    def __enter__(self) -> Matrix:
        self._conductor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over.set()
        self._conductor.join()

    def outcome(self, cell: Cell) -> Outcome:
        """Wait for the outcome of a cell."""
        return self._futures[cell].result()

    def account(self, story: Story) -> Account:
        """Wait for what was paid in a story."""
        return self._futures[story].result()

    def known(self) -> dict[Cell | Story, Outcome | Account]:
        """What is known so far."""
        done = {play: one for play, one in self._futures.items() if one.done()}
        return {play: one.result() for play, one in done.items() if one.exception() is None}

    def _conduct(self) -> None:
        plays = sorted(self._futures, key=_order)
        if any(isinstance(one, Cell) and one.is_swept for one in plays):
            # A run that goes on, by which the sweep knows that the server hears at all.
            self._house.start("pulse", RENDER, "pulse", "{}", "pulse")
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            left = [scene for scene in pool.map(self._play, plays) if scene is not None]
            if left and not self._is_over.is_set():
                self._sweep(left, pool)

    def _play(self, play: Cell | Story) -> Scene | None:
        if self._is_over.is_set():
            self._futures[play].cancel()
            return None
        try:
            if isinstance(play, Cell):
                return self._play_cell(play)
            self._futures[play].set_result(told(play, self._house))
        except BaseException as exc:  # noqa: BLE001 - it is the test's that waits for the outcome
            self._futures[play].set_exception(exc)
        return None

    def _play_cell(self, cell: Cell) -> Scene | None:
        scene = Scene(cell, self._house)
        try:
            scene.ended_at = end(scene)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; {_LOG}:\n{scene.group.text()[-4000:]}") from exc
        if cell.is_swept and not scene.has_ended_by_itself():
            return scene
        self._futures[cell].set_result(outcome_of(scene, scene.ended_at))
        return None

    def _sweep(self, left: list[Scene], pool: ThreadPoolExecutor) -> None:
        last = max(scene.ended_at for scene in left)
        until(lambda: time.time() > last + _SILENCE + 1)
        since = time.time()
        self._house.sweep(_SWEEP)
        pool.map(lambda scene: self._finish(scene, since), left)

    def _finish(self, scene: Scene, since: float) -> None:
        try:
            self._futures[scene.cell].set_result(outcome_of(scene, since))
        except BaseException as exc:  # noqa: BLE001 - as above
            self._futures[scene.cell].set_exception(exc)


def _order(play: Cell | Story) -> tuple[int, float]:
    """The longest first: runs that are to be given up for dead, then those that go on."""
    if isinstance(play, Story):
        return 1, 0.0
    return 0 if play.is_swept else 2, -play.within


def served(plays: Iterable[Cell | Story]) -> set[str]:
    """The flows that the shared `serve` process must have."""
    own = {one.flow for one in plays if one.place == "serve"}
    return own | ({"generate_video"} if "client" in own else set[str]())
