"""A database of Prefect's server that need not be made anew for each run of the tests."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import prefect

from prefect_replicate.demo.prefect_server import PrefectServer, prefect_server

_TEMPLATE = Path(sys.prefix) / f".prefect-{prefect.__version__}.db"
"""As a server leaves it that has just started: beside the Prefect whose migrations have made it."""


@contextmanager
def server_from_template(
    home: Path, env: Mapping[str, str]
) -> Generator[PrefectServer, None, None]:
    """Run a Prefect server on SQLite in `home`; half of its time to start is in the template."""
    database = home / "prefect.db"
    if _TEMPLATE.exists():
        database.write_bytes(_TEMPLATE.read_bytes())
        env = {**env, "PREFECT_API_BLOCKS_REGISTER_ON_START": "false"}
    with prefect_server(home, env=env) as server:
        if not _TEMPLATE.exists():
            _keep(database)
        yield server


def _keep(database: Path) -> None:
    # Several processes may do so at once, and one may be stopped in the middle.
    with tempfile.TemporaryDirectory(dir=_TEMPLATE.parent) as folder:
        copy = Path(folder) / "copy.db"
        with closing(sqlite3.connect(database)) as live, closing(sqlite3.connect(copy)) as kept:
            live.backup(kept)
        os.replace(copy, _TEMPLATE)
