from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from tests.store.ledger_contract import CONTRACT, NOTHING, Clock, Story, cost, hold, keeps, sums

from lilliput.money import Account, UsageQuery
from lilliput.neutral import Problem
from lilliput.store.journal_ledger import JournalLedger
from lilliput.store.ledger import SqliteBooks
from lilliput.store.sqlite import SqliteStore


@asynccontextmanager
async def opened(path: Path, clock: Clock, by_writer: bool = False) -> AsyncIterator[JournalLedger]:
    """`by_writer`: as when another connection always writes, so that every commit is left to the store's writer."""
    store = SqliteStore(path)
    books = SqliteBooks(store, clock=clock)
    if by_writer:
        books.close()
    ledger = JournalLedger(books, path.with_name("journals"), clock=clock, steady=clock)
    try:
        yield ledger
    finally:
        await ledger.close()
        books.close()
        await store.close()


@pytest.mark.parametrize("story", CONTRACT, ids=lambda s: s.__name__)
def test_it_keeps_the_contract_in_the_writer_s_turn(story: Story, tmp_path: Path) -> None:
    keeps(lambda clock: opened(tmp_path / "lilliput.db", clock, by_writer=True), story)


def test_a_database_that_another_holds_is_waited_for(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "lilliput.db", Clock()) as ledger:
            other = sqlite3.connect(tmp_path / "lilliput.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            waits = [asyncio.create_task(ledger.hold(hold(f"r{n}"))) for n in range(300)]
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in waits), "nor is the loop held up"
            other.execute("ROLLBACK")
            other.close()
            await asyncio.gather(*waits)
            assert await sums(ledger) == (None, 0, 3000)

    asyncio.run(story())


def test_the_log_is_written_back_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lilliput.store.ledger.CHECKPOINT_AFTER_PAGES", 200)
    log = tmp_path / "lilliput.db-wal"

    async def story() -> None:
        async with opened(tmp_path / "lilliput.db", Clock()) as ledger:
            sizes = []
            for n in range(300):
                await ledger.hold(hold(f"r{n}"))
                await ledger.settle(f"r{n}", cost(7))
                sizes.append(log.stat().st_size)
                assert isinstance(ledger._books, SqliteBooks)
                if ledger._books._checkpointing is not None:
                    await ledger._books._checkpointing
            assert max(sizes) == max(sizes[:150]), "it starts from its beginning again"

    asyncio.run(story())


# What somebody did to the tables, and what `check` says of it.
TAMPERED = [
    ("UPDATE account SET spent_nusd = spent_nusd + 1 WHERE id = 'k'", ["'k': spent 8", "'k': credit, held and spent"]),
    ("UPDATE account SET past_nusd = 5 WHERE id = 'org'", ["'org': spent 12"]),
    ("UPDATE account SET held_nusd = 9 WHERE id = 'org'", ["'org': held 9"]),
    ("UPDATE account SET credit_nusd = 99 WHERE id = 'k'", ["'k': credit, held and spent 116"]),
    ("UPDATE credit_grant SET amount_nusd = 1", ["its grants make 1"]),
    ("DELETE FROM allotment", ["'k': held 10", "'org': held 10"]),
    ("DELETE FROM journal", ["of a journal that is not there"]),
    ("DELETE FROM entry WHERE state = 'settled'", ["'k': spent 7", "'org': spent 7"]),
    ("UPDATE entry SET cost_nusd = 6 WHERE state = 'settled'", ["'k': spent 7", "'org': spent 7"]),
    ("UPDATE entry SET cost_nusd = 1 WHERE state = 'released'", ["entry 'r2' is released"]),
    ("UPDATE entry SET state = 'unknown' WHERE id = 'r1'", ["entry 'r1' is unknown"]),
    ("DELETE FROM account WHERE id = 'org'", ["account 'org', which is not there", "'org' above it is not there"]),
]


@pytest.mark.parametrize(("tamper", "said"), TAMPERED, ids=[row[0] for row in TAMPERED])
def test_the_check_sees(tamper: str, said: list[str], tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "lilliput.db", Clock()) as ledger:
            await ledger.put_account(Account(id="org", kind="organisation"))
            await ledger.put_account(Account(id="k", kind="key", parent="org"))
            await ledger.grant("k", 100, "")
            for n in (1, 2, 3):
                await ledger.hold(hold(f"r{n}"))
            await ledger.settle("r1", cost(7))
            await ledger.release("r2", NOTHING)
            assert await ledger.check() == []
            other = sqlite3.connect(tmp_path / "lilliput.db", isolation_level=None)
            other.execute(tamper)
            other.close()
            wrong = "\n".join(await ledger.check())
            assert [what for what in said if what not in wrong] == [], wrong

    asyncio.run(story())


# -- what fails underneath ---------------------------------------------------------------------------------------


class Faults:
    """Which calls fail: from the `first` to the one before `last`, counted over all connections, from 1."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.calls = first, last, 0

    def count(self) -> None:
        self.calls += 1
        if self.first <= self.calls < self.last:
            raise sqlite3.OperationalError("the disk said no")


class Failing:
    """A connection with those faults."""

    def __init__(self, db: sqlite3.Connection, faults: Faults) -> None:
        self._db = db
        self._faults = faults

    def execute(self, *args: Any) -> sqlite3.Cursor:
        self._faults.count()
        return self._db.execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        self._faults.count()
        return self._db.executemany(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


async def answered(call: Awaitable[object]) -> object:
    """What it returned, or None when the database could not answer."""
    try:
        return await call or True
    except Problem as problem:
        if problem.status != 503:
            raise
        return None


async def a_life_with_failures(path: Path, first: int, last: int) -> int:
    """A few requests while the database fails in between; what was answered is true and nothing else happened. How
    many calls the database got."""
    store = SqliteStore(path)
    clock = Clock()
    books = SqliteBooks(store, clock=clock)
    ledger = JournalLedger(books, path.with_suffix(".journals"), clock=clock, steady=clock)
    await ledger.put_account(Account(id="org", kind="organisation", limit_nusd=1000))
    faults = Faults(first, last)
    for owner in (books, store._writer):
        owner._db = cast(sqlite3.Connection, Failing(owner._db, faults))
    known = await answered(ledger.put_account(Account(id="k", kind="key", parent="org")))
    paid = await answered(ledger.grant("k", 500, "")) is not None
    ids = ["settled", "released", "swept"]
    held = await asyncio.gather(*(answered(ledger.hold(hold(id, 10, lease_s=60.0))) for id in ids))
    holds = {id for id, ok in zip(ids, held, strict=True) if ok}
    ended = await asyncio.gather(
        answered(ledger.settle("settled", cost(7))), answered(ledger.release("released", NOTHING))
    )
    clock.now += 61
    await answered(ledger.sweep())
    faults.last = 0
    assert await books.check() == []
    await answered(ledger.sweep())  # finds the transaction open when even its ROLLBACK failed
    await ledger.sweep()
    assert await ledger.check() == []
    costs = {r.group[0]: r.cost_nusd for r in await ledger.usage(UsageQuery(by=("operation", "served")))}
    assert set(costs) <= {"chat"}
    charged = 10 * len(holds)
    if "settled" in holds and ended[0]:
        charged -= 3
    if "released" in holds and ended[1]:
        charged -= 10
    credit = 500 - charged if paid else None
    if holds:
        assert await sums(ledger) == (credit, charged, 0)
    if holds and known:
        assert await sums(ledger, "org") == (None, charged, 0)
    await ledger.close()
    books.close()
    await store.close()
    return faults.calls


@pytest.mark.parametrize("width", [1, 2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_failure_at_any_call_leaves_no_wrong_row(width: int, tmp_path: Path) -> None:
    total = asyncio.run(a_life_with_failures(tmp_path / "0.db", 0, 0))
    assert total > 40
    for n in range(1, total + 1):
        asyncio.run(a_life_with_failures(tmp_path / f"{n}.db", n, n + width))


def test_a_full_disk_leaves_no_wrong_row(tmp_path: Path) -> None:
    async def story() -> None:
        store = SqliteStore(tmp_path / "lilliput.db")
        books = SqliteBooks(store)
        ledger = JournalLedger(books, tmp_path / "journals")
        (pages,) = await store.write(lambda db: db.execute("PRAGMA page_count").fetchone())
        for db in (books._db, store._writer._db):
            db.execute("PRAGMA max_page_count = 60").fetchone()
        assert pages < 60
        held, settled = [], 0
        for n in range(100):
            ids = [f"{n}-{i}" for i in range(20)]
            answers = await asyncio.gather(*(answered(ledger.hold(hold(id, model="x" * 999))) for id in ids))
            held += [id for id, ok in zip(ids, answers, strict=True) if ok]
            some = held[: len(held) // 2]
            assert all(ledger.settle_now(id, cost(7)) for id in some), "what was admitted is written down"
            settled += len(some)
            held = held[len(some) :]
            if None in answers:
                break
        else:
            raise AssertionError("it never was full")
        with pytest.raises(Problem) as e:
            await ledger.hold(hold("y" * 9999))
        assert (e.value.status, e.value.code) == (503, "store_full")
        for db in (books._db, store._writer._db):
            db.execute("PRAGMA max_page_count = 100000").fetchone()
        assert await sums(ledger) == (None, 7 * settled, 10 * len(held))
        assert all(ledger.settle_now(id, cost(10)) for id in held)
        assert await sums(ledger) == (None, 7 * settled + 10 * len(held), 0)
        assert await ledger.check() == []
        await ledger.close()
        books.close()
        await store.close()

    asyncio.run(story())


def test_a_closed_store_holds_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        store = SqliteStore(tmp_path / "lilliput.db")
        books = SqliteBooks(store)
        ledger = JournalLedger(books, tmp_path / "journals")
        books.close()
        await store.close()
        answers = await asyncio.gather(*(ledger.hold(hold(f"{n}")) for n in range(3)), return_exceptions=True)
        assert [a.code for a in answers if isinstance(a, Problem)] == ["store_closed"] * 3

    asyncio.run(story())
