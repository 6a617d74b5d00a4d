"""A process's journal: the requests that it runs and those that ended, in a file that outlives a kill -9.

The file is mapped into memory and its space is reserved beforehand, so that a record costs no system call and a full
disk is told before anything goes out. What was written survives the death of the process, not that of the machine: as
with SQLite's `synchronous = NORMAL`. What the records mean is for `journal_ledger`.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct
from typing import Any
from zlib import crc32

from msgspec import DecodeError, msgpack

from lilliput.neutral import Problem
from lilliput.store import faults

SIZE_BYTES = 1 << 20
"""Of a file, at least: some thousand requests."""
_HEAD = Struct("<8sQ")
_MAGIC = b"lilJ0001"
_FRAME = Struct("<II")
"""Before each record: its length, which is never 0, and its CRC-32."""
_POLL_S, _POLLS = 0.002, 500


class Journal:
    """The one of this process, in `folder`; it has no file before the first `rewrite`."""

    def __init__(self, folder: Path) -> None:
        self.id = secrets.token_hex(8)
        self._folder = folder
        self._path = folder / self.id
        self._fd = -1
        self._map: mmap.mmap | bytearray = bytearray()
        self._at = self._end = self._room = 0

    def append(self, record: bytes, *, begins: bool) -> bool:
        """Whether there was room for it; records that begin something leave a quarter of the file to those that end."""
        at = self._at
        end = at + 8 + len(record)
        if end > (self._room if begins else self._end):
            return False
        self._map[at:end] = _FRAME.pack(len(record), crc32(record)) + record
        self._at = end
        return True

    def rewrite(self, since: int, records: Iterable[bytes]) -> None:
        """Go on in a new file that begins with these, the first end of which has the number `since`, and has room.

        Raises Problem (503), and the old file is as it was.
        """
        data = b"".join([_HEAD.pack(_MAGIC, since), *(_FRAME.pack(len(r), crc32(r)) + r for r in records)])
        size = max(SIZE_BYTES, 4 * len(data))
        new = self._path.with_suffix(".new")
        fd = -1
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(self._folder):
                try:
                    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    with open(fd, "wb", closefd=False) as file:
                        file.write(data.ljust(size, b"\0"))
                    view = mmap.mmap(fd, size)
                    os.rename(new, self._path)
                except OSError:
                    with suppress(OSError):
                        new.unlink()
                    if fd >= 0:
                        os.close(fd)
                    raise
        except OSError as e:
            raise faults.no_access(e, self._path) from None
        self._let_go()
        self._fd, self._map = fd, view
        self._at, self._end, self._room = len(data), size, size - size // 4

    def close(self, *, is_done: bool) -> None:
        """Let go of the file, which is removed when nothing in it is needed; calling it again does nothing."""
        if is_done and self._fd >= 0:
            self._path.unlink(missing_ok=True)
        self._let_go()

    def _let_go(self) -> None:
        self._at = self._end = self._room = 0
        if self._fd >= 0:
            assert isinstance(self._map, mmap.mmap)
            self._map.close()
            os.close(self._fd)
            self._fd = -1


def alive(folder: Path) -> list[str]:
    """The journals whose processes live on this machine."""
    found = []
    for path in _files(folder):
        with _orphan(path) as data:
            if data is None and path.exists():
                found.append(path.name)
    return found


@contextmanager
def _orphan(path: Path) -> Iterator[bytes | None]:
    """What is in a journal whose process is dead, which is nobody else's meanwhile; None for any other."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(fd), path.stat())
        except OSError:  # its process lives, or another has just removed it
            is_ours = False
        if not is_ours:
            yield None
            return
        with open(fd, "rb", closefd=False) as file:
            yield file.read()
    finally:
        os.close(fd)


@contextmanager
def orphan(folder: Path, id: str) -> Iterator[tuple[int, list[Any]] | None]:
    """The journal `id` of a process that is dead: the number of its first end, and its records; None for any other. No
    other process has it meanwhile."""
    with _orphan(folder / id) as data:
        yield None if data is None else read(data)


def forget(folder: Path, id: str) -> None:
    """Remove an orphan that is landed."""
    with suppress(OSError):
        (folder / id).unlink()


def ids(folder: Path) -> list[str]:
    """The journals there are, whosoever. Files that were left half made go."""
    if not folder.is_dir():
        return []
    with suppress(Problem), _locked(folder):
        for path in folder.glob("*.new"):
            path.unlink(missing_ok=True)
    return [path.name for path in _files(folder)]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.suffix) if folder.is_dir() else []


def read(data: bytes) -> tuple[int, list[Any]]:
    """The number of the first end, and all records up to the first that was not written whole."""
    if len(data) < _HEAD.size or data[:8] != _MAGIC:
        return 0, []
    _, since = _HEAD.unpack_from(data)
    at, records = _HEAD.size, list[Any]()
    decode = msgpack.Decoder().decode
    while at + _FRAME.size <= len(data):
        size, crc = _FRAME.unpack_from(data, at)
        record = data[at + _FRAME.size : at + _FRAME.size + size]
        if not size or len(record) < size or crc32(record) != crc:
            break
        with suppress(DecodeError):
            records.append(decode(record))
        at += _FRAME.size + size
    return since, records


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else makes a journal here meanwhile."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(_POLLS):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_POLL_S)
        else:
            say = f"another process holds {folder}: end that process, or call again"
            raise Problem("server", say, code="store_locked", retry_after_s=1.0)
        yield
    finally:
        os.close(fd)
