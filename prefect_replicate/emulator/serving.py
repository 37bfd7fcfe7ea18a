"""The emulator in the foreground, for demos and for processes in other languages."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from prefect_replicate.emulator.behaviour import Behaviour
from prefect_replicate.emulator.models.custom import read_schema
from prefect_replicate.emulator.platform import DEFAULT_TOKEN
from prefect_replicate.emulator.server import Emulator

DEFAULT_PORT = 5005


def serve(
    port: int = DEFAULT_PORT,
    *,
    files_port: int = 0,
    token: str = DEFAULT_TOKEN,
    speed: float = 1.0,
    behaviour: Behaviour | None = None,
    schemas: Mapping[str, Path] | None = None,
    official: bool = False,
    out: TextIO | None = None,
) -> None:
    """Run the emulator until Ctrl-C or SIGTERM, and write to `out` how to reach it.

    Args:
        port: Port of the API; 0 picks a free one.
        files_port: Port of the file host; 0 picks a free one.
        token: The API token that it accepts.
        speed: Seconds of the models' time per real second.
        behaviour: How the platform behaves.
        schemas: Models to add, as `owner/name`, and the files with the schemas of their versions.
        official: Whether the added models are official, and also run as `owner/name`.
        out: Where to write; by default, standard output.

    Raises:
        OSError: The port is taken.
        ValueError: An argument or a schema is invalid; the message says which.
    """
    emulator = Emulator(port, files_port=files_port, token=token, speed=speed, behaviour=behaviour)
    added = [
        emulator.add_model(name, read_schema(file), is_official=official)
        for name, file in (schemas or {}).items()
    ]
    # Containers are stopped by SIGTERM, which would otherwise kill the process at once.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with emulator:
            print_greeting(emulator, out or sys.stdout, added)
            threading.Event().wait()
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, previous)


def print_greeting(emulator: Emulator, out: TextIO, added: Sequence[str] = ()) -> None:
    """Write the emulator's address, the added models, and the lines that point a shell at it."""
    lines = (
        f"A local Replicate is listening on {emulator.base_url}",
        f"  token    {emulator.token}",
        f"  files    {emulator.files_url}",
        f"  models   such as emulator/timer; all are listed at {emulator.base_url}/_emulator",
        f"  control  {emulator.base_url}/_emulator",
        *(f"  model    {version}" for version in added),
        "",
        f"export REPLICATE_API_TOKEN={emulator.token}",
        f"export REPLICATE_BASE_URL={emulator.base_url}",
        "",
        "Ctrl-C stops it.",
    )
    out.write("\n".join(lines) + "\n")
    out.flush()
