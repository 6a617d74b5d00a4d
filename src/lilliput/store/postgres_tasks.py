"""Tasks, their rows and audits in Postgres; a message that many rows have is kept once.

Erasing rewrites the tables, so that nothing is left in them; the server's own log and backups are its operator's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from lilliput.store.postgres_pool import Connection, Pool
from lilliput.store.tasks import DAY_S, changed, counted, one, pack, raised, read_task, unpack
from lilliput.tasks import Audited, Row, Task

ONE_MOMENT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"

MAKE = "INSERT INTO task (name, revision, body) VALUES (%s, 1, %s) ON CONFLICT DO NOTHING"
CHANGE = "UPDATE task SET revision = %s, body = %s WHERE name = %s AND revision = %s"
FIND = "SELECT body FROM task WHERE name = %s"
LIST = 'SELECT body FROM task ORDER BY name COLLATE "C"'
DROP = "DELETE FROM task WHERE name = %s"
DROP_ROWS = "DELETE FROM task_row WHERE task = %s RETURNING task, messages"
DROP_AUDITS = "DELETE FROM task_audit WHERE task = %s"

# Whoever adds a message shares this with others that do; whoever looks for unused ones is alone.
SHARED = "SELECT pg_advisory_xact_lock_shared(1726, hashtext(current_schema() || '.task_message'))"
ALONE = "SELECT pg_advisory_xact_lock(1726, hashtext(current_schema() || '.task_message'))"

KEEP_MESSAGE = "INSERT INTO task_message (digest, body) VALUES (%s, %s) ON CONFLICT DO NOTHING"
KEEP_ROW = """
INSERT INTO task_row (id, task, at, key, subject, source, body, messages, feedback, correction)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
ROW = "SELECT body, feedback, correction, messages FROM task_row WHERE id = %s"
ROWS = """
SELECT body, feedback, correction, messages FROM task_row WHERE task = %s AND at >= %s
ORDER BY at, number LIMIT %s OFFSET %s
"""
MESSAGES = "SELECT digest, body FROM task_message WHERE digest = ANY(%s)"
COUNT = "SELECT count(*) FROM task_row WHERE task = %s"
JUDGE = "UPDATE task_row SET feedback = %s, correction = %s WHERE id = %s"

ERASE_KEY = "DELETE FROM task_row WHERE key = %s RETURNING task, messages"
ERASE_SUBJECT = "DELETE FROM task_row WHERE subject = %s AND subject <> '' RETURNING task, messages"
EXPIRE = "DELETE FROM task_row WHERE task = %s AND at < %s AND source <> 'import' RETURNING task, messages"
UNUSED = """
DELETE FROM task_message AS m WHERE digest = ANY(%s)
AND NOT EXISTS (SELECT 1 FROM task_row AS r WHERE r.messages @> ARRAY[m.digest])
"""
REWRITE = "VACUUM (FULL) task_row, task_message"

NOTE = "INSERT INTO task_audit (task, student, body) VALUES (%s, %s, %s)"
AUDITS = """
SELECT body FROM (
  SELECT number, body FROM task_audit WHERE task = %(task)s AND (%(student)s::text IS NULL OR student = %(student)s)
  ORDER BY number DESC LIMIT %(limit)s
) AS newest ORDER BY number
"""

_Found = tuple[bytes, float | None, str | None, list[bytes]]


class PostgresTasks:
    """`tasks.TaskStore` in the database of `pool`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, task: Task) -> Task:
        new, body = raised(task)
        async with self._pool.borrow() as db:
            if task.revision == 0:
                done = await db.execute(MAKE, (task.name, body))
            else:
                done = await db.execute(CHANGE, (new.revision, body, task.name, task.revision))
        if done.rowcount != 1:
            raise changed(task)
        return new

    async def task(self, name: str) -> Task | None:
        async with self._pool.borrow() as db:
            found = await (await db.execute(FIND, (name,))).fetchone()
        return None if found is None else read_task(found[0])

    async def tasks(self) -> list[Task]:
        async with self._pool.borrow() as db:
            return [read_task(body) for (body,) in await (await db.execute(LIST)).fetchall()]

    async def drop(self, name: str) -> bool:
        async with self._pool.borrow() as db, db.transaction():
            await db.execute(ALONE)
            await _unused(db, await (await db.execute(DROP_ROWS, (name,))).fetchall())
            await db.execute(DROP_AUDITS, (name,))
            done = (await db.execute(DROP, (name,))).rowcount == 1
        await self._scrub()
        return done

    async def add(self, rows: Sequence[Row]) -> int:
        packed = sorted([(row.id, row, *pack(row)) for row in rows], key=lambda p: p[0])
        async with self._pool.borrow() as db, db.transaction(), db.cursor() as cursor:
            await cursor.execute(SHARED)
            new, messages = 0, set[tuple[bytes, bytes]]()
            for id, row, body, some in packed:
                digests = [digest for digest, _ in some]
                about = (id, row.task, row.at, row.key, row.subject, row.source)
                values = (*about, body, digests, row.feedback, row.correction)
                if (await cursor.execute(KEEP_ROW, values)).rowcount == 1:
                    new += 1
                    messages.update(some)
            await cursor.executemany(KEEP_MESSAGE, sorted(messages))  # in one order in every process
        return new

    async def row(self, id: str) -> Row | None:
        async with self._pool.borrow() as db, db.transaction():
            await db.execute(ONE_MOMENT)
            found = await _rows(db, await (await db.execute(ROW, (id,))).fetchall())
        return found[0] if found else None

    async def rows(self, task: str, *, since: float | None = None, limit: int = 0, offset: int = 0) -> list[Row]:
        values = (task, -float("inf") if since is None else since, limit or None, offset)
        async with self._pool.borrow(slow=True) as db, db.transaction():
            await db.execute(ONE_MOMENT)
            return await _rows(db, await (await db.execute(ROWS, values)).fetchall())

    async def count(self, task: str) -> int:
        async with self._pool.borrow() as db:
            found = await (await db.execute(COUNT, (task,))).fetchone()
        return int(found[0]) if found is not None else 0

    async def judge(self, row: str, feedback: float | None, correction: str | None) -> bool:
        async with self._pool.borrow() as db:
            return (await db.execute(JUDGE, (feedback, correction, row))).rowcount == 1

    async def erase(self, *, key: str | None = None, subject: str | None = None) -> dict[str, int]:
        one(key, subject)
        async with self._pool.borrow(slow=True) as db, db.transaction():
            await db.execute(ALONE)
            done = await (db.execute(ERASE_SUBJECT, (subject,)) if key is None else db.execute(ERASE_KEY, (key,)))
            gone = await done.fetchall()
            await _unused(db, gone)
        await self._scrub()
        return counted([task for task, _ in gone])

    async def expire(self, now: float) -> int:
        total = 0
        for task in await self.tasks():
            async with self._pool.borrow(slow=True) as db, db.transaction():
                await db.execute(ALONE)
                done = await db.execute(EXPIRE, (task.name, now - task.retention_days * DAY_S))
                gone = await done.fetchall()
                await _unused(db, gone)
            total += len(gone)
        return total

    async def note(self, audits: Sequence[Audited]) -> None:
        async with self._pool.borrow() as db, db.cursor() as cursor:
            await cursor.executemany(NOTE, [(a.task, a.student, msgspec.json.encode(a)) for a in audits])

    async def audits(self, task: str, student: str | None = None, *, limit: int = 0) -> list[Audited]:
        async with self._pool.borrow() as db:
            found = await db.execute(AUDITS, {"task": task, "student": student, "limit": limit or None})
            return [msgspec.json.decode(body, type=Audited) for (body,) in await found.fetchall()]

    async def _scrub(self) -> None:
        async with self._pool.borrow(slow=True) as db:
            await db.execute(REWRITE)


async def _unused(db: Connection, gone: Iterable[tuple[Any, ...]]) -> None:
    """Forget the messages of rows that are gone, where no other row has them."""
    digests = list({bytes(digest) for _, messages in gone for digest in messages})
    await db.execute(UNUSED, (digests,))


async def _rows(db: Connection, found: Sequence[tuple[Any, ...]]) -> list[Row]:
    digests = list({bytes(digest) for _, _, _, messages in found for digest in messages})
    kept = {bytes(d): bytes(m) for d, m in await (await db.execute(MESSAGES, (digests,))).fetchall()}
    return [unpack(body, f, c, [kept[bytes(d)] for d in messages]) for body, f, c, messages in found]
