from collections.abc import Iterator

import pytest

from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.demo.prefect_server import prefect_server as running_server
from prefect_replicate.emulator import Emulator


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A real Prefect server; `env` is the environment for processes that are to use it."""
    with running_server(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(scope="session")
def replicate() -> Iterator[Emulator]:
    """A local Replicate in this process, which other processes can reach."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def run_env(prefect_server: PrefectServer, replicate: Emulator) -> dict[str, str]:
    """The environment of a process that runs flows on that server and that Replicate."""
    return prefect_server.env | {
        "REPLICATE_API_TOKEN": replicate.token,
        "REPLICATE_BASE_URL": replicate.base_url,
    }
