"""The ledger's books on SQLite: a landing is read, decided on (see `book`) and written back in one transaction.

Only one transaction writes to SQLite at a time, so nobody else can be decided on meanwhile. A commit waits for no disk
(`synchronous = NORMAL`) and is made on the loop's own thread, which costs half of what handing it to another does;
when another connection writes, or anything is wrong, it is left to the store's writer, which can wait.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from msgspec import json, structs

from lilliput.money import Account, UsageQuery, UsageRow
from lilliput.neutral import Problem
from lilliput.store import audit, faults
from lilliput.store.book import (
    Allotment,
    Landed,
    Landing,
    Page,
    Purse,
    count_from,
    path,
    pay,
    put,
    read_purse,
    renamed,
    shown,
)
from lilliput.store.budget import period_start
from lilliput.store.sqlite import SqliteStore

T = TypeVar("T")
MOST_CHAINS = 10_000
"""Chains kept in memory, each of which is a few hundred bytes."""
CHECKPOINT_AFTER_PAGES = 4000
"""Pages of 4 KiB that the log may grow by between two checkpoints, by estimate."""
_READ_WAIT_S = 0.1

FIND_ACCOUNT = """
SELECT id, kind, parent, name, limit_nusd, period, credit_nusd, spent_nusd, held_nusd, past_nusd, unpaid_nusd,
  period_began
FROM account WHERE id = ?
"""
ADD_ACCOUNT = """
INSERT INTO account (id, kind, name, period, spent_nusd, held_nusd, past_nusd, unpaid_nusd, period_began)
VALUES (?, 'key', '', 'total', 0, 0, 0, 0, 0)
"""
SET_ACCOUNT = """
UPDATE account SET kind = ?2, parent = ?3, name = ?4, limit_nusd = ?5, period = ?6, credit_nusd = ?7, spent_nusd = ?8,
  held_nusd = ?9, past_nusd = ?10, unpaid_nusd = ?11, period_began = ?12
WHERE id = ?1
"""
SPENT_SINCE = """
SELECT coalesce(sum(e.cost_nusd), 0) FROM chain AS c, json_each(c.accounts) AS a, entry AS e
WHERE a.value = ? AND e.chain = c.n AND e.ended_at >= ?
"""
FIND_CHAIN = "SELECT n FROM chain WHERE accounts = ?"
ADD_CHAIN = "INSERT INTO chain (accounts) VALUES (?)"
CHAIN_ACCOUNTS = "SELECT accounts FROM chain WHERE n = ?"
TAKEN = "SELECT id FROM entry WHERE id IN (SELECT value FROM json_each(?))"

FIND_JOURNAL = "SELECT landed FROM journal WHERE id = ?"
SET_JOURNAL = "INSERT INTO journal VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET landed = excluded.landed"
END_JOURNAL = "DELETE FROM journal WHERE id = ?"
ALLOTMENTS = "SELECT id, chain, amount_nusd FROM allotment WHERE journal = ?"
SET_ALLOTMENT = """
INSERT INTO allotment VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET amount_nusd = excluded.amount_nusd, lease_ends = excluded.lease_ends
"""
END_ALLOTMENT = "DELETE FROM allotment WHERE id = ?"
EXPIRED = """
SELECT DISTINCT journal FROM allotment
WHERE lease_ends <= ? AND journal NOT IN (SELECT value FROM json_each(?))
"""
# None is slow to bind (the module looks for an adapter), so what is None in most entries goes as -1.
ADD_ENTRY = """
INSERT INTO entry (
  id, chain, state, ended_at, began_at, amount_nusd, cost_nusd, operation, model, tags, served, price, tries, status,
  latency_ms, first_token_ms, left_early, input, cache_read, cache_write_5m, cache_write_1h, audio_in, image_in, output,
  reasoning, audio_out, image_out
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, -1), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
ADD_GRANT = "INSERT INTO credit_grant (account, amount_nusd, note, granted_at) VALUES (?, ?, ?, ?)"


class SqliteBooks:
    """`journal_ledger.Books` in `store`'s file. One for each process, used from one loop; the store is closed after it.

    `clock` tells Unix seconds: leases and periods go by it. A clock that jumps back starts no period anew.
    """

    def __init__(self, store: SqliteStore, *, lease_s: float = 60.0, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._lease_s = lease_s
        self._numbers: dict[tuple[str, ...], int] = {}
        self._chains: dict[int, tuple[str, ...]] = {}
        self._pages = 0
        self._checkpointing: asyncio.Future[None] | None = None
        try:
            self._db = sqlite3.connect(store.path, timeout=0.0, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA wal_autocheckpoint = 0")
        except sqlite3.Error as e:
            raise faults.problem(e, store.path) from None

    def close(self) -> None:
        """Let go of the database; calling it again does nothing."""
        self._db.close()

    def land_now(self, landing: Landing) -> Landed | None:
        landed = None
        try:
            self._db.execute("BEGIN IMMEDIATE")
            decided = self._write(landing, self._db)
            self._db.execute("COMMIT")
            landed = decided
        except (sqlite3.Error, OverflowError, UnicodeError, Problem):
            pass
        finally:
            if landed is None:
                self._undo()
        if landed is not None:
            self._has_written(landing)
        return landed

    async def land(self, landing: Landing) -> Landed:
        landed = await self._store.write(partial(self._write, landing))
        self._has_written(landing)
        return landed

    async def free(self, alive: list[str]) -> None:
        def end(db: sqlite3.Connection) -> None:
            for (journal,) in db.execute(EXPIRED, (self._clock(), _array(alive))).fetchall():
                self._write(Landing(journal, 0, [], [], closes=True), db)

        await self._store.write(end)

    async def put_account(self, account: Account) -> None:
        def change(db: sqlite3.Connection) -> None:
            purses, now = _Purses(db, self._clock()), self._clock()
            p = purses[account.id]
            if account.parent is not None:
                purses.find(account.parent)
            put(purses, account)
            if account.period != p.period:
                (since_nusd,) = db.execute(SPENT_SINCE, (p.id, period_start(account.period, now))).fetchone()
                count_from(p, account.period, since_nusd, now)
            purses.write()

        await self._store.write(change)

    async def grant(self, account: str, amount_nusd: int, note: str) -> Account:
        def give(db: sqlite3.Connection) -> Account:
            purses, now = _Purses(db, self._clock()), self._clock()
            paid = pay(purses[account], amount_nusd)
            purses.write()
            db.execute(ADD_GRANT, (account, paid, note, now))
            return shown(purses[account])

        return await self._store.write(give)

    async def account(self, id: str) -> Account | None:
        return await self._read(lambda db: audit.account(db, id, self._clock()))

    async def accounts(self) -> list[Account]:
        return await self._read(lambda db: audit.accounts(db, self._clock()))

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        return await self._read(lambda db: audit.usage(db, query))

    async def check(self) -> list[str]:
        return await self._read(audit.check)

    # -- one transaction -------------------------------------------------------------------------------------------

    def _write(self, landing: Landing, db: sqlite3.Connection) -> Landed:
        now = self._clock()
        purses = _Purses(db, now)
        row = db.execute(FIND_JOURNAL, (landing.journal,)).fetchone()
        kept = [Allotment(*a) for a in db.execute(ALLOTMENTS, (landing.journal,))]
        wanted = [w.id for line in landing.lines for w in line.wants]
        taken = {id for (id,) in db.execute(TAKEN, (_array(wanted),))} if wanted else set()
        numbers = {line.account: self._number(db, path(purses, line.account)) for line in landing.lines}
        chains = {n: self._accounts(db, n) for n in {r[1] for r in landing.rows} | {a.chain for a in kept}}
        chains |= {n: self._accounts(db, n) for n in {*numbers.values(), *(x.chain for x in landing.lines if x.chain)}}
        landed = None if row is None else int(row[0])
        page = Page(purses, {a.id: a for a in kept}, landed, taken, chains, numbers, now)
        answer = page.land(landing)
        if not answer.counts:
            return answer
        purses.write()
        db.executemany(END_ALLOTMENT, [(id,) for id in page.gone])
        ends = now + self._lease_s
        lines = [page.allotments[x.id] for x in landing.lines if x.id in page.allotments]
        db.executemany(SET_ALLOTMENT, [(a.id, landing.journal, a.chain, a.amount_nusd, ends) for a in lines])
        if landing.closes:
            db.execute(END_JOURNAL, (landing.journal,))
        else:
            db.execute(SET_JOURNAL, (landing.journal, landing.since + len(landing.rows)))
        self._enter(db, page, landing)
        return answer

    def _enter(self, db: sqlite3.Connection, page: Page, landing: Landing) -> None:
        db.execute("SAVEPOINT entries")
        try:
            db.executemany(ADD_ENTRY, page.rows)
        except sqlite3.IntegrityError:
            db.execute("ROLLBACK TO entries")
            taken = {id for (id,) in db.execute(TAKEN, (_array([r[0] for r in page.rows]),))}
            db.executemany(ADD_ENTRY, renamed(page.rows, taken, landing.journal, landing.since))
        db.execute("RELEASE entries")

    def _number(self, db: sqlite3.Connection, on: list[Purse]) -> int:
        ids = tuple([p.id for p in on])
        n = self._numbers.get(ids)
        if n is None:
            text = _array(ids)
            row = db.execute(FIND_CHAIN, (text,)).fetchone()
            if row is None:  # not to be remembered beyond this transaction, which may fail
                n = db.execute(ADD_CHAIN, (text,)).lastrowid
                assert n is not None
                return n
            n = self._numbers[ids] = int(row[0])
        return n

    def _accounts(self, db: sqlite3.Connection, n: int) -> tuple[str, ...]:
        accounts = self._chains.get(n)
        if accounts is None:
            (text,) = db.execute(CHAIN_ACCOUNTS, (n,)).fetchone()
            accounts = audit.chain_accounts(text)
            if accounts in self._numbers:  # it is committed, and a chain once written stays
                self._chains[n] = accounts
            if len(self._chains) > MOST_CHAINS:
                self._chains.clear()
                self._numbers.clear()
        return accounts

    def _undo(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            self._db.close()  # which undoes it too; from here on the writer does all

    async def _read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """What `look` finds in one snapshot, over a connection of its own and away from the loop."""

        def whole() -> T:
            try:
                db = sqlite3.connect(self._store.path, timeout=_READ_WAIT_S, isolation_level=None)
                try:
                    db.execute("PRAGMA query_only = ON")
                    db.execute("BEGIN")
                    return look(db)
                finally:
                    db.close()
            except sqlite3.Error as e:
                raise faults.problem(e, self._store.path) from None

        return await asyncio.to_thread(whole)

    def _has_written(self, landing: Landing) -> None:
        self._pages += 4 + len(landing.lines) + len(landing.rows) // 10
        if self._pages >= CHECKPOINT_AFTER_PAGES and (self._checkpointing is None or self._checkpointing.done()):
            self._pages = 0
            self._checkpointing = asyncio.get_running_loop().run_in_executor(None, self._checkpoint)

    def _checkpoint(self) -> None:
        """Write the log's pages into the database, for which the disk is waited: not on the loop's thread."""
        with suppress(sqlite3.Error):  # a reader or another process is in the way: the next one does it
            db = sqlite3.connect(self._store.path, timeout=_READ_WAIT_S, isolation_level=None)
            try:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
                db.execute("PRAGMA wal_checkpoint(RESTART)")
            finally:
                db.close()


class _Purses(dict[str, Purse]):
    """The accounts that one transaction touches: read once, written back once; those that are not there are made."""

    def __init__(self, db: sqlite3.Connection, now: float) -> None:
        super().__init__()
        self._db, self._now = db, now

    def __missing__(self, id: str) -> Purse:
        purse = self.find(id)
        if purse is None:
            self._db.execute(ADD_ACCOUNT, (id,))
            purse = self[id] = Purse(id)
        return purse

    def find(self, id: str) -> Purse | None:
        row = self._db.execute(FIND_ACCOUNT, (id,)).fetchone()
        if row is None:
            return None
        purse = self[id] = read_purse(row, self._now)
        return purse

    def write(self) -> None:
        self._db.executemany(SET_ACCOUNT, map(structs.astuple, self.values()))


def _array(texts: Iterable[str]) -> str:
    return json.encode(list(texts)).decode()
