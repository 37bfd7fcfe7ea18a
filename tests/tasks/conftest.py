from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from benchmarks.local_account import TOKEN, URL, LocalAccount, Network, as_a_new_process
from benchmarks.virtual_time import VirtualTimeLoop
from certificates import certificate
from replicate.client import Client
from scripted_api import ScriptedAPI, served

from prefect_replicate import Prediction, create_prediction
from prefect_replicate.api import connection
from prefect_replicate.emulator import Emulator


def pytest_asyncio_loop_factories(
    item: pytest.Function,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The tests that ask for an account in virtual time run on a loop that jumps."""
    if "account" in item.fixturenames:
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture
def our_clock() -> float:
    """How many seconds this machine's clock is ahead of Replicate's."""
    return 0.0


@pytest.fixture
async def account(monkeypatch: pytest.MonkeyPatch, our_clock: float) -> AsyncIterator[LocalAccount]:
    """A Replicate within this process. Its time, the engine's and the test's are that of one loop.

    So nothing is waited for, and the same happens each time.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
    monkeypatch.setenv("REPLICATE_BASE_URL", URL)
    with as_a_new_process(loop, seed=1):
        account = LocalAccount(rate_limits="off", clock_ahead=-our_clock)

        def client(**settings: Any) -> Client:
            return Client(**{**settings, "transport": Network(account, seed=1)})

        monkeypatch.setattr(connection, "Client", client)
        yield account


@pytest.fixture
def running(still: Emulator) -> Prediction:
    """A prediction that runs until the clock is moved by 1000 s."""
    return create_prediction.fn("emulator/timer", {"seconds": 1000})


@pytest.fixture
def scripted() -> Iterator[ScriptedAPI]:
    with served() as api:
        yield api


@pytest.fixture
def scripted_tls(tmp_path: Path) -> Iterator[ScriptedAPI]:
    """A scripted API behind TLS, with a certificate, cert.pem, that nobody vouches for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(tmp_path, "localhost"))
    with served(context) as api:
        yield api
