"""One number shared by every process on a database, which changes whenever keys change.

It lives in an 8-byte file beside the database, mapped into memory, so comparing it costs tens of nanoseconds. It works
as a sequence lock: odd from just before a commit to just after it. A writer that dies in between leaves it odd, which
costs the others their caches and nothing else, until the next one to take the lock makes it even.
The file belongs to the database as its -wal file does: removing it under a running process cuts the signal.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from lilliput.neutral import Problem
from lilliput.store import faults

_BYTES = 8
_POLL_S = 0.005


class Epoch:
    """The number in the file at `path`, which is made (mode 0600) where it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
            # Growing a file to a size that it has changes nothing, so processes that start together may all do it.
            self._file.truncate(_BYTES)
            self.view = memoryview(mmap.mmap(self._file.fileno(), _BYTES)).cast("Q")
        except OSError as e:
            raise faults.no_access(e, path) from None

    @contextmanager
    def lock(self, wait_s: float) -> Iterator[None]:
        """Keep every other process from changing keys; Problem "store_locked" when they do not let go in `wait_s`."""
        for _ in range(int(wait_s / _POLL_S) + 1):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_POLL_S)
        else:
            say = f"another process has held {self.path} for {wait_s:g} s: end that process, or call again"
            raise Problem("server", say, code="store_locked", retry_after_s=1.0)
        try:
            self.view[0] = self._even()
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    @contextmanager
    def change(self) -> Iterator[None]:
        """Around a commit that changes keys, with `lock` held: odd inside, a new even number after, failed or not."""
        self.view[0] |= 1
        try:
            yield
        finally:
            self.view[0] = self._even()

    def close(self) -> None:
        """Let go of the file; the number stays readable for whoever still looks."""
        self._file.close()

    def _even(self) -> int:
        now = self.view[0]
        return (now + (now & 1)) % 2**64
