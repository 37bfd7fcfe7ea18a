"""A partly downloaded file."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO
from uuid import uuid4

if sys.platform == "win32":

    def open_locked(path: Path, flags: int) -> int | None:
        return None  # no lock that a dying process releases: each call uses its own file name

else:
    import fcntl

    def open_locked(path: Path, flags: int) -> int | None:
        """Open a file or folder and lock it; return `None` if another call holds the lock.

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


_AS_IT_IS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Follow no link that somebody else put there, and don't wait for the other end of a pipe."""

_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
_LONGEST_ETAG = 1000
_BLOCK = 1024 * 1024
_FLUSHED_AT_ONCE = 64 * 1024 * 1024
# A full disk or quota, or a file size limit: keeping the part would keep it full.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def _as_it_is(path: str, flags: int) -> int:
    return os.open(path, flags | _AS_IT_IS, 0o666)


def _is_ours(found: os.stat_result) -> bool:
    """Return whether nobody else controls the file; in a shared folder, somebody may."""
    is_own = sys.platform == "win32" or found.st_uid == os.geteuid()
    return S_ISREG(found.st_mode) and is_own and found.st_nlink <= 1


class PartFile:
    """The bytes of one file received so far, under a hidden name next to the final one.

    `.{stem}.part` is locked while a call writes to it. If the call is interrupted, the part stays,
    with the ETag of its bytes in `.{stem}.part.etag`, and the next call resumes from there. A
    concurrent second call uses its own file name. Every method blocks.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._path = folder / f".{stem}.part"
        self._file: FileIO | None = None
        self._is_shared = True
        self._digest = hashlib.sha256()
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="replicate-output")
        self._flushing: Future[None] | None = None
        self._flushed = 0
        self.size = 0
        self.etag: str | None = None

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def open(self) -> None:
        """Resume the part that an earlier call left, or start a new one."""
        descriptor = self._open_shared()
        if descriptor is None:
            self._is_shared = False
            self._path = self._path.with_suffix(f".{uuid4().hex}.part")
            self._file = FileIO(self._path, "x+")
            return
        self._file = FileIO(descriptor, "a+")
        self.etag = self._written_etag()
        if self.etag is not None:
            self._file.seek(0)
            self.size = feed(self._digest.update, self._file)
        else:
            self._file.truncate(0)

    def _open_shared(self) -> int | None:
        """Open the part that calls share; return `None` if another call has it or it isn't ours."""
        descriptor = None
        with suppress(OSError):  # an error of the folder is raised again by our own part's creation
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _AS_IT_IS
            descriptor = open_locked(self._path, flags)
        if descriptor is not None and not _is_ours(found := os.fstat(descriptor)):
            os.close(descriptor)
            if not found.st_size:  # maybe just created by us, on a disk that changes the owner
                self._path.unlink(missing_ok=True)
            return None
        return descriptor

    def _written_etag(self) -> str | None:
        """Read the ETag of the part's bytes, if it is a valid one."""
        with suppress(OSError, ValueError), open(self._etag_path, opener=_as_it_is) as file:
            etag = file.read(_LONGEST_ETAG + 1) if _is_ours(os.fstat(file.fileno())) else ""
            return etag if _ETAG.fullmatch(etag) and len(etag) <= _LONGEST_ETAG else None
        return None

    def restart(self, etag: str | None) -> None:
        """Discard the bytes, and start over with those of the file that `etag` identifies."""
        self._opened.truncate(0)
        self._opened.seek(0)
        self._digest = hashlib.sha256()
        self.size = self._flushed = 0
        self.etag = etag
        # After the truncation, so that bytes never have an ETag that is not theirs.
        self._forget_etag()
        if etag is not None and self._is_shared:
            try:
                with self._etag_path.open("x") as file:
                    file.write(etag)
            except OSError:  # somebody else put something there: the next call starts over
                self.etag = None

    def write(self, chunk: bytes | bytearray) -> None:
        view = memoryview(chunk)
        with self._discarded_when_full():
            while view:
                view = view[self._opened.write(view) :]
            self._flush_behind()
        self._digest.update(chunk)
        self.size += len(chunk)

    def _flush_behind(self) -> None:
        """Flush what has arrived to disk while more arrives, which makes `finish` short."""
        if self.size - self._flushed < _FLUSHED_AT_ONCE or not self._is_flushed():
            return
        self._flushed = self.size
        self._flushing = self._flusher.submit(os.fsync, self._opened.fileno())

    def _is_flushed(self) -> bool:
        if self._flushing is None:
            return True
        if self._flushing.done():
            self._flushing.result()  # a failed disk reports it only once
            return True
        return False

    def head(self) -> bytes:
        """The first bytes."""
        self._opened.seek(0)
        return self._opened.read(64)

    def finish(self, final: Path) -> None:
        """Give the file its final name, replacing any file that has it."""
        with self._discarded_when_full():
            if self._flushing is not None:
                self._flushing.result()
            os.fsync(self._opened.fileno())
        with self._released():
            os.replace(self._path, final)
            self._forget_etag()

    def discard(self) -> None:
        """Remove the part; the next call starts over."""
        if self._file is None or self._file.closed:
            return
        with self._released():
            self._forget_etag()
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep the part for the next call, if that can resume it."""
        self._flusher.shutdown()  # waits: its file is about to be closed
        if self._file is None or self._file.closed:
            return
        if not self.size or self.etag is None or not self._is_shared:
            self.discard()
        self._file.close()

    @contextmanager
    def _released(self) -> Generator[None]:
        """Close the file around its rename or removal.

        The lock is released after the change, or another call could take the part and write to it.
        Without a lock the file is closed before, since Windows can't rename or remove open files.
        """
        if not self._is_shared:
            self._opened.close()
        yield
        self._opened.close()

    @contextmanager
    def _discarded_when_full(self) -> Generator[None]:
        try:
            yield
        except OSError as exc:
            if exc.errno in _FULL:
                self.discard()
            raise

    @property
    def _opened(self) -> FileIO:
        assert self._file is not None, "open() comes first"
        return self._file

    def _forget_etag(self) -> None:
        with suppress(OSError):  # missing, or a folder of somebody else's
            self._etag_path.unlink()

    @property
    def _etag_path(self) -> Path:
        return self._path.with_name(f"{self._path.name}.etag")


def feed(update: Callable[[bytes], object], file: BinaryIO | FileIO) -> int:
    """Pass the rest of `file` to a hash's `update`, and return the number of bytes."""
    size = 0
    while block := file.read(_BLOCK):
        update(block)
        size += len(block)
    return size
