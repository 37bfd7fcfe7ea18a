"""Which Replicate the demo runs on: one of its own, or the real one."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from prefect_replicate.api.connection import DEFAULT_BASE_URL
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import ConfigurationError

TOKEN = "REPLICATE_API_TOKEN"


@dataclass(frozen=True)
class Replicate:
    """What to call it, and the environment that points to it."""

    name: str
    base_url: str
    env: dict[str, str]

    @property
    def shell(self) -> dict[str, str]:
        """What another shell must set; a token of the user's own it has, or can do without."""
        return self.env if self.env["REPLICATE_BASE_URL"] else {}


@contextmanager
def local_replicate() -> Generator[Replicate, None, None]:
    """Run a local Replicate on free ports for as long as the block lasts."""
    with Emulator() as emulator:
        env = {TOKEN: emulator.token, "REPLICATE_BASE_URL": emulator.base_url}
        yield Replicate("Local Replicate", emulator.base_url, env)


@contextmanager
def real_replicate() -> Generator[Replicate, None, None]:
    """Use Replicate itself, as the user's own account.

    Raises:
        ConfigurationError: There is no token.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise ConfigurationError(
            f"--real needs {TOKEN}; tokens are made at https://replicate.com/account/api-tokens"
        )
    yield Replicate("Replicate", DEFAULT_BASE_URL, {TOKEN: token, "REPLICATE_BASE_URL": ""})
