"""The ledger on SQLite: what waits at once is decided together and shares one commit.

Only one transaction writes to SQLite at a time, so a budget is read, decided on and written back inside one. Each
account is read and written once a commit, however many holds and settlements it carries. A commit waits for no disk
(`synchronous = NORMAL`) and is made on the loop's own thread, which costs half of what handing it to another does;
when another connection writes, or anything is wrong, it is left to the store's writer, which can wait.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from msgspec import Struct, json, structs

from lilliput.money import Account, Hold, Outcome, Settlement, UsageQuery, UsageRow
from lilliput.neutral import Problem, Usage
from lilliput.store import audit, faults
from lilliput.store.book import Book, Chains
from lilliput.store.budget import MOST_NUSD
from lilliput.store.sqlite import SqliteStore

T = TypeVar("T")
GROUP = 128
"""Holds and ends in one commit, at most: some milliseconds' work."""
GATHER_S, FEW = 0.002, 4
"""While more than a few holds are under way a commit waits this long for company, which is what makes it cheap."""
CHECKPOINT_AFTER = 1000
"""Commits between two checkpoints: each adds a few pages of 4 KiB to the log."""
SWEPT = 500
"""Holds that one commit of a sweep ends at most: others wait no longer for it than for each other."""
_READ_WAIT_S = 0.1

ADD_HOLD = """
INSERT INTO hold (id, chain, amount_nusd, began_at, lease_ends, operation, model, tags) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
TAKEN = """
WITH asked (id) AS (SELECT value FROM json_each(?))
SELECT id FROM asked WHERE id IN (SELECT id FROM hold) OR id IN (SELECT id FROM entry)
"""
FIND_HOLDS = """
SELECT id, chain, amount_nusd, began_at, lease_ends, operation, model, tags FROM hold
WHERE id IN (SELECT value FROM json_each(?))
"""
END_HOLDS = "DELETE FROM hold WHERE id IN (SELECT value FROM json_each(?))"
EXPIRED = "SELECT id FROM hold WHERE lease_ends <= ? LIMIT ?"
# None is slow to bind (the module looks for an adapter), so what is None in most entries goes as -1.
ADD_ENTRY = """
INSERT INTO entry (
  id, chain, state, ended_at, began_at, amount_nusd, cost_nusd, operation, model, tags, served, price, tries, status,
  latency_ms, first_token_ms, left_early, input, cache_read, cache_write_5m, cache_write_1h, audio_in, image_in, output,
  reasoning, audio_out, image_out
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, -1), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
ADD_GRANT = "INSERT INTO credit_grant (account, amount_nusd, note, granted_at) VALUES (?, ?, ?, ?)"

_Row = tuple[str, int, int, float, float, str, str, str]
"""A hold's columns, in the order of ADD_HOLD."""
_LOST = Settlement(cost_nusd=None, usage=None, served="", price="", tries=0, status=0, latency_ms=0)
_NO_USAGE = (None,) * 10


class End(Struct, frozen=True):
    """A hold's end. Of `unknown` ones nothing is known but that they cost no more than was held."""

    id: str
    state: Outcome
    settlement: Settlement


_Waiting = tuple[Hold | End, asyncio.Future[object]]


class SqliteLedger:
    """`money.Ledger` in `store`'s file. One for each process, used from one loop; the store is closed after it.

    `clock` tells Unix seconds: leases and periods go by it. A clock that jumps back starts no period anew.
    """

    def __init__(self, store: SqliteStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._chains = Chains()
        self._waiting: list[_Waiting] = []
        self._is_awake = False
        self._open = 0
        self._task: asyncio.Task[None] | None = None
        self._commits = 0
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

    async def hold(self, hold: Hold) -> None:
        if not 0 <= hold.amount_nusd <= MOST_NUSD:
            raise Problem("client", f"the request may cost {hold.amount_nusd} nano-dollars: ask for fewer tokens")
        future = self._enqueue(hold)
        try:
            await future
        except asyncio.CancelledError:
            self._enqueue(End(hold.id, "released", _LOST))  # nobody is left to settle it
            raise

    async def settle(self, id: str, settlement: Settlement) -> bool:
        return bool(await self._enqueue(End(id, "settled", settlement)))

    async def release(self, id: str, settlement: Settlement) -> bool:
        return bool(await self._enqueue(End(id, "released", settlement)))

    async def sweep(self) -> int:
        swept = 0
        while True:
            ended = await self._store.write(self._sweep)
            swept += ended
            if ended < SWEPT:
                return swept

    async def put_account(self, account: Account) -> None:
        await self._write(lambda book: book.put(account))

    async def grant(self, account: str, amount_nusd: int, note: str) -> Account:
        if abs(amount_nusd) > MOST_NUSD:
            raise Problem("client", f"{amount_nusd} nano-dollars are more than an account can hold")

        def pay(book: Book) -> Account:
            paid = book.pay(account, amount_nusd)
            book.write()  # the grant names an account that must be there
            book.db.execute(ADD_GRANT, (account, paid, note, book.now))
            return book.account(account)

        return await self._write(pay)

    async def account(self, id: str) -> Account | None:
        return await self._read(lambda db: audit.account(db, id, self._clock()))

    async def accounts(self) -> list[Account]:
        return await self._read(lambda db: audit.accounts(db, self._clock()))

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        return await self._read(lambda db: audit.usage(db, query))

    async def check(self) -> list[str]:
        return await self._read(audit.check)

    # -- many at once ----------------------------------------------------------------------------------------------

    def _enqueue(self, what: Hold | End) -> asyncio.Future[object]:
        """Its answer, once that is committed. A caller that leaves meanwhile changes nothing."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._waiting.append((what, future))
        self._open = max(0, self._open + (1 if type(what) is Hold else -1))
        if not self._is_awake:
            self._is_awake = True
            self._next(loop)
        return future

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._open > FEW and len(self._waiting) < GROUP:
            loop.call_later(GATHER_S, self._commit, loop)
        else:
            loop.call_soon(self._commit, loop)

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        """Commit what waits: here, or in the writer's turn when that cannot be done at once."""
        batch, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        answers = None
        try:
            answers = self._at_once([what for what, _ in batch])
        finally:
            if answers is None:
                self._task = loop.create_task(self._in_turn(batch, loop))
        if answers is not None:
            self._deliver(batch, answers, loop)

    def _at_once(self, batch: list[Hold | End]) -> list[object] | None:
        """The answers, committed; None, and nothing done, when another writes now or whatever else is wrong."""
        answers = None
        try:
            self._db.execute("BEGIN IMMEDIATE")
            decided = self._apply(batch, self._db)
            self._db.execute("COMMIT")
            answers = decided
            self._commits += 1
        except (sqlite3.Error, OverflowError, UnicodeError):
            pass
        finally:
            if answers is None:
                self._undo()
        return answers

    def _undo(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            self._db.close()  # which undoes it too; from here on the writer does all

    async def _in_turn(self, batch: list[_Waiting], loop: asyncio.AbstractEventLoop) -> None:
        self._deliver(batch, await self._answers([what for what, _ in batch]), loop)

    def _deliver(
        self,
        batch: list[_Waiting],
        answers: list[object],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Problem):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if self._waiting:
            self._next(loop)
        else:
            self._is_awake = False
        if self._commits >= CHECKPOINT_AFTER and (self._checkpointing is None or self._checkpointing.done()):
            self._commits = 0
            self._checkpointing = loop.run_in_executor(None, self._checkpoint)

    def _checkpoint(self) -> None:
        """Write the log's pages into the database, for which the disk is waited: not on the loop's thread."""
        with suppress(sqlite3.Error):  # a reader or another process is in the way: the next one does it
            db = sqlite3.connect(self._store.path, timeout=_READ_WAIT_S, isolation_level=None)
            try:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
                db.execute("PRAGMA wal_checkpoint(RESTART)")
            finally:
                db.close()

    async def _answers(self, batch: list[Hold | End]) -> list[object]:
        """An answer each. What spoils the job for all (a value that cannot be stored) then fails alone."""
        try:
            return await self._store.write(partial(self._apply, batch))
        except Problem as problem:
            if len(batch) == 1:
                return [problem]
        return [answer for what in batch for answer in await self._answers([what])]

    def _apply(self, batch: list[Hold | End], db: sqlite3.Connection) -> list[object]:
        book = Book(db, self._clock(), self._chains)
        new = [w.id for w in batch if isinstance(w, Hold)]
        ending = [w.id for w in batch if isinstance(w, End)]
        taken = {id for (id,) in db.execute(TAKEN, (_array(new),))} if new else set()
        held = {row[0]: row for row in _end_holds(db, ending)} if ending else {}
        holds: dict[str, _Row] = {}
        entries: list[tuple[object, ...]] = []
        answers: list[object] = []
        for what in batch:
            if isinstance(what, Hold):
                answer: object = _again(what.id) if what.id in taken else book.take(what.account, what.amount_nusd)
                if isinstance(answer, int):
                    holds[what.id] = _hold_row(what, answer, book.now)
                    taken.add(what.id)
                    answer = None
            else:
                row = held.pop(what.id, None) or holds.pop(what.id, None)
                answer = row is not None
                if row is not None:
                    entries.append(_end(book, row, what.state, what.settlement))
            answers.append(answer)
        book.write()
        db.executemany(ADD_HOLD, list(holds.values()))
        db.executemany(ADD_ENTRY, entries)
        return answers

    def _sweep(self, db: sqlite3.Connection) -> int:
        book = Book(db, self._clock(), self._chains)
        ids = [id for (id,) in db.execute(EXPIRED, (book.now, SWEPT))]
        rows = _end_holds(db, ids)
        entries = [_end(book, row, "unknown", structs.replace(_LOST, cost_nusd=row[2])) for row in rows]
        book.write()
        db.executemany(ADD_ENTRY, entries)
        return len(rows)

    async def _write(self, job: Callable[[Book], T]) -> T:
        def whole(db: sqlite3.Connection) -> T:
            book = Book(db, self._clock(), self._chains)
            answer = job(book)
            book.write()
            return answer

        return await self._store.write(whole)

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


def _end_holds(db: sqlite3.Connection, ids: list[str]) -> list[_Row]:
    """The holds with these ids, which are no longer there."""
    array = _array(ids)
    rows: list[_Row] = db.execute(FIND_HOLDS, (array,)).fetchall()
    db.execute(END_HOLDS, (array,))
    return rows


def _array(texts: Sequence[str]) -> str:
    return json.encode(texts).decode()


def _again(id: str) -> Problem:
    return Problem("server", f"request {id!r} is in the ledger already", 409, code="already_held")


def _hold_row(hold: Hold, chain: int, now: float) -> _Row:
    tags = _array(hold.tags) if hold.tags else "[]"
    return (hold.id, chain, hold.amount_nusd, now, now + hold.lease_s, hold.operation, hold.model, tags)


def _end(book: Book, row: _Row, state: Outcome, s: Settlement) -> tuple[object, ...]:
    """The entry that the hold in `row` becomes; its chain is charged."""
    id, chain, amount_nusd, began_at, _, operation, model, tags = row
    cost_nusd = 0 if state == "released" else s.cost_nusd
    book.charge(chain, amount_nusd, cost_nusd or 0)
    head = (id, chain, state, book.now, began_at, amount_nusd, cost_nusd, operation, model, tags, s.served, s.price)
    tail = (s.tries, s.status, s.latency_ms, -1 if s.first_token_ms is None else s.first_token_ms, int(s.left_early))
    return head + tail + (_NO_USAGE if s.usage is None else _buckets(s.usage))


def _buckets(u: Usage) -> tuple[int, ...]:
    inwards = (u.input, u.cache_read, u.cache_write_5m, u.cache_write_1h, u.audio_in, u.image_in)
    return (*inwards, u.output, u.reasoning, u.audio_out, u.image_out)
