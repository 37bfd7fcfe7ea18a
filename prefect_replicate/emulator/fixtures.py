"""The emulator as a pytest fixture: `pytest_plugins = ["prefect_replicate.emulator.fixtures"]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from prefect_replicate.emulator.server import Emulator


@pytest.fixture(scope="session")
def _replicate_emulator_server() -> Iterator[Emulator]:  # pyright: ignore[reportUnusedFunction] pytest calls it
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def replicate_emulator(
    _replicate_emulator_server: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Emulator:
    """A fresh local Replicate that the environment points to.

    One server runs for the whole session. Before each test it is reset, and so is what this process
    has learned about it.
    """
    emulator = _replicate_emulator_server
    emulator.reset()
    _forget_what_was_learnt()
    monkeypatch.setenv("REPLICATE_API_TOKEN", emulator.token)
    monkeypatch.setenv("REPLICATE_BASE_URL", emulator.base_url)
    return emulator


def _forget_what_was_learnt() -> None:
    """Forget its rate limits, its time, what was uploaded, and how long predictions took."""
    if "prefect_replicate.api.connection" in sys.modules:
        from prefect_replicate.api.connection import forget_what_was_learnt

        forget_what_was_learnt()
