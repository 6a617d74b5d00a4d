"""Responses that callers may continue, kept in the SQLite store for a while; each is found by its owner alone."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence

from lilliput.store import faults
from lilliput.store.sqlite import SqliteStore

KEEP_S = 30 * 24 * 3600.0
"""As long as OpenAI keeps responses (its guide on conversation state, checked 2026-11-22)."""
SWEPT = 32
"""Expired rows that one write removes at most: more than it adds, so that the table shrinks to what is alive."""
_READ_WAIT_S = 0.1

FIND = "SELECT turn FROM response WHERE owner = ? AND id = ? AND expires_at > ?"
KEEP = """
INSERT INTO response (owner, id, turn, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (owner, id) DO UPDATE SET turn = excluded.turn, expires_at = excluded.expires_at
"""
FIND_ITEM = """
SELECT r.turn FROM response_item AS i JOIN response AS r ON r.owner = i.owner AND r.id = i.response
WHERE i.owner = ? AND i.id = ? AND r.expires_at > ?
"""
KEEP_ITEM = """
INSERT INTO response_item (owner, id, response) VALUES (?, ?, ?)
ON CONFLICT (owner, id) DO UPDATE SET response = excluded.response
"""
SWEEP = "DELETE FROM response WHERE rowid IN (SELECT rowid FROM response WHERE expires_at <= ? LIMIT ?)"
DROP = "DELETE FROM response WHERE owner = ? AND id = ? AND expires_at > ?"
FORGET = "DELETE FROM response WHERE owner = ?"


class ResponseStore:
    """`gateway.threads.Threads` over `store`, each turn for `keep_s` seconds.

    Reads have a connection of their own, on a thread of their own: a turn may be megabytes. Close it before the store.
    """

    def __init__(self, store: SqliteStore, *, keep_s: float = KEEP_S, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._keep_s = keep_s
        self._clock = clock
        try:
            self._reader = sqlite3.connect(
                store.path, timeout=_READ_WAIT_S, isolation_level=None, check_same_thread=False
            )
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite3.Error as e:
            raise faults.problem(e, store.path) from None

    async def find(self, owner: str, id: str) -> bytes | None:
        return await self._turn(lambda db: db.execute(FIND, (owner, id, self._clock())))

    async def find_item(self, owner: str, id: str) -> bytes | None:
        return await self._turn(lambda db: db.execute(FIND_ITEM, (owner, id, self._clock())))

    async def keep(self, owner: str, id: str, turn: bytes, items: Sequence[str] = ()) -> None:
        now = self._clock()
        values = (owner, id, turn, now + self._keep_s)

        def job(db: sqlite3.Connection) -> None:
            db.execute(SWEEP, (now, SWEPT))
            db.execute(KEEP, values)
            db.executemany(KEEP_ITEM, [(owner, item, id) for item in items])

        await self._store.write(job)

    async def drop(self, owner: str, id: str) -> bool:
        now = self._clock()
        return await self._store.write(lambda db: db.execute(DROP, (owner, id, now)).rowcount == 1)

    async def forget(self, owner: str) -> int:
        """Remove all that an owner keeps; how many there were."""
        return await self._store.write(lambda db: db.execute(FORGET, (owner,)).rowcount)

    def close(self) -> None:
        """Let go of the reading connection; calling it again does nothing."""
        self._reader.close()

    async def _turn(self, look: Callable[[sqlite3.Connection], sqlite3.Cursor]) -> bytes | None:
        try:
            row = await asyncio.to_thread(lambda: look(self._reader).fetchone())
        except sqlite3.Error as e:
            raise faults.problem(e, self._store.path) from None
        return None if row is None else bytes(row[0])
