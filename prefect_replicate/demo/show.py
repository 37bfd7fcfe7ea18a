"""The demo, from its start to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from prefect.exceptions import ObjectNotFound
from rich.console import Console

from prefect_replicate.api.connection import DEFAULT_BASE_URL
from prefect_replicate.demo.prefect_server import PrefectServer, prefect_server, running
from prefect_replicate.demo.served import DEPLOYMENT
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import ConfigurationError
from prefect_replicate.flows.generate_video import generate_video
from prefect_replicate.video.options import DEFAULT_MODEL

TOKEN = "REPLICATE_API_TOKEN"


@dataclass(frozen=True)
class Replicate:
    """A real or local Replicate: its name, and the environment that points to it."""

    name: str
    base_url: str
    env: dict[str, str]

    @property
    def shell(self) -> dict[str, str]:
        """The variables to set in another shell; none for a user's own token."""
        return self.env if self.env["REPLICATE_BASE_URL"] else {}


@contextmanager
def local_replicate() -> Generator[Replicate, None, None]:
    """Run a local Replicate on free ports until the `with` block ends."""
    with Emulator() as emulator:
        env = {TOKEN: emulator.token, "REPLICATE_BASE_URL": emulator.base_url}
        yield Replicate("Local Replicate", emulator.base_url, env)


@contextmanager
def real_replicate() -> Generator[Replicate, None, None]:
    """Use Replicate itself, with the user's own account.

    Raises:
        ConfigurationError: There is no token.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise ConfigurationError(
            f"--real needs {TOKEN}; create a token at https://replicate.com/account/api-tokens"
        )
    yield Replicate("Replicate", DEFAULT_BASE_URL, {TOKEN: token, "REPLICATE_BASE_URL": ""})


PROMPT = "a lighthouse in a storm, waves breaking over the rocks"
_CONSOLE = Console(highlight=False, soft_wrap=True)
_SERVE_SECONDS = 120.0


def show(*, keep: bool, real: bool) -> int:
    """Generate a video, show where to follow it, and return the exit code.

    All that it starts ends with it, even on Ctrl-C, SIGTERM and errors.

    Args:
        keep: Keep all of it running afterwards, until Ctrl-C.
        real: Run on Replicate itself.

    Raises:
        ConfigurationError: Something could not be started.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with (
        real_replicate() if real else local_replicate() as replicate,
        # A flow run that is stopped at the end may still be writing there.
        tempfile.TemporaryDirectory(prefix="prefect-demo-", ignore_cleanup_errors=True) as home,
        _started(Path(home), replicate) as prefect,
    ):
        exit_code = _generate(prefect, replicate)
        if exit_code == 0 and keep:
            _keep(prefect, replicate)
        elif exit_code == 0:
            _say(
                "",
                "Everything is stopped now. Use --keep to keep it running and try more.",
            )
        return exit_code


@contextmanager
def _started(home: Path, replicate: Replicate) -> Generator[PrefectServer, None, None]:
    _tell(replicate.name, replicate.base_url)
    _tell("Prefect server", "starting, which takes 10 to 30 seconds")
    with ExitStack() as stack:
        with _CONSOLE.status("") as status:
            server = stack.enter_context(
                prefect_server(home, lambda seconds: status.update(f"{seconds:.0f} s"))
            )
        _tell("Prefect server", server.ui_url)
        yield server


def _generate(prefect: PrefectServer, replicate: Replicate) -> int:
    """Run the command that users run, in a process with the demo's settings."""
    command = ["-m", "prefect_replicate.cli", "generate", DEFAULT_MODEL, "--prompt", PROMPT]
    _tell("Running", f"prefect-replicate generate {DEFAULT_MODEL} --prompt '{PROMPT}'")
    _say("")
    with running(command, prefect.env | replicate.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        path = process.stdout.read().decode().strip()
        exit_code = process.wait()
    if exit_code == 0:
        _say("")
        _tell("Video", path)
    return exit_code


def _keep(prefect: PrefectServer, replicate: Replicate) -> None:
    command = ["-m", "prefect_replicate.demo.served"]
    with running(command, prefect.env | replicate.env) as process:
        deployment = _deployment_id(prefect, process)
        _invite(prefect, replicate, deployment)
        try:
            process.wait()
        except KeyboardInterrupt:
            _say("", "Stopping everything.")
            prefect.cancel_flow_runs()


def _deployment_id(prefect: PrefectServer, process: subprocess.Popen[bytes]) -> UUID:
    give_up = time.monotonic() + _SERVE_SECONDS
    with prefect.client() as client:
        while process.poll() is None and time.monotonic() < give_up:
            with suppress(ObjectNotFound):
                name = f"{generate_video.name}/{DEPLOYMENT}"
                return client.read_deployment_by_name(name).id
            time.sleep(0.2)
    raise ConfigurationError("The deployment could not be served.")


def _invite(prefect: PrefectServer, replicate: Replicate, deployment: UUID) -> None:
    _tell("Press Run", f"{prefect.ui_url}/deployments/deployment/{deployment}")
    _say(
        "", "There, Run > Quick run or Custom run asks for a prompt; everything else has a default."
    )
    _say("To use them from another shell:", "")
    for name, value in {"PREFECT_API_URL": prefect.api_url, **replicate.shell}.items():
        _say(f"  export {name}={value}")
    _say("", "Ctrl-C stops everything.", "")


def _tell(name: str, value: str) -> None:
    _CONSOLE.print(f"{name:<16} {value}", markup=False)


def _say(*lines: str) -> None:
    for line in lines:
        _CONSOLE.print(line, markup=False)
