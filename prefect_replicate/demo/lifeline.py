"""Run a command that must not outlive the process that started it.

This is a separate script, with the command as its arguments and a pipe as its standard input. When
the pipe is closed, on purpose or by the death of the process at its other end, the command is asked
to stop, and killed with all that it started if it doesn't. It imports the standard library only,
since it is run by its path and must start at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

PATIENCE = 30.0
"""Seconds; a flow run that is asked to stop first cancels its prediction."""


def main(command: list[str]) -> int:
    """Run `command` to its end, or to the end of standard input; return its exit code."""
    # A handler, unlike SIG_IGN, is not inherited by the command.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_stop_at_end_of_input, args=(child,), daemon=True).start()
    return child.wait()


def _stop_at_end_of_input(child: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    # To the whole session, as a terminal does on Ctrl-C: Prefect's runner does not pass a SIGTERM
    # on to its flow runs.
    group = os.getpgid(0)
    os.killpg(group, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(PATIENCE)
        return
    os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    returncode = main(sys.argv[1:])
    sys.exit(returncode if returncode >= 0 else 128 - returncode)
