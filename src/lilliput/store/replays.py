"""Answers that may be given again, and the idempotency keys that were used, kept in the SQLite store for a while."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import Struct

from lilliput.store import faults
from lilliput.store.sqlite import SqliteStore

T = TypeVar("T")
Name = tuple[str, bytes]
SWEPT = 32
"""Expired rows that one write removes at most: more than it adds, so that the table shrinks to what is alive."""
EVERY = 16
"""Answers kept between two looks at how many there are, which may so be passed by as many in each process."""
TOUCH_S = 60.0
"""An answer is noted as used this often at most."""
_READ_WAIT_S = 0.1

FIND = "SELECT answer, used_at FROM kept_answer WHERE tenant = ? AND digest = ? AND expires_at > ?"
TOUCH = "UPDATE kept_answer SET used_at = ? WHERE tenant = ? AND digest = ?"
KEEP = """
INSERT INTO kept_answer (tenant, digest, answer, size, made_at, used_at, expires_at, grp, vector)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, digest) DO UPDATE SET answer = excluded.answer, size = excluded.size, made_at = excluded.made_at,
  used_at = excluded.used_at, expires_at = excluded.expires_at, grp = excluded.grp, vector = excluded.vector
"""
NEAR = """
SELECT digest, vector FROM kept_answer WHERE tenant = ? AND grp = ? AND expires_at > ? ORDER BY made_at DESC LIMIT ?
"""
SHELVES = """
SELECT tenant, count(*), sum(size) FROM kept_answer WHERE expires_at > ? GROUP BY tenant ORDER BY sum(size) DESC, tenant
"""
SWEEP = "DELETE FROM kept_answer WHERE rowid IN (SELECT rowid FROM kept_answer WHERE expires_at <= ? LIMIT ?)"
SHRINK = """
DELETE FROM kept_answer WHERE rowid IN (
  SELECT rowid FROM (
    SELECT rowid, row_number() OVER latest AS n, sum(size) OVER latest AS total FROM kept_answer
    WINDOW latest AS (ORDER BY used_at DESC, rowid DESC ROWS UNBOUNDED PRECEDING)
  ) WHERE n > ? OR total > ?
)
"""
CLEAR = "DELETE FROM kept_answer WHERE tenant = ?"
CLEAR_ALL = "DELETE FROM kept_answer"

CLAIM = """
INSERT INTO idempotency_key (owner, digest, body, taken_by, ends_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (owner, digest) DO UPDATE
SET body = excluded.body, taken_by = excluded.taken_by, answer = NULL, ends_at = excluded.ends_at
WHERE idempotency_key.ends_at <= ? OR (idempotency_key.answer IS NULL AND idempotency_key.taken_by = excluded.taken_by)
"""
CLAIMED = "SELECT body, answer FROM idempotency_key WHERE owner = ? AND digest = ?"
RENEW = "UPDATE idempotency_key SET ends_at = ? WHERE owner = ? AND digest = ? AND taken_by = ? AND answer IS NULL"
FINISH = """
UPDATE idempotency_key SET answer = ?, ends_at = ? WHERE owner = ? AND digest = ? AND taken_by = ? AND answer IS NULL
"""
DROP = "DELETE FROM idempotency_key WHERE owner = ? AND digest = ? AND taken_by = ? AND answer IS NULL"
SWEEP_KEYS = """
DELETE FROM idempotency_key WHERE rowid IN (SELECT rowid FROM idempotency_key WHERE ends_at <= ? LIMIT ?)
"""
FORGET = "DELETE FROM idempotency_key WHERE owner = ? AND answer IS NOT NULL"


class Room(Struct, frozen=True):
    """How much may be kept, all tenants together."""

    entries: int
    size_bytes: int


class SqliteAnswers:
    """`gateway.cache.Answers` over `store`. Reads have a connection of their own. Close it before the store."""

    def __init__(self, store: SqliteStore, room: Room, *, clock: Callable[[], float] = time.time) -> None:
        self._store, self._room, self._clock = store, room, clock
        self._until_look = 0
        try:
            self._reader = sqlite3.connect(
                store.path, timeout=_READ_WAIT_S, isolation_level=None, check_same_thread=False
            )
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite3.Error as e:
            raise faults.problem(e, store.path) from None

    async def find(self, tenant: str, digest: bytes) -> bytes | None:
        now = self._clock()
        rows: list[tuple[bytes, float]] = await self._read(lambda db: db.execute(FIND, (tenant, digest, now)))
        if not rows:
            return None
        ((answer, used_at),) = rows
        if now - used_at > TOUCH_S:
            await self._store.write(lambda db: db.execute(TOUCH, (now, tenant, digest)).rowcount)
        return bytes(answer)

    async def keep(
        self, tenant: str, digest: bytes, answer: bytes, ttl_s: float, group: bytes = b"", vector: bytes = b""
    ) -> None:
        now, size = self._clock(), len(answer) + len(vector)
        values = (tenant, digest, answer, size, now, now, now + ttl_s, group or None, vector or None)
        looks = self._until_look == 0
        self._until_look = EVERY - 1 if looks else self._until_look - 1

        def job(db: sqlite3.Connection) -> None:
            db.execute(SWEEP, (now, SWEPT))
            db.execute(KEEP, values)
            if looks:
                db.execute(SHRINK, (self._room.entries, self._room.size_bytes))

        await self._store.write(job)

    async def near(self, tenant: str, group: bytes, most: int) -> list[tuple[bytes, bytes]]:
        now = self._clock()
        return await self._read(lambda db: db.execute(NEAR, (tenant, group, now, most)))

    async def shelves(self) -> list[tuple[str, int, int]]:
        """Each tenant with its entries and bytes, the largest first."""
        now = self._clock()
        return await self._read(lambda db: db.execute(SHELVES, (now,)))

    async def clear(self, tenant: str | None = None) -> int:
        """Remove all that a tenant keeps, or all tenants; how many there were."""
        if tenant is None:
            return await self._store.write(lambda db: db.execute(CLEAR_ALL).rowcount)
        return await self._store.write(lambda db: db.execute(CLEAR, (tenant,)).rowcount)

    def close(self) -> None:
        """Let go of the reading connection; calling it again does nothing."""
        self._reader.close()

    async def _read(self, look: Callable[[sqlite3.Connection], sqlite3.Cursor]) -> list[T]:
        try:
            return await asyncio.to_thread(lambda: look(self._reader).fetchall())
        except sqlite3.Error as e:
            raise faults.problem(e, self._store.path) from None


class SqliteClaims:
    """`gateway.idempotency.Claims` over `store`."""

    def __init__(self, store: SqliteStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock

    async def claim(self, name: Name, body: bytes, by: str, lease_s: float) -> tuple[bytes, bytes | None] | None:
        now = self._clock()

        def job(db: sqlite3.Connection) -> tuple[bytes, bytes | None] | None:
            db.execute(SWEEP_KEYS, (now, SWEPT))
            if db.execute(CLAIM, (*name, body, by, now + lease_s, now)).rowcount == 1:
                return None
            row: tuple[bytes, bytes | None] = db.execute(CLAIMED, name).fetchone()
            return row

        return await self._store.write(job)

    async def renew(self, names: Sequence[Name], by: str, lease_s: float) -> None:
        ends = self._clock() + lease_s
        rows = [(ends, *name, by) for name in names]
        await self._store.write(lambda db: db.executemany(RENEW, rows).rowcount)

    async def finish(self, name: Name, by: str, answer: bytes, keep_s: float) -> None:
        values = (answer, self._clock() + keep_s, *name, by)
        await self._store.write(lambda db: db.execute(FINISH, values).rowcount)

    async def drop(self, name: Name, by: str) -> None:
        await self._store.write(lambda db: db.execute(DROP, (*name, by)).rowcount)

    async def forget(self, owner: str) -> int:
        """Remove the answers kept for an API key's idempotency keys; how many there were."""
        return await self._store.write(lambda db: db.execute(FORGET, (owner,)).rowcount)
