from collections.abc import Iterator

import httpx
import pytest

from prefect_replicate.emulator import Emulator

# Only the conftest at the root may name plugins, and these tests also run alone.
from prefect_replicate.emulator.fixtures import (  # noqa: F401 pytest finds them here
    _replicate_emulator_server,
    replicate_emulator,
)


@pytest.fixture(scope="session")
def connection(_replicate_emulator_server: Emulator) -> Iterator[httpx.Client]:  # noqa: F811 above
    emulator = _replicate_emulator_server
    headers = {"authorization": f"Bearer {emulator.token}"}
    with httpx.Client(base_url=f"{emulator.base_url}/v1", headers=headers) as client:
        yield client


@pytest.fixture
def api(replicate_emulator: Emulator, connection: httpx.Client) -> httpx.Client:  # noqa: F811 above
    """A client of the API; one for all tests, as loading certificates takes 30 ms."""
    return connection


@pytest.fixture
def still(replicate_emulator: Emulator) -> Emulator:  # noqa: F811 the fixture above
    """The emulator with its time standing still."""
    replicate_emulator.clock.speed = 0
    return replicate_emulator
