"""Answers that may be given again, and the idempotency keys that were used, kept in Postgres for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lilliput.store.postgres_pool import Pool
from lilliput.store.replays import EVERY, SWEPT, TOUCH_S, Name, Room

FIND = "SELECT answer, used_at FROM kept_answer WHERE tenant = %s AND digest = %s AND expires_at > %s"
TOUCH = "UPDATE kept_answer SET used_at = %s WHERE tenant = %s AND digest = %s"
KEEP = """
INSERT INTO kept_answer (tenant, digest, answer, size, made_at, used_at, expires_at, grp, vector)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (tenant, digest) DO UPDATE SET answer = excluded.answer, size = excluded.size, made_at = excluded.made_at,
  used_at = excluded.used_at, expires_at = excluded.expires_at, grp = excluded.grp, vector = excluded.vector
"""
NEAR = """
SELECT digest, vector FROM kept_answer WHERE tenant = %s AND grp = %s AND expires_at > %s
ORDER BY made_at DESC LIMIT %s
"""
SHELVES = """
SELECT tenant, count(*), sum(size)::bigint FROM kept_answer WHERE expires_at > %s
GROUP BY tenant ORDER BY sum(size) DESC, tenant
"""
SWEEP = """
DELETE FROM kept_answer WHERE (tenant, digest) IN (
  SELECT tenant, digest FROM kept_answer WHERE expires_at <= %s LIMIT %s FOR UPDATE SKIP LOCKED
)
"""
# In one order in every process, and none waited for: it goes at the next look.
SHRINK = """
DELETE FROM kept_answer WHERE (tenant, digest) IN (
  SELECT tenant, digest FROM kept_answer WHERE (tenant, digest) IN (
    SELECT tenant, digest FROM (
      SELECT tenant, digest, row_number() OVER latest AS n, sum(size) OVER latest AS total FROM kept_answer
      WINDOW latest AS (ORDER BY used_at DESC, made_at DESC, digest ROWS UNBOUNDED PRECEDING)
    ) AS ranked WHERE n > %s OR total > %s
  ) FOR UPDATE SKIP LOCKED
)
"""
CLEAR = "DELETE FROM kept_answer WHERE tenant = %s"
CLEAR_ALL = "DELETE FROM kept_answer"

CLAIM = """
INSERT INTO idempotency_key (owner, digest, body, taken_by, ends_at) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (owner, digest) DO UPDATE
SET body = excluded.body, taken_by = excluded.taken_by, answer = NULL, ends_at = excluded.ends_at
WHERE idempotency_key.ends_at <= %s OR (idempotency_key.answer IS NULL AND idempotency_key.taken_by = excluded.taken_by)
"""
CLAIMED = "SELECT body, answer FROM idempotency_key WHERE owner = %s AND digest = %s"
RENEW = "UPDATE idempotency_key SET ends_at = %s WHERE owner = %s AND digest = %s AND taken_by = %s AND answer IS NULL"
FINISH = """
UPDATE idempotency_key SET answer = %s, ends_at = %s
WHERE owner = %s AND digest = %s AND taken_by = %s AND answer IS NULL
"""
DROP = "DELETE FROM idempotency_key WHERE owner = %s AND digest = %s AND taken_by = %s AND answer IS NULL"
SWEEP_KEYS = """
DELETE FROM idempotency_key WHERE (owner, digest) IN (
  SELECT owner, digest FROM idempotency_key WHERE ends_at <= %s LIMIT %s FOR UPDATE SKIP LOCKED
)
"""
FORGET = "DELETE FROM idempotency_key WHERE owner = %s AND answer IS NOT NULL"


class PostgresAnswers:
    """`gateway.cache.Answers` in the database of `pool`."""

    def __init__(self, pool: Pool, room: Room, *, clock: Callable[[], float] = time.time) -> None:
        self._pool, self._room, self._clock = pool, room, clock
        self._until_look = 0

    async def find(self, tenant: str, digest: bytes) -> bytes | None:
        now = self._clock()
        async with self._pool.borrow() as db:
            row = await (await db.execute(FIND, (tenant, digest, now))).fetchone()
            if row is None:
                return None
            if now - row[1] > TOUCH_S:
                await db.execute(TOUCH, (now, tenant, digest))
        return bytes(row[0])

    async def keep(
        self, tenant: str, digest: bytes, answer: bytes, ttl_s: float, group: bytes = b"", vector: bytes = b""
    ) -> None:
        now, size = self._clock(), len(answer) + len(vector)
        looks = self._until_look == 0
        self._until_look = EVERY - 1 if looks else self._until_look - 1
        async with self._pool.borrow() as db:
            await db.execute(SWEEP, (now, SWEPT))
            await db.execute(KEEP, (tenant, digest, answer, size, now, now, now + ttl_s, group or None, vector or None))
            if looks:
                await db.execute(SHRINK, (self._room.entries, self._room.size_bytes))

    async def near(self, tenant: str, group: bytes, most: int) -> list[tuple[bytes, bytes]]:
        async with self._pool.borrow() as db:
            rows = await (await db.execute(NEAR, (tenant, group, self._clock(), most))).fetchall()
        return [(bytes(digest), bytes(vector)) for digest, vector in rows]

    async def shelves(self) -> list[tuple[str, int, int]]:
        """Each tenant with its entries and bytes, the largest first."""
        async with self._pool.borrow() as db:
            rows = await (await db.execute(SHELVES, (self._clock(),))).fetchall()
        return [(tenant, entries, size) for tenant, entries, size in rows]

    async def clear(self, tenant: str | None = None) -> int:
        """Remove all that a tenant keeps, or all tenants; how many there were."""
        async with self._pool.borrow() as db:
            done = await (db.execute(CLEAR_ALL) if tenant is None else db.execute(CLEAR, (tenant,)))
        return done.rowcount


class PostgresClaims:
    """`gateway.idempotency.Claims` in the database of `pool`."""

    def __init__(self, pool: Pool, *, clock: Callable[[], float] = time.time) -> None:
        self._pool, self._clock = pool, clock

    async def claim(self, name: Name, body: bytes, by: str, lease_s: float) -> tuple[bytes, bytes | None] | None:
        async with self._pool.borrow() as db:
            await db.execute(SWEEP_KEYS, (self._clock(), SWEPT))
            while True:
                now = self._clock()
                if (await db.execute(CLAIM, (*name, body, by, now + lease_s, now))).rowcount == 1:
                    return None
                row = await (await db.execute(CLAIMED, name)).fetchone()
                if row is not None:  # else it was let go between the two
                    return bytes(row[0]), None if row[1] is None else bytes(row[1])

    async def renew(self, names: Sequence[Name], by: str, lease_s: float) -> None:
        ends = self._clock() + lease_s
        async with self._pool.borrow() as db, db.cursor() as cursor:
            await cursor.executemany(RENEW, [(ends, *name, by) for name in sorted(names)])

    async def finish(self, name: Name, by: str, answer: bytes, keep_s: float) -> None:
        async with self._pool.borrow() as db:
            await db.execute(FINISH, (answer, self._clock() + keep_s, *name, by))

    async def drop(self, name: Name, by: str) -> None:
        async with self._pool.borrow() as db:
            await db.execute(DROP, (*name, by))

    async def forget(self, owner: str) -> int:
        """Remove the answers kept for an API key's idempotency keys; how many there were."""
        async with self._pool.borrow() as db:
            return (await db.execute(FORGET, (owner,))).rowcount
