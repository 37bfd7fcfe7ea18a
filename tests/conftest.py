"""What all tests share. Nothing here reads the settings, keys or files of who runs them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from prefect_replicate import PollPolicy
    from prefect_replicate.emulator import Emulator

# Before Prefect is imported, which reads its profile and keeps its files there.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="prefect-replicate-tests-")
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"

pytest_plugins = ["prefect_replicate.emulator.fixtures"]


@pytest.fixture(autouse=True)
def _no_account_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """Without the emulator, a test has no token and reaches nobody."""
    monkeypatch.delenv("REPLICATE_API_TOKEN", raising=False)
    monkeypatch.delenv("REPLICATE_BASE_URL", raising=False)


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """A Prefect server for those who ask; it takes 13 s to start."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def quick() -> PollPolicy:
    from prefect_replicate import PollPolicy

    return PollPolicy(min_interval=0.01, max_interval=0.02)


@pytest.fixture
def still(replicate_emulator: Emulator) -> Emulator:
    """The emulator with its time standing still, so that nothing ends by itself."""
    replicate_emulator.clock.speed = 0
    return replicate_emulator


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after one attempt, and look for lost creates without a pause."""
    from prefect_replicate.api import connection
    from prefect_replicate.lifecycle import adoption

    monkeypatch.setattr(connection, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(adoption, "FIRST_PAUSE", 0.0)
