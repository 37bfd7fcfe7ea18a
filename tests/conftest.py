"""What all tests share. Nothing here reads the settings, keys or files of who runs them."""

from __future__ import annotations

import logging
import os
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import leftovers
import pytest
from benchmarks.signals import pass_on_no_ignored_signal
from postgresql import postgresql

if TYPE_CHECKING:
    from prefect_replicate import PollPolicy
    from prefect_replicate.demo.prefect_server import PrefectServer
    from prefect_replicate.emulator import Emulator

# Before Prefect is imported, which reads its profile and keeps its files there.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="prefect-replicate-tests-")
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
os.environ["PREFECT_INTEGRATIONS_REPLICATE_DESTINATION"] = f"{os.environ['PREFECT_HOME']}/outputs"

# Images of containers often set this, and each of a hundred processes then compiles Prefect anew,
# which takes it 4 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No test reaches a host by TLS, and to read all authorities takes 20 ms, in each client.
_one_authority = Path(os.environ["PREFECT_HOME"]) / "authority.pem"
_end = "-----END CERTIFICATE-----\n"
_one_authority.write_text(Path(certifi.where()).read_text().partition(_end)[0] + _end)
os.environ["SSL_CERT_FILE"] = str(_one_authority)

pass_on_no_ignored_signal()

pytest_plugins = ["prefect_replicate.emulator.fixtures", "pytester"]


def pytest_configure() -> None:
    leftovers.mark_what_is_started()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """What a failing test has started ends with it."""
    began = leftovers.now()
    try:
        return (yield)
    except BaseException as outcome:
        if not isinstance(outcome, pytest.skip.Exception):
            leftovers.end(leftovers.started_since(began))
        raise


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", choices=["sqlite", "postgresql"], default="sqlite",
                     help="What the Prefect servers of the tests keep their data in.")  # fmt: skip
    parser.addoption("--all", action="store_true",
                     help="Also the tests that take minutes, marked as full.")  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, if it was not asked for."""
    if config.getoption("--all"):
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def _no_account_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """Without the emulator, a test has no token and reaches nobody."""
    monkeypatch.delenv("REPLICATE_API_TOKEN", raising=False)
    monkeypatch.delenv("REPLICATE_BASE_URL", raising=False)


@pytest.fixture(autouse=True)
def _nothing_learnt_in_earlier_tests() -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """Limits, times and durations of an account, which other tests use too."""
    if "prefect_replicate.api.connection" in sys.modules:
        from prefect_replicate.api.connection import forget_what_was_learnt

        forget_what_was_learnt()


@pytest.fixture(scope="session")
def database_env(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The environment by which a Prefect server uses the database that was asked for."""
    if request.config.getoption("--database") == "sqlite":
        yield {}
        return
    # A socket's path must be short, and every folder above it open to PostgreSQL's own user.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder, postgresql(Path(folder)) as url:
        yield {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url}


@pytest.fixture(scope="session")
def prefect_server(
    database_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrefectServer]:
    """A real Prefect server; `env` is the environment for processes that are to use it."""
    from prefect_database import server_from_template

    from prefect_replicate.demo import prefect_server

    home = tmp_path_factory.mktemp("prefect")
    own = prefect_server.without_prefect_settings() | {leftovers.KEPT: "until the last test"}
    # What is said by an event can be read soon.
    own |= {"PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.1"}
    running = prefect_server.prefect_server if database_env else server_from_template
    with running(home, env=own | database_env) as server:
        server.env.pop(leftovers.KEPT)
        yield server


@pytest.fixture(scope="session")
def prefect_api(prefect_server: PrefectServer) -> Iterator[None]:
    """That server, for the flows of this process.

    Without heartbeats, whose thread a sync flow waits for at its end, for up to a second.
    """
    from prefect.context import _temporary_global_settings_context, get_settings_context
    from prefect.logging.handlers import APILogHandler
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    own = {
        PREFECT_API_URL: prefect_server.api_url,
        PREFECT_CLIENT_MAX_RETRIES: 20,  # since they come soon
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with (
        temporary_settings(own),
        # As Prefect's test harness does it, for threads that tests start.
        _temporary_global_settings_context(get_settings_context()),
        _soon_retried(),
    ):
        yield
        APILogHandler().flush()  # or the process tries for a minute at its end, without the server


@contextmanager
def _soon_retried() -> Generator[None, None, None]:
    """Let Prefect's client come again soon where SQLite was locked, instead of after 2, 4, 8 s.

    So it is for several who delete artifacts at once: the server reads in that transaction before
    it writes, which SQLite refuses at once if another has written meanwhile.
    """
    import httpx

    send = httpx.AsyncHTTPTransport.handle_async_request

    async def hurried(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        response = await send(self, request)
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            response.headers.setdefault("Retry-After", f"{random.uniform(0.02, 0.2):.3f}")
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", hurried)
        yield


@pytest.fixture
def quick() -> PollPolicy:
    from prefect_replicate import PollPolicy

    return PollPolicy(min_interval=0.01, max_interval=0.02)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], None]:
    """Wait until a condition holds, and fail if it never does."""

    def eventually(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "the condition never came to hold"
            time.sleep(0.005)

    return eventually


@pytest.fixture
def still(replicate_emulator: Emulator) -> Emulator:
    """The emulator with its time standing still, so that nothing ends by itself."""
    replicate_emulator.clock.speed = 0
    return replicate_emulator


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str], tuple[object, str, str]]]:
    """Run a command line in this process; gives its exit code and what it wrote."""

    from prefect_replicate.cli import main

    def run(line: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["prefect-replicate", *shlex.split(line)])
        with pytest.raises(SystemExit) as exit:
            main()
        return exit.value.code, *capsys.readouterr()

    # A process that ends with its command may change what is logged, and how, for good.
    loggers = [logging.getLogger(name) for name in (None, "prefect", "EventsWorker")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield run
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def connects_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's client tries to connect four times, and httpcore sleeps in between."""
    for one in ("_sync", "_async"):
        monkeypatch.setattr(f"httpcore.{one}.connection.RETRIES_BACKOFF_FACTOR", 0.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after one attempt, and look for lost creates without a pause."""
    from prefect_replicate.api import connection
    from prefect_replicate.lifecycle import adoption

    monkeypatch.setattr(connection, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(adoption, "FIRST_PAUSE", 0.0)
