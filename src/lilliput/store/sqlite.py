"""The default store: one SQLite file in WAL mode, read on the caller's thread and written by a thread of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from msgspec import json

from lilliput.neutral import Key, Problem
from lilliput.store import faults
from lilliput.store.epoch import Epoch
from lilliput.store.migrate import upgrade
from lilliput.store.port import KeyRow
from lilliput.store.writer import Writer

T = TypeVar("T")
SCHEMA = Path(__file__).with_name("schema")
FIND_KEY = """
SELECT digest, id, name, team, models, created_at, expires_at, revoked_at, local FROM api_key WHERE digest = ?
"""
LIST_KEYS = """
SELECT digest, id, name, team, models, created_at, expires_at, revoked_at, local FROM api_key ORDER BY created_at, id
"""
ADD_KEY = """
INSERT INTO api_key (digest, id, name, team, models, created_at, expires_at, revoked_at, local)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
REVOKE_KEY = "UPDATE api_key SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
NOTED = "SELECT value FROM note WHERE name = ?"
NOTE = "INSERT INTO note (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING"
_READ_WAIT_S = 0.1
"""In WAL mode a read waits for no writer; it may meet the recovery after another process's crash, for milliseconds."""

_Row = tuple[bytes, str, str, str, str, float, float | None, float | None, int]


class SqliteStore:
    """The store in the file at `path`, made or brought to the newest version on the way in.

    Opening blocks, for milliseconds, and raises Problem (server, 503). Every process opens its own, after it forked.
    The file and those beside it (-wal, -shm, .epoch) are readable by their owner alone and belong on a local disk.
    `wait_s` bounds the wait for another process's write.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        wait_s: float = 5.0,
        schema: Path = SCHEMA,
    ) -> None:
        self.path = path
        _make(path)
        epoch = Epoch(path.with_name(f"{path.name}.epoch"))
        db = None
        try:
            with epoch.lock(wait_s):
                db = _connect(path, wait_s)
                _set_wal(db, path)
                upgrade(db, path, schema, clock())
            self._reader = _connect(path, _READ_WAIT_S)
            self._reader.execute("PRAGMA query_only = ON")
        except (sqlite3.Error, Problem) as e:
            if db is not None:
                db.close()
            epoch.close()
            raise e if isinstance(e, Problem) else faults.problem(e, path) from None
        self._epoch = epoch
        self._view = epoch.view
        self._writer = Writer(db, path, epoch, wait_s)

    def find_key(self, digest: bytes) -> KeyRow | None:
        try:
            row = self._reader.execute(FIND_KEY, (digest,)).fetchone()
        except sqlite3.Error as e:
            raise faults.problem(e, self.path) from None
        return None if row is None else _key_row(row)

    def epoch(self) -> int:
        return self._view[0]

    async def add_key(self, row: KeyRow) -> bool:
        k = row.key
        models = json.encode(k.models).decode()
        values = (row.digest, k.id, k.name, k.team, models, k.created_at, k.expires_at, k.revoked_at, int(k.local))
        return await self.write(lambda db: db.execute(ADD_KEY, values).rowcount == 1, changes_keys=True)

    async def keys(self) -> list[Key]:
        return await asyncio.to_thread(self._list)

    async def revoke_key(self, key_id: str, at: float) -> bool:
        return await self.write(lambda db: db.execute(REVOKE_KEY, (at, key_id)).rowcount == 1, changes_keys=True)

    async def noted(self, name: str) -> bytes | None:
        try:
            row = self._reader.execute(NOTED, (name,)).fetchone()
        except sqlite3.Error as e:
            raise faults.problem(e, self.path) from None
        return None if row is None else bytes(row[0])

    async def note(self, name: str, value: bytes) -> bytes:
        def keep(db: sqlite3.Connection) -> bytes:
            db.execute(NOTE, (name, value))
            return bytes(db.execute(NOTED, (name,)).fetchone()[0])

        return await self.write(keep)

    async def write(self, job: Callable[[sqlite3.Connection], T], *, changes_keys: bool = False) -> T:
        """What `job` returns when run on the writer's thread, after its commit, which it shares with others queued.

        Say `changes_keys` for whatever alters what `find_key` answers: all processes then look again.
        """
        return await self._writer.submit(job, changes_keys=changes_keys)

    async def close(self) -> None:
        self._reader.close()
        await asyncio.to_thread(self._writer.close)
        self._epoch.close()

    def _list(self) -> list[Key]:
        """All keys, over a connection of its own: a long listing holds up neither requests nor writes."""
        try:
            db = _connect(self.path, _READ_WAIT_S)
            try:
                return [_key_row(row).key for row in db.execute(LIST_KEYS)]
            finally:
                db.close()
        except sqlite3.Error as e:
            raise faults.problem(e, self.path) from None


def _key_row(row: _Row) -> KeyRow:
    digest, key_id, name, team, models, created_at, expires_at, revoked_at, local = row
    key = Key(
        id=key_id,
        name=name,
        team=team,
        models=json.decode(models, type=tuple[str, ...]),
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
        local=bool(local),
    )
    return KeyRow(key, digest)


def _make(path: Path) -> None:
    """See that the file is there and is its owner's alone: SQLite gives the -wal and -shm files the same mode.

    An existing file is never opened here: closing it would drop the locks of this process's other connections to it
    (https://www.sqlite.org/howtocorrupt.html, section 2.2, checked 2026-11-22).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
    except OSError as e:
        raise faults.no_access(e, path) from None


def _connect(path: Path, wait_s: float) -> sqlite3.Connection:
    """A connection in autocommit; any thread may use it (SQLite is built for that: threadsafety 3)."""
    return sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)


def _set_wal(db: sqlite3.Connection, path: Path) -> None:
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        say = f"{path} cannot use write-ahead logging (journal mode {mode!r}): put LILLIPUT_HOME on a local disk"
        raise Problem("server", say, code="store_unwritable")
