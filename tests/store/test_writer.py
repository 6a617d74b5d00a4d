from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lilliput.neutral import Problem
from lilliput.store.epoch import Epoch
from lilliput.store.writer import GROUP, Writer


class Bench:
    """A writer on a table t(n), the statements it runs, and a second connection that can hold it up."""

    def __init__(self, folder: Path) -> None:
        path = folder / "w.db"
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY CHECK (n < 1000000))")
        db.execute("CREATE TABLE u (n REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED)")
        db.execute("PRAGMA foreign_keys = ON")
        self.ran: list[str] = []
        db.set_trace_callback(self.ran.append)
        self.other = sqlite3.connect(path, isolation_level=None)
        self.epoch = Epoch(folder / "w.epoch")
        self.writer = Writer(db, path, self.epoch, 5.0)

    def add(self, n: int) -> asyncio.Future[int]:
        return self.writer.submit(lambda db: db.execute("INSERT INTO t VALUES (?)", (n,)).rowcount)

    def count(self) -> int:
        return int(self.other.execute("SELECT count(*) FROM t").fetchone()[0])

    def close(self) -> None:
        self.writer.close()
        self.other.close()
        self.epoch.close()


def on_a_bench(folder: Path, story: Callable[[Bench], Awaitable[None]]) -> None:
    async def whole() -> None:
        b = Bench(folder)
        try:
            await story(b)
        finally:
            b.close()

    asyncio.run(whole())


def test_what_waits_is_committed_together(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        b.other.execute("BEGIN IMMEDIATE")
        futures = [b.add(n) for n in range(GROUP + 50)]
        b.other.execute("ROLLBACK")
        assert await asyncio.gather(*futures) == [1] * (GROUP + 50)
        commits = b.ran.count("COMMIT")
        assert commits <= 3, "the one that was held up, a full group, the rest"
        assert b.count() == GROUP + 50

    on_a_bench(tmp_path, story)


def test_a_failed_job_is_undone_alone(tmp_path: Path) -> None:
    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO t VALUES (777)")
        raise Problem("limit", "no more")

    def unbindable(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO t VALUES (888)")
        db.execute("INSERT INTO t VALUES (?)", (2**70,))

    async def story(b: Bench) -> None:
        b.other.execute("BEGIN IMMEDIATE")
        futures: list[asyncio.Future[object]] = []
        for work in (b.add(1), b.writer.submit(half), b.add(1), b.writer.submit(unbindable), b.add(10**6), b.add(2)):
            futures.append(asyncio.ensure_future(work))
        b.other.execute("ROLLBACK")
        answers = await asyncio.gather(*futures, return_exceptions=True)
        said = [a.fault if isinstance(a, Problem) else a for a in answers]
        assert said == [1, "limit", "server", "server", "server", 1]
        assert list(b.other.execute("SELECT n FROM t")) == [(1,), (2,)]

    on_a_bench(tmp_path, story)


def test_a_failed_commit_fails_all_in_it_and_none_after(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        await b.add(0)
        b.other.execute("BEGIN IMMEDIATE")
        held = b.add(1)  # goes alone, or with the others
        futures = [b.add(2), b.writer.submit(lambda db: db.execute("INSERT INTO u VALUES (99)").rowcount), b.add(3)]
        b.other.execute("ROLLBACK")
        answers = await asyncio.gather(held, *futures, return_exceptions=True)
        assert all(isinstance(a, Problem) for a in answers[1:])
        assert b.count() == 1 + (answers[0] == 1)
        assert await b.add(4) == 1

    on_a_bench(tmp_path, story)


def test_nothing_is_answered_before_its_commit(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        for n in range(50):
            await b.add(n)
            assert b.count() == n + 1

    on_a_bench(tmp_path, story)


def test_a_cancelled_caller_has_still_written(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        b.other.execute("BEGIN IMMEDIATE")
        gone, stays = b.add(1), b.add(2)
        gone.cancel()
        b.other.execute("ROLLBACK")
        assert await stays == 1
        assert b.count() == 2

    on_a_bench(tmp_path, story)


def test_closing_commits_what_is_queued(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        futures = [b.add(n) for n in range(GROUP * 3 + 7)]
        b.writer.close()
        assert await asyncio.gather(*futures) == [1] * (GROUP * 3 + 7)
        assert b.count() == GROUP * 3 + 7
        with pytest.raises(Problem, match="closed"):
            b.add(-1)

    on_a_bench(tmp_path, story)


def test_a_change_of_keys_waits_for_the_disk_and_moves_the_epoch(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        await b.add(1)
        assert "PRAGMA synchronous = FULL" not in b.ran
        assert b.epoch.view[0] == 0
        await b.writer.submit(lambda db: None, changes_keys=True)
        assert b.ran[-5] == "PRAGMA synchronous = FULL"
        assert b.epoch.view[0] == 2
        await b.add(2)
        assert b.ran[-6] == "PRAGMA synchronous = NORMAL"

    on_a_bench(tmp_path, story)


def test_a_job_for_a_loop_that_ended_harms_nobody(tmp_path: Path) -> None:
    b = Bench(tmp_path)

    async def leave() -> None:
        b.other.execute("BEGIN IMMEDIATE")
        b.add(1)

    async def stay() -> None:
        assert await b.add(2) == 1

    asyncio.run(leave())
    b.other.execute("ROLLBACK")
    asyncio.run(stay())
    assert b.count() == 2
    b.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_job_with_a_bug_shuts_the_store_and_leaves_nobody_waiting(tmp_path: Path) -> None:
    def bug(db: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    async def story(b: Bench) -> None:
        b.other.execute("BEGIN IMMEDIATE")
        futures: list[asyncio.Future[object]] = []
        for work in (b.add(1), b.writer.submit(bug), b.add(2)):
            futures.append(asyncio.ensure_future(work))
        b.other.execute("ROLLBACK")
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(a, Problem) for a in answers[1:]] == [True, True]
        assert b.count() == (answers[0] == 1), "the first may have gone in a group of its own"
        with pytest.raises(Problem, match="closed"):
            b.add(3)

    on_a_bench(tmp_path, story)


def test_the_epoch_survives_its_last_number(tmp_path: Path) -> None:
    epoch = Epoch(tmp_path / "e")
    for start in (0, 1, 2**64 - 2, 2**64 - 1):
        epoch.view[0] = start
        with epoch.lock(1.0):
            before = epoch.view[0]
            with epoch.change():
                assert epoch.view[0] & 1
            assert not epoch.view[0] & 1
            assert epoch.view[0] != before
    epoch.close()


def test_the_lock_is_given_up_on_in_time_and_after_a_failure(tmp_path: Path) -> None:
    one, two = Epoch(tmp_path / "e"), Epoch(tmp_path / "e")
    with one.lock(0.0), pytest.raises(Problem) as e, two.lock(0.01):
        pass
    assert e.value.code == "store_locked"
    with pytest.raises(ZeroDivisionError), one.lock(0.0), one.change():
        raise ZeroDivisionError
    with two.lock(0.0):
        assert two.view[0] == 2
    one.close()
    two.close()
