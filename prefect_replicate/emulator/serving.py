"""The emulator in the foreground, for demos and for processes of other languages."""

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
    """Run the emulator until Ctrl-C or SIGTERM, and say on `out` how to reach it.

    Args:
        port: Port of the API; 0 takes a free one.
        files_port: Port of the file host; 0 takes a free one.
        token: The API token that is accepted.
        speed: Seconds that pass for the models in one real second.
        behaviour: What the platform is like.
        schemas: Models to add, as `owner/name`, and the files with the schemas of their versions.
        official: Whether the added models are official, and also run by `owner/name`.
        out: Standard output, if not given.

    Raises:
        OSError: The port is taken.
        ValueError: An argument or a schema makes no sense; the message says which.
    """
    emulator = Emulator(port, files_port=files_port, token=token, speed=speed, behaviour=behaviour)
    added = [
        emulator.add_model(name, read_schema(file), is_official=official)
        for name, file in (schemas or {}).items()
    ]
    # A container is stopped by SIGTERM, which would otherwise end it without a word.
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
    """Write where the emulator is, what was added, and the lines that point a shell to it."""
    lines = (
        f"A local Replicate is listening on {emulator.base_url}",
        f"  token    {emulator.token}",
        f"  files    {emulator.files_url}",
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
