"""Locks that the operating system drops when their process ends, however it ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":

    def open_locked(path: Path, flags: int) -> int | None:
        return None  # no lock that is dropped at death: every call works under a name of its own

else:
    import fcntl

    def open_locked(path: Path, flags: int) -> int | None:
        """Open a file or folder and lock it; `None` where another call holds it.

        Raises:
            OSError: It can't be opened.
        """
        descriptor = os.open(path, flags, 0o666)
        with suppress(OSError):  # held, renamed or removed meanwhile, or a volume without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)
        return None
