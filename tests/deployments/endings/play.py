"""Plays cells, several at a time, since most of a cell is waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from .cells import Cell
from .house import RENDER, House, until
from .scene import Outcome, Scene, outcome_of
from .ways import end

_AT_ONCE = 5
_STALE_SECONDS = 110.0
"""After which a run without heartbeats, which come every 30 s, is known to be gone."""

_SWEEP = "from prefect_replicate import cancel_orphaned_predictions as sweep; sweep(grace=0)"


class Matrix:
    """The outcomes of cells, as they become known.

    Those that only the orphan flow ends come last: it is run once, when all the other runs are
    over, so that it has no hand in how they end.
    """

    def __init__(self, cells: Sequence[Cell], house: House) -> None:
        self._house = house
        self._outcomes: dict[Cell, Future[Outcome]] = {cell: Future() for cell in cells}
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
        return self._outcomes[cell].result()

    def known(self) -> dict[Cell, Outcome]:
        """The outcomes so far."""
        done = {cell: one for cell, one in self._outcomes.items() if one.done()}
        return {cell: one.result() for cell, one in done.items() if one.exception() is None}

    def _conduct(self) -> None:
        # The longest first, of which the time until a run is known to be gone is a part.
        cells = sorted(self._outcomes, key=lambda cell: (not cell.is_swept, -cell.within))
        if any(cell.is_swept for cell in cells):
            # A run that goes on, by which the orphan flow knows that heartbeats are heard at all.
            self._house.start("pulse", RENDER, "pulse", "{}", "pulse")
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            left = [scene for scene in pool.map(self._play, cells) if scene is not None]
            if left and not self._is_over.is_set():
                self._sweep(left, pool)

    def _play(self, cell: Cell) -> Scene | None:
        if self._is_over.is_set():
            self._outcomes[cell].cancel()
            return None
        try:
            scene = Scene(cell, self._house)
            scene.ended_at = end(scene)
            if cell.is_swept and not scene.has_ended_by_itself():
                return scene
            self._outcomes[cell].set_result(outcome_of(scene, scene.ended_at))
        except BaseException as exc:  # noqa: BLE001 - it is the test's that waits for the outcome
            self._outcomes[cell].set_exception(exc)
        return None

    def _sweep(self, left: list[Scene], pool: ThreadPoolExecutor) -> None:
        last = max(scene.ended_at for scene in left)
        until(lambda: time.time() > last + _STALE_SECONDS, 2 * _STALE_SECONDS)
        since = time.time()
        self._house.sweep(_SWEEP)
        pool.map(lambda scene: self._finish(scene, since), left)

    def _finish(self, scene: Scene, since: float) -> None:
        try:
            self._outcomes[scene.cell].set_result(outcome_of(scene, since))
        except BaseException as exc:  # noqa: BLE001 - as above
            self._outcomes[scene.cell].set_exception(exc)
