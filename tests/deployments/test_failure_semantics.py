"""However a run is ended, its predictions end too: real processes, a real server, real signals."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from endings.cells import CELLS, Cell
from endings.house import House
from endings.play import Matrix
from endings.witness import Witness

from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.emulator import Emulator


@pytest.fixture(scope="session")
def matrix(
    request: pytest.FixtureRequest,
    prefect_server: PrefectServer,
    replicate: Emulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Matrix]:
    """All selected cells, which are played several at a time from now on."""
    chosen = [cell for item in request.session.items if (cell := cell_of(item))]
    flows = {
        place: {cell.flow for cell in chosen if cell.place == place}
        for place in ("serve", "worker")
    }
    folder = tmp_path_factory.mktemp("endings")
    with Witness(replicate.base_url) as witness:
        house = House(prefect_server, replicate, witness, folder, flows)
        with Matrix(chosen, house) as matrix:
            yield matrix
        house.stop()
    write_results(matrix)


def write_results(matrix: Matrix) -> None:
    """For scripts/failure-semantics, which makes the tables of the document of them."""
    if path := os.environ.get("FAILURE_SEMANTICS_RESULTS"):
        rows = [{"cell": asdict(cell), **asdict(one)} for cell, one in matrix.known().items()]
        Path(path).write_text(json.dumps(rows, indent=1))


def flows_of(cells: list[Cell], place: str) -> set[str]:
    """What the shared process of a place must have."""
    own = {cell.flow for cell in cells if cell.place == place}
    return own | ({"generate_video"} if "client" in own else set())


def cell_of(item: pytest.Item) -> Cell | None:
    call = getattr(item, "callspec", None)
    cell = call.params.get("cell") if call else None
    return cell if isinstance(cell, Cell) else None


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_nothing_is_left_running(cell: Cell, matrix: Matrix) -> None:
    outcome = matrix.outcome(cell)

    assert outcome.live == 0
    assert outcome.creates == cell.creates
    assert set(outcome.by) <= set(cell.by)
    assert outcome.recorded == outcome.ends or not cell.is_recorded
