"""Processes that end with the block that started them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from prefect_replicate.demo import lifeline


@contextmanager
def running(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    stdout: IO[bytes] | int | None = None,
    stderr: int | None = None,
) -> Generator[subprocess.Popen[bytes], None, None]:
    """Run a Python command line until the block ends, and at the latest until this process does.

    It has a session of its own, so that a Ctrl-C in the terminal reaches this process alone, which
    then stops what it started in its own order.

    Args:
        command: The arguments to `python`.
        env: The whole environment.
        stdout: As `subprocess.Popen` takes it.
        stderr: As `subprocess.Popen` takes it.
    """
    process = subprocess.Popen(
        [sys.executable, str(Path(lifeline.__file__)), sys.executable, *command],
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait()
