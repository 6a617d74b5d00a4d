"""The one thread that writes to SQLite: what is queued while it commits goes into its next commit, together.

Which statements are run is the business of whoever submits them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar, cast

from msgspec import Struct

from lilliput.neutral import Problem
from lilliput.store import faults
from lilliput.store.epoch import Epoch

T = TypeVar("T")
GROUP = 256
"""Jobs in one commit, at most: it bounds how long the first of them waits for the last."""
# NORMAL keeps the file whole through a power cut, which may undo the last commits; FULL waits for the disk each time
# (https://www.sqlite.org/pragma.html#pragma_synchronous, checked 2026-11-22).
_FAST = "PRAGMA synchronous = NORMAL"
_DURABLE = "PRAGMA synchronous = FULL"


class _Work(Struct, frozen=True):
    job: Callable[[sqlite3.Connection], object]
    changes_keys: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[object]


class Writer:
    """Owns `db` (in autocommit, opened for any thread) from here on. `wait_s` bounds the wait for other processes."""

    def __init__(self, db: sqlite3.Connection, path: Path, epoch: Epoch, wait_s: float) -> None:
        self._db = db
        self._path = path
        self._epoch = epoch
        self._wait_s = wait_s
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="lilliput-store", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[sqlite3.Connection], T], *, changes_keys: bool = False) -> asyncio.Future[T]:
        """What `job` returns, once it is committed; a Problem undoes this job alone, or the whole commit failed.

        A job runs even when its caller is cancelled meanwhile. A commit with `changes_keys` in it moves the epoch and
        waits for the disk (synchronous=FULL): a revoked key stays revoked through a power cut.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._gate:
            if not self._open:
                raise self._closed()
            self._queue.put(_Work(job, changes_keys, loop, cast("asyncio.Future[object]", future)))
        return future

    def close(self) -> None:
        """Commit what is queued, end the thread, close the connection. Blocks; calling it again does nothing."""
        with self._gate:
            if self._open:
                self._open = False
                self._queue.put(None)
        self._thread.join()
        self._db.close()

    def _closed(self) -> Problem:
        return Problem("server", f"the database {self._path} is closed: start lilliput again", code="store_closed")

    def _run(self) -> None:
        batch: list[_Work] = []
        try:
            while batch := self._next():
                _answer(batch, self._commit(batch))
        finally:
            # Reached with work in hand only when a job raised what no job should: that is loud (the thread's
            # traceback), and from here on the store is shut rather than half alive.
            with self._gate:
                self._open = False
            while rest := self._next(wait=False):
                batch += rest
            _answer(batch, [self._closed()] * len(batch))

    def _next(self, wait: bool = True) -> list[_Work]:
        """The next group; empty when the queue is (`wait` False), or when it was closed."""
        batch: list[_Work] = []
        try:
            work = self._queue.get(block=wait)
            while work is not None:
                batch.append(work)
                if len(batch) == GROUP:
                    return batch
                work = self._queue.get_nowait()
            if batch:
                self._queue.put(None)
        except Empty:
            pass
        return batch

    def _commit(self, batch: list[_Work]) -> list[object]:
        """One answer a job; all of them the same Problem when the commit as a whole failed."""
        try:
            if not any(w.changes_keys for w in batch):
                return self._transact(batch)
            with self._epoch.lock(self._wait_s):
                return self._transact(batch, durable=True)
        except Problem as p:
            return [p] * len(batch)
        except sqlite3.Error as e:
            return [faults.problem(e, self._path)] * len(batch)
        finally:
            if self._db.in_transaction:
                with suppress(sqlite3.Error):  # the next group finds the transaction open, and says so
                    self._db.execute("ROLLBACK")

    def _transact(self, batch: list[_Work], durable: bool = False) -> list[object]:
        if durable:
            self._db.execute(_DURABLE)
        else:
            self._db.execute(_FAST)
        self._db.execute("BEGIN IMMEDIATE")
        answers = [self._one(w.job) for w in batch]
        with self._epoch.change() if durable else nullcontext():
            self._db.execute("COMMIT")
        return answers

    def _one(self, job: Callable[[sqlite3.Connection], object]) -> object:
        """The job's answer, or the Problem that undid it and nothing else in the group."""
        self._db.execute("SAVEPOINT job")
        try:
            answer = job(self._db)
        except Problem as p:
            answer = p
        except (sqlite3.Error, OverflowError, UnicodeError) as e:
            if not self._db.in_transaction:
                raise  # SQLite gave up the whole transaction (disk full, I/O error): nobody's work stands
            answer = faults.problem(e, self._path)
        if isinstance(answer, Problem):
            self._db.execute("ROLLBACK TO job")
        self._db.execute("RELEASE job")
        return answer


def _answer(batch: list[_Work], answers: list[object]) -> None:
    """Wake each waiting loop once, with all that is for it."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[object], object]]] = {}
    for work, answer in zip(batch, answers, strict=True):
        loops.setdefault(work.loop, []).append((work.future, answer))
    for loop, pairs in loops.items():
        with suppress(RuntimeError):  # a loop that is closed has nobody left to tell
            loop.call_soon_threadsafe(_deliver, pairs)


def _deliver(pairs: list[tuple[asyncio.Future[object], object]]) -> None:
    for future, answer in pairs:
        if future.done():
            continue
        if isinstance(answer, Problem):
            future.set_exception(answer)
        else:
            future.set_result(answer)
