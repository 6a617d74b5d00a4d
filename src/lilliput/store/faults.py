"""SQLite's errors as Problems: what happened, to which file, and what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from lilliput.neutral import Problem

# By primary result code (https://www.sqlite.org/rescode.html, checked 2026-11-22): a stable word, and the fix.
_KNOWN: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("store_full", "the disk or quota is full: make room, then call again"),
    sqlite3.SQLITE_BUSY: ("store_locked", "another process holds it: end that process, or call again"),
    sqlite3.SQLITE_LOCKED: ("store_locked", "another connection holds it: call again"),
    sqlite3.SQLITE_CORRUPT: ("store_corrupt", "the file is damaged: restore it from a backup"),
    sqlite3.SQLITE_NOTADB: ("store_corrupt", "the file is not a SQLite database: restore it, or move it away"),
    sqlite3.SQLITE_READONLY: ("store_unwritable", "it cannot be written: check its owner, its mode and the mount"),
    sqlite3.SQLITE_CANTOPEN: ("store_unwritable", "it cannot be opened: check its folder's owner and mode"),
    sqlite3.SQLITE_PERM: ("store_unwritable", "it cannot be opened: check its owner and mode"),
    sqlite3.SQLITE_IOERR: ("store_io", "reading or writing failed: check the disk and the system's log"),
}
_PASSING_S = {"store_full": 30.0, "store_locked": 1.0}


def problem(error: Exception, path: Path) -> Problem:
    """The Problem (server, 503) for an error met while using the database at `path`.

    `error` is a sqlite3.Error, or what binding a value raises. The text holds SQLite's message, which names tables and
    columns but never a bound value.
    """
    code, fix = _KNOWN.get(
        getattr(error, "sqlite_errorcode", 0) & 0xFF, ("store_failed", "see `lilliput doctor`, then call again")
    )
    say = f"the database {path} failed ({error}): {fix}"
    return Problem("server", say, code=code, retry_after_s=_PASSING_S.get(code))


def no_access(error: OSError, path: Path) -> Problem:
    """The Problem (server, 503) for a file of ours that the system would not let us make, read or write."""
    return Problem(
        "server",
        f"{path} cannot be used ({error.strerror or error}): check its folder's owner, mode and free space",
        code="store_unwritable",
    )
