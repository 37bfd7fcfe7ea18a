"""However a run is ended, its predictions end too; and what goes on is not paid again.

Real processes, a real server, real signals. docs/failure-semantics.md is made of the outcomes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
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


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_nothing_is_left_running(cell: Cell, matrix: Matrix) -> None:
    outcome = matrix.outcome(cell)

    assert outcome.live == 0
    assert outcome.creates == cell.creates
    assert set(outcome.ended_by) <= set(cell.by)
    assert outcome.recorded == outcome.ends or not cell.is_recorded


@pytest.mark.timeout(900)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.id)
def test_what_goes_on_is_not_paid_again(story: Story, matrix: Matrix) -> None:
    account = matrix.account(story)

    assert account == Account(story.creates, story.cancels, story.live)
