"""Tasks, their rows and audits in the SQLite store; a message that many rows have is kept once.

Erasing leaves nothing behind in the file: cells are overwritten (secure_delete), the file is written anew without its
free pages (VACUUM), and the log is emptied.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import groupby
from typing import TypeVar

import msgspec
from msgspec import Raw, structs

from lilliput.neutral import Problem
from lilliput.store import faults
from lilliput.store.sqlite import SqliteStore
from lilliput.tasks import Audited, Row, Task

T = TypeVar("T")
DAY_S = 86_400.0
_WAIT_S = 5.0

MAKE = "INSERT INTO task (name, revision, body) VALUES (?, 1, ?) ON CONFLICT DO NOTHING"
CHANGE = "UPDATE task SET revision = ?, body = ? WHERE name = ? AND revision = ?"
FIND = "SELECT body FROM task WHERE name = ?"
LIST = "SELECT body FROM task ORDER BY name"
DROP = "DELETE FROM task WHERE name = ?"
DROP_ROWS = "DELETE FROM task_row WHERE task = ?"
DROP_AUDITS = "DELETE FROM task_audit WHERE task = ?"

KEEP_MESSAGE = "INSERT INTO task_message (digest, body) VALUES (?, ?) ON CONFLICT DO NOTHING"
KEEP_ROW = """
INSERT INTO task_row (id, task, at, key, subject, source, body, feedback, correction) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
KEEP_LINK = """
INSERT INTO task_row_message (row, place, message) SELECT ?, ?, id FROM task_message WHERE digest = ?
"""
ROW = "SELECT number, body, feedback, correction FROM task_row WHERE id = ?"
ROWS = """
SELECT number, body, feedback, correction FROM task_row WHERE task = ? AND at >= ?
ORDER BY at, number LIMIT ? OFFSET ?
"""
MESSAGES = """
SELECT m.body FROM task_row_message AS l JOIN task_message AS m ON m.id = l.message WHERE l.row = ? ORDER BY l.place
"""
COUNT = "SELECT count(*) FROM task_row WHERE task = ?"
JUDGE = "UPDATE task_row SET feedback = ?, correction = ? WHERE id = ?"

SECURE = "PRAGMA secure_delete = ON"
ERASE_KEY = "DELETE FROM task_row WHERE key = ? RETURNING task"
ERASE_SUBJECT = "DELETE FROM task_row WHERE subject = ? AND subject <> '' RETURNING task"
EXPIRE = "DELETE FROM task_row WHERE task = ? AND at < ? AND source <> 'import'"
REWRITE = "VACUUM"
EMPTY_LOG = "PRAGMA wal_checkpoint(TRUNCATE)"

NOTE = "INSERT INTO task_audit (task, student, body) VALUES (?, ?, ?)"
AUDITS = """
SELECT body FROM (
  SELECT number, body FROM task_audit WHERE task = ?1 AND (?2 IS NULL OR student = ?2) ORDER BY number DESC LIMIT ?3
) ORDER BY number
"""

_Found = tuple[int, bytes, float | None, str | None]


class SqliteTasks:
    """`tasks.TaskStore` over `store`. Each read has a connection and a thread of its own: rows may be many."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def put(self, task: Task) -> Task:
        new, body = raised(task)

        def job(db: sqlite3.Connection) -> bool:
            if task.revision == 0:
                return db.execute(MAKE, (task.name, body)).rowcount == 1
            return db.execute(CHANGE, (new.revision, body, task.name, task.revision)).rowcount == 1

        if not await self._store.write(job):
            raise changed(task)
        return new

    async def task(self, name: str) -> Task | None:
        found = await self._read(lambda db: db.execute(FIND, (name,)).fetchone())
        return None if found is None else read_task(found[0])

    async def tasks(self) -> list[Task]:
        return [read_task(body) for (body,) in await self._read(lambda db: db.execute(LIST).fetchall())]

    async def drop(self, name: str) -> bool:
        def job(db: sqlite3.Connection) -> bool:
            db.execute(SECURE)
            db.execute(DROP_ROWS, (name,))
            db.execute(DROP_AUDITS, (name,))
            return db.execute(DROP, (name,)).rowcount == 1

        done = await self._store.write(job)
        await self._scrub()
        return done

    async def add(self, rows: Sequence[Row]) -> int:
        packed = [(row, pack(row)) for row in rows]

        def job(db: sqlite3.Connection) -> int:
            new = 0
            for row, (body, messages) in packed:
                about = (row.id, row.task, row.at, row.key, row.subject, row.source)
                done = db.execute(KEEP_ROW, (*about, body, row.feedback, row.correction))
                if done.rowcount != 1:
                    continue
                new += 1
                db.executemany(KEEP_MESSAGE, messages)
                links = [(done.lastrowid, place, digest) for place, (digest, _) in enumerate(messages)]
                db.executemany(KEEP_LINK, links)
            return new

        return await self._store.write(job)

    async def row(self, id: str) -> Row | None:
        found = await self._read(lambda db: [_row(db, f) for f in db.execute(ROW, (id,)).fetchall()])
        return found[0] if found else None

    async def rows(self, task: str, *, since: float | None = None, limit: int = 0, offset: int = 0) -> list[Row]:
        values = (task, -float("inf") if since is None else since, limit or -1, offset)
        return await self._read(lambda db: [_row(db, f) for f in db.execute(ROWS, values).fetchall()])

    async def count(self, task: str) -> int:
        (number,) = await self._read(lambda db: db.execute(COUNT, (task,)).fetchone())
        return int(number)

    async def judge(self, row: str, feedback: float | None, correction: str | None) -> bool:
        return await self._store.write(lambda db: db.execute(JUDGE, (feedback, correction, row)).rowcount == 1)

    async def erase(self, *, key: str | None = None, subject: str | None = None) -> dict[str, int]:
        one(key, subject)

        def job(db: sqlite3.Connection) -> dict[str, int]:
            db.execute(SECURE)
            done = db.execute(ERASE_SUBJECT, (subject,)) if key is None else db.execute(ERASE_KEY, (key,))
            return counted([task for (task,) in done.fetchall()])

        erased = await self._store.write(job)
        await self._scrub()
        return erased

    async def expire(self, now: float) -> int:
        limits = [(task.name, now - task.retention_days * DAY_S) for task in await self.tasks()]

        def job(db: sqlite3.Connection) -> int:
            db.execute(SECURE)
            return sum(db.execute(EXPIRE, limit).rowcount for limit in limits)

        return await self._store.write(job)

    async def note(self, audits: Sequence[Audited]) -> None:
        values = [(a.task, a.student, msgspec.json.encode(a)) for a in audits]
        await self._store.write(lambda db: db.executemany(NOTE, values).rowcount)

    async def audits(self, task: str, student: str | None = None, *, limit: int = 0) -> list[Audited]:
        found = await self._read(lambda db: db.execute(AUDITS, (task, student, limit or -1)).fetchall())
        return [msgspec.json.decode(body, type=Audited) for (body,) in found]

    async def _scrub(self) -> None:
        """Nothing deleted is left in the file or in its log, and all is on the disk; raises Problem (503) where others
        hold on to either for too long."""

        def work(db: sqlite3.Connection) -> bool:
            db.execute(REWRITE)
            until = time.monotonic() + _WAIT_S
            while db.execute(EMPTY_LOG).fetchone()[0]:  # SQLite does not wait for another that is at it
                if time.monotonic() > until:
                    return False
                time.sleep(0.01)
            return True

        if not await self._read(work, is_snapshot=False):
            say = (
                f"the rows are erased, but another process reads the log of {self._store.path} and so it still holds "
                "them: call again, or stop that process"
            )
            raise Problem("server", say, code="store_locked", retry_after_s=1.0)

    async def _read(self, work: Callable[[sqlite3.Connection], T], *, is_snapshot: bool = True) -> T:
        """What `work` makes of a connection of its own, all of it seen at one moment."""

        def run() -> T:
            with closing(sqlite3.connect(self._store.path, timeout=_WAIT_S, isolation_level=None)) as db:
                if is_snapshot:
                    db.execute("BEGIN")
                return work(db)

        try:
            return await asyncio.to_thread(run)
        except sqlite3.Error as e:
            raise faults.problem(e, self._store.path) from None


def pack(row: Row) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A row's JSON without its messages, and those with their digests; raises Problem (400) for what is no array."""
    try:
        messages = msgspec.json.decode(row.messages, type=list[Raw])
    except msgspec.DecodeError as e:
        raise Problem(
            "client", f"the messages of row {row.id!r} are no JSON array: {e}", code="invalid_value"
        ) from None
    body = msgspec.json.encode(structs.replace(row, messages=Raw(b"[]")))
    return body, [(hashlib.sha256(m).digest(), bytes(m)) for m in messages]


def unpack(body: bytes, feedback: float | None, correction: str | None, messages: Sequence[bytes]) -> Row:
    whole = Raw(b"[" + b",".join(messages) + b"]")
    row = msgspec.json.decode(body, type=Row)
    return structs.replace(row, messages=whole, feedback=feedback, correction=correction)


def raised(task: Task) -> tuple[Task, bytes]:
    """The task at its next revision, and its JSON."""
    new = structs.replace(task, revision=task.revision + 1)
    return new, msgspec.json.encode(new)


def read_task(body: bytes) -> Task:
    return msgspec.json.decode(body, type=Task)


def changed(task: Task) -> Problem:
    if task.revision == 0:
        say = f"task {task.name!r} is there already; give another name, or forget it first"
        return Problem("client", say, 409, code="task_exists", param="name")
    say = f"task {task.name!r} was changed by somebody else meanwhile (revision {task.revision} is old): read it again"
    return Problem("client", say, 409, code="task_changed")


def one(key: str | None, subject: str | None) -> None:
    """Raises Problem (400) unless exactly one of them is named."""
    if (key is None) == (subject is None) or "" in (key, subject):
        raise Problem("client", "name a key or a subject to forget, one of the two", code="usage")


def counted(tasks: Sequence[str]) -> dict[str, int]:
    return {name: len(list(same)) for name, same in groupby(sorted(tasks))}


def _row(db: sqlite3.Connection, found: _Found) -> Row:
    number, body, feedback, correction = found
    return unpack(body, feedback, correction, [m for (m,) in db.execute(MESSAGES, (number,))])
