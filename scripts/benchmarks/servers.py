"""A Prefect server and a local Replicate for what is measured."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect_replicate.demo.prefect_server import prefect_server
from prefect_replicate.emulator import Emulator


@contextmanager
def environment_of_servers() -> Generator[dict[str, str]]:
    """Run both for as long as the block lasts, and yield the environment that points to them."""
    with (
        TemporaryDirectory() as home,
        Emulator() as emulator,
        prefect_server(Path(home)) as server,
    ):
        yield server.env | {
            "REPLICATE_API_TOKEN": emulator.token,
            "REPLICATE_BASE_URL": emulator.base_url,
        }
