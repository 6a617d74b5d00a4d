"""Responses that callers may continue, kept in Postgres for a while; each is found by its owner alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lilliput.store.postgres_pool import Pool
from lilliput.store.responses import KEEP_S, SWEPT

MOST_ID_BYTES = 1024
"""An index of Postgres takes rows of 2,704 bytes; what has a longer id is not kept, and not found."""

FIND = "SELECT turn FROM response WHERE owner = %s AND id = %s AND expires_at > %s"
KEEP = """
INSERT INTO response (owner, id, turn, expires_at) VALUES (%s, %s, %s, %s)
ON CONFLICT (owner, id) DO UPDATE SET turn = excluded.turn, expires_at = excluded.expires_at
"""
FIND_ITEM = """
SELECT r.turn FROM response_item AS i JOIN response AS r ON r.owner = i.owner AND r.id = i.response
WHERE i.owner = %s AND i.id = %s AND r.expires_at > %s
"""
KEEP_ITEMS = """
INSERT INTO response_item (owner, id, response) SELECT %s, unnest(%s::text[]) AS id, %s ORDER BY id
ON CONFLICT (owner, id) DO UPDATE SET response = excluded.response
"""
SWEEP = """
DELETE FROM response WHERE (owner, id) IN (
  SELECT owner, id FROM response WHERE expires_at <= %s LIMIT %s FOR UPDATE SKIP LOCKED
)
"""
DROP = "DELETE FROM response WHERE owner = %s AND id = %s AND expires_at > %s"
FORGET = "DELETE FROM response WHERE owner = %s"


class PostgresResponses:
    """`gateway.threads.Threads` in the database of `pool`, each turn for `keep_s` seconds."""

    def __init__(self, pool: Pool, *, keep_s: float = KEEP_S, clock: Callable[[], float] = time.time) -> None:
        self._pool = pool
        self._keep_s = keep_s
        self._clock = clock

    async def find(self, owner: str, id: str) -> bytes | None:
        if not _storable(id):
            return None
        async with self._pool.borrow() as db:
            row = await (await db.execute(FIND, (owner, id, self._clock()))).fetchone()
        return None if row is None else bytes(row[0])

    async def find_item(self, owner: str, id: str) -> bytes | None:
        if not _storable(id):
            return None
        async with self._pool.borrow() as db:
            row = await (await db.execute(FIND_ITEM, (owner, id, self._clock()))).fetchone()
        return None if row is None else bytes(row[0])

    async def keep(self, owner: str, id: str, turn: bytes, items: Sequence[str] = ()) -> None:
        if not _storable(id):
            return
        now = self._clock()
        ids = [item for item in dict.fromkeys(items) if _storable(item)]
        async with self._pool.borrow() as db, db.transaction():
            await db.execute(SWEEP, (now, SWEPT))
            await db.execute(KEEP, (owner, id, turn, now + self._keep_s))
            if ids:
                await db.execute(KEEP_ITEMS, (owner, ids, id))

    async def drop(self, owner: str, id: str) -> bool:
        if not _storable(id):
            return False
        async with self._pool.borrow() as db:
            return (await db.execute(DROP, (owner, id, self._clock()))).rowcount == 1

    async def forget(self, owner: str) -> int:
        """Remove all that an owner keeps; how many there were."""
        async with self._pool.borrow() as db:
            return (await db.execute(FORGET, (owner,))).rowcount


def _storable(id: str) -> bool:
    return len(id.encode("utf-8", "surrogatepass")) <= MOST_ID_BYTES and id.isprintable()
