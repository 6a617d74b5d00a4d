"""The store that several machines share: one Postgres database, its keys kept in memory and fresh by its own signal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psycopg
from msgspec import json

from lilliput.neutral import Key, Problem
from lilliput.store.port import KeyRow
from lilliput.store.postgres_migrate import upgrade
from lilliput.store.postgres_pool import Connection, Pool

POLL_S = 1.0
"""How often the keys are looked at when no signal comes, which may be lost with its connection."""
RETRY_S = 0.25
STALE_S = 10.0
"""How long keys are believed after the database was last heard."""

KEYS = """
SELECT digest, id, name, team, models, created_at, expires_at, revoked_at, local, change FROM api_key
WHERE change > %s
"""
LIST_KEYS = """
SELECT digest, id, name, team, models, created_at, expires_at, revoked_at, local, change FROM api_key
ORDER BY created_at, id
"""
ADD_KEY = """
WITH next AS (UPDATE key_change SET number = number + 1 RETURNING number)
INSERT INTO api_key (digest, id, name, team, models, created_at, expires_at, revoked_at, local, change)
SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, number FROM next ON CONFLICT DO NOTHING
"""
REVOKE_KEY = """
WITH next AS (UPDATE key_change SET number = number + 1 RETURNING number)
UPDATE api_key SET revoked_at = %s, change = number FROM next WHERE id = %s AND revoked_at IS NULL
"""
TELL = "NOTIFY lilliput_keys"
HEAR = "LISTEN lilliput_keys"
NOTED = "SELECT value FROM note WHERE name = %s"
NOTE = "INSERT INTO note (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING"

_Row = tuple[bytes, str, str, str, str, float, float | None, float | None, bool, int]


class PostgresStore:
    """The store in the database that `pool` connects to. Made by `open_postgres`.

    `find_key` and `epoch` answer from memory. A change by this process is there when its call returns; one by another
    comes by NOTIFY, within milliseconds, or at the next look, after `POLL_S` at most. When the database was not heard
    for `stale_s`, keys are no longer believed.
    """

    def __init__(
        self, pool: Pool, *, stale_s: float = STALE_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.pool = pool
        self._stale_s = stale_s
        self._monotonic = monotonic
        self._rows: dict[bytes, KeyRow] = {}
        self._change = -1
        self._epoch = 0
        self._heard = -float("inf")
        self._follower: asyncio.Task[None] | None = None

    async def follow(self) -> None:
        """Read the keys, and from here on what changes in them."""
        async with self.pool.borrow(slow=True) as db:
            await self._refresh(db)
        self._follower = asyncio.create_task(self._follow())

    def find_key(self, digest: bytes) -> KeyRow | None:
        if self._monotonic() - self._heard > self._stale_s:
            say = f"the database {self.pool.where} was not heard for {self._stale_s:g} s, so no key can be checked: "
            raise Problem("server", say + "start it, or check the network", code="store_unreachable", retry_after_s=1.0)
        return self._rows.get(digest)

    def epoch(self) -> int:
        return self._epoch

    async def add_key(self, row: KeyRow) -> bool:
        k = row.key
        models = json.encode(k.models).decode()
        values = (row.digest, k.id, k.name, k.team, models, k.created_at, k.expires_at, k.revoked_at, k.local)
        async with self.pool.borrow() as db:
            async with db.transaction():
                done = (await db.execute(ADD_KEY, values)).rowcount == 1
                await db.execute(TELL)
            await self._refresh(db)
        return done

    async def keys(self) -> list[Key]:
        async with self.pool.borrow() as db:
            return [_key_row(row).key for row in await (await db.execute(LIST_KEYS)).fetchall()]

    async def revoke_key(self, key_id: str, at: float) -> bool:
        async with self.pool.borrow() as db:
            async with db.transaction():
                done = (await db.execute(REVOKE_KEY, (at, key_id))).rowcount == 1
                await db.execute(TELL)
            await self._refresh(db)
        return done

    async def noted(self, name: str) -> bytes | None:
        async with self.pool.borrow() as db:
            row = await (await db.execute(NOTED, (name,))).fetchone()
        return None if row is None else bytes(row[0])

    async def note(self, name: str, value: bytes) -> bytes:
        async with self.pool.borrow() as db:
            await db.execute(NOTE, (name, value))
            row = await (await db.execute(NOTED, (name,))).fetchone()
        assert row is not None
        return bytes(row[0])

    async def close(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower
            self._follower = None
        self._heard = -float("inf")
        await self.pool.close()

    async def _follow(self) -> None:
        """Listen on a connection of its own, made again whenever it is lost; each signal and each silence is a look."""
        while True:
            try:
                db = await self.pool.connect()
                try:
                    await db.execute(HEAR)
                    while True:
                        async with asyncio.timeout(self.pool.wait_s):
                            await self._refresh(db)
                        async for _ in db.notifies(timeout=POLL_S, stop_after=1):
                            pass
                finally:
                    await db.close()
            except (psycopg.Error, Problem, TimeoutError):
                await asyncio.sleep(RETRY_S)

    async def _refresh(self, db: Connection) -> None:
        """Look for what changed since the last look."""
        asked = self._monotonic()
        self._take_in(await (await db.execute(KEYS, (self._change,))).fetchall())
        self._heard = max(self._heard, asked)

    def _take_in(self, rows: Sequence[_Row]) -> None:
        """Keep the rows that are news: a look that began later may have been quicker. The epoch moves when any is."""
        news = [row for row in rows if row[-1] > self._change]
        if news:
            self._rows |= {row[0]: _key_row(row) for row in news}
            self._change = max(row[-1] for row in news)
            self._epoch += 2


async def open_postgres(url: str, *, stale_s: float = STALE_S) -> PostgresStore:
    """The store at `url`, brought to the newest version; raises Problem (server, 503) when it cannot be had."""
    pool = Pool(url)
    store = PostgresStore(pool, stale_s=stale_s)
    try:
        await upgrade(pool)
        await store.follow()
    except Problem:
        await store.close()
        raise
    return store


def _key_row(row: _Row) -> KeyRow:
    digest, key_id, name, team, models, created_at, expires_at, revoked_at, local, _ = row
    key = Key(
        id=key_id,
        name=name,
        team=team,
        models=json.decode(models, type=tuple[str, ...]),
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
        local=local,
    )
    return KeyRow(key, bytes(digest))
