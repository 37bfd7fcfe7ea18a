"""However a run is ended, its predictions end too; and what goes on is not paid again.

Real processes, a real server, real signals. docs/failure-semantics.md is made of the outcomes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from endings import cells, stories
from endings.cells import CELLS, Cell
from endings.house import House
from endings.play import Matrix, served
from endings.stories import STORIES, Account, Story
from endings.witness import Witness

from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.emulator import Emulator

pytestmark = pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="asks Linux whose process has a connection"
)


@pytest.fixture(scope="module")
def matrix(
    request: pytest.FixtureRequest,
    prefect_server: PrefectServer,
    replicate: Emulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Matrix]:
    """All cells and stories that were selected, several of which are played at a time."""
    plays = [play for item in request.session.items if (play := play_of(item))]
    with Witness(replicate.base_url) as witness:
        folder = tmp_path_factory.mktemp("endings")
        house = House(prefect_server, replicate, witness, folder, served(plays))
        with Matrix(plays, house) as matrix:
            yield matrix
        house.stop()
    write_results(matrix)


def play_of(item: pytest.Item) -> Cell | Story | None:
    call = getattr(item, "callspec", None)
    chosen = call.params.get("cell") or call.params.get("story") if call else None
    return chosen if isinstance(chosen, Cell | Story) else None


def write_results(matrix: Matrix) -> None:
    """For scripts/failure-semantics, which makes the document's tables of them."""
    if path := os.environ.get("FAILURE_SEMANTICS_RESULTS"):
        rows = [{"id": play.id, **asdict(one)} for play, one in matrix.known().items()]
        Path(path).write_text(json.dumps(rows, indent=1), "utf-8")


def marked(
    plays: Iterable[Cell | Story], every_time: Collection[str], contract: Collection[str]
) -> list[Any]:
    return [
        pytest.param(
            play,
            id=play.id,
            marks=[
                *([] if play.id in every_time else [pytest.mark.full]),
                *([pytest.mark.contract] if play.id in contract else []),
            ],
        )
        for play in plays
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cell", marked(CELLS, cells.EVERY_TIME, cells.CONTRACT))
def test_nothing_is_left_running(cell: Cell, matrix: Matrix) -> None:
    outcome = matrix.outcome(cell)

    assert outcome.live == 0
    assert outcome.creates == cell.creates
    assert set(outcome.ended_by) <= set(cell.by)
    assert outcome.recorded == outcome.ends or not cell.is_recorded


@pytest.mark.timeout(900)
@pytest.mark.parametrize("story", marked(STORIES, stories.EVERY_TIME, stories.CONTRACT))
def test_what_goes_on_is_not_paid_again(story: Story, matrix: Matrix) -> None:
    account = matrix.account(story)

    assert account == Account(story.creates, story.cancels, story.live)
