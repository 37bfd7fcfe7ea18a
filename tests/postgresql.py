"""A PostgreSQL server for as long as a block of code lasts."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import leftovers
import pytest

START_SECONDS = 30.0


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Run a server that keeps its data in `folder`, and yield the URL by which Prefect reaches it.

    It listens on a socket in that folder. Where there is no PostgreSQL, the test is skipped.
    """
    programs = _programs()
    # PostgreSQL refuses to run as root; Debian's packages bring a user for it.
    user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    if user:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    create = [programs / "initdb", "-D", data, "-U", "prefect", "-A", "trust", "--no-sync"]
    subprocess.run(create, check=True, stdout=subprocess.DEVNULL, cwd=folder, **user)
    start = [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="]
    with (folder / "log.txt").open("wb") as log:
        env = os.environ | {leftovers.KEPT: "until the last test"}
        server = subprocess.Popen(start, stdout=log, stderr=log, cwd=folder, env=env, **user)
        try:
            _wait_for(folder / ".s.PGSQL.5432", server, folder / "log.txt")
            yield f"postgresql+asyncpg://prefect:@/postgres?host={folder}"
        finally:
            server.terminate()
            server.wait()


def _programs() -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    on_path = shutil.which("initdb")
    if not installed and on_path is None:
        pytest.skip("there is no PostgreSQL here (Debian's package postgresql)")
    return installed[-1] if installed else Path(str(on_path)).parent


def _wait_for(socket: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while not socket.exists():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.05)
