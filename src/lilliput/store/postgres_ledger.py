"""The ledger on Postgres: what waits at once in a process is one transaction, decided on with its accounts locked.

Every transaction locks accounts first, in the order of their ids, and holds after them, so that none waits in a
circle. It takes two round trips and one commit, however many holds and settlements it carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import json

from lilliput.money import Account, Hold, Settlement, UsageQuery, UsageRow
from lilliput.neutral import Problem
from lilliput.store import postgres_audit as audit
from lilliput.store.book import Purse, read_purse, shown
from lilliput.store.budget import MOST_NUSD, period_start
from lilliput.store.postgres_book import LOST, End, Held, Page, clean, count_from, path, pay, put
from lilliput.store.postgres_pool import Connection, Cursor, Pool

GROUP = 1000
"""Holds and settlements in one transaction at most."""

# Taken together by all who charge, alone by whoever changes what is above an account.
SHARE = "SELECT pg_advisory_xact_lock_shared(1727, hashtext(current_schema()))"
ALONE = "SELECT pg_advisory_xact_lock(1727, hashtext(current_schema()))"
ADD_ACCOUNTS = "INSERT INTO account (id) SELECT unnest(%s::text[]) AS id ORDER BY 1 ON CONFLICT DO NOTHING"
LOCK_ACCOUNTS = """
WITH RECURSIVE above (id, parent) AS (
  SELECT id, parent FROM account WHERE id = ANY (%(accounts)s::text[])
  UNION
  SELECT a.id, a.parent FROM account AS a JOIN above ON a.id = above.parent
), held (id) AS (
  SELECT unnest(c.accounts) FROM hold AS h JOIN chain AS c ON c.n = h.chain WHERE h.id = ANY (%(ending)s::text[])
)
SELECT id, kind, parent, name, limit_nusd, period, credit_nusd, spent_nusd, held_nusd, past_nusd, unpaid_nusd,
  period_began, extract(epoch FROM clock_timestamp())::double precision
FROM account WHERE id IN (SELECT id FROM above UNION SELECT id FROM held) ORDER BY id FOR NO KEY UPDATE
"""
SET_ACCOUNTS = """
UPDATE account AS a SET kind = n.kind, parent = n.parent, name = n.name, limit_nusd = n.limit_nusd, period = n.period,
  credit_nusd = n.credit_nusd, spent_nusd = n.spent_nusd, held_nusd = n.held_nusd, past_nusd = n.past_nusd,
  unpaid_nusd = n.unpaid_nusd, period_began = n.period_began
FROM json_populate_recordset(NULL::account, %s::json) AS n WHERE a.id = n.id
"""
FIND_CHAIN = "SELECT n FROM chain WHERE accounts = %s::text[]"
ADD_CHAIN = "INSERT INTO chain (accounts) VALUES (%s::text[]) ON CONFLICT DO NOTHING"
TAKEN = """
SELECT id FROM hold WHERE id = ANY (%(new)s::text[]) UNION ALL SELECT id FROM entry WHERE id = ANY (%(new)s::text[])
"""
END_HOLDS = """
DELETE FROM hold AS h USING chain AS c WHERE h.id = ANY (%s::text[]) AND c.n = h.chain
RETURNING h.id, h.chain, c.accounts, h.amount_nusd, h.began_at, h.lease_ends, h.operation, h.model, h.tags
"""
ADD_HOLDS = "INSERT INTO hold SELECT * FROM json_populate_recordset(NULL::hold, %s::json)"
ADD_ENTRIES = "INSERT INTO entry SELECT * FROM json_populate_recordset(NULL::entry, %s::json)"
EXPIRED = """
SELECT id FROM hold
WHERE lease_ends <= coalesce(%s, extract(epoch FROM clock_timestamp())::double precision) ORDER BY lease_ends LIMIT %s
"""
ADD_GRANT = "INSERT INTO credit_grant (account, amount_nusd, note, granted_at) VALUES (%s, %s, %s, %s)"

SPENT_SINCE = """
SELECT coalesce(sum(e.cost_nusd), 0)::bigint FROM chain AS c JOIN entry AS e ON e.chain = c.n
WHERE %s = ANY (c.accounts) AND e.ended_at >= %s
"""


class PostgresLedger:
    """`money.Ledger` in the database of `pool`; any number of processes may have one.

    Leases and periods go by the database's clock, or by `clock` (Unix seconds) when one is given.
    """

    def __init__(self, pool: Pool, *, clock: Callable[[], float] | None = None) -> None:
        self._pool = pool
        self._clock = clock
        self._chains: dict[tuple[str, ...], int] = {}
        self._waiting: list[tuple[Hold | End, asyncio.Future[bool]]] = []
        self._doubtful: list[str] = []
        """Holds of which nobody can say whether they were committed; their callers were told that they were not."""
        self._pump: asyncio.Task[None] | None = None

    async def hold(self, hold: Hold) -> None:
        if not 0 <= hold.amount_nusd <= MOST_NUSD:
            raise Problem("client", f"the request may cost {hold.amount_nusd} nano-dollars: ask for fewer tokens")
        _storable(hold.id, hold.account, hold.operation, hold.model, *hold.tags)
        future = self._enqueue(hold)
        try:
            await future
        except asyncio.CancelledError:
            self._enqueue(End(hold.id, "released", LOST))  # nobody is left to settle it
            raise

    async def settle(self, id: str, settlement: Settlement) -> bool:
        return await self._enqueue(End(clean(id), "settled", settlement))

    async def release(self, id: str, settlement: Settlement) -> bool:
        return await self._enqueue(End(clean(id), "released", settlement))

    async def sweep(self) -> int:
        swept = 0
        while True:
            now = None if self._clock is None else self._clock()
            async with self._pool.borrow() as db:
                ids = [id for (id,) in await (await db.execute(EXPIRED, (now, GROUP))).fetchall()]
            swept += sum(await asyncio.gather(*(self._enqueue(End(id, "unknown", LOST)) for id in ids)))
            if len(ids) < GROUP:
                return swept

    async def put_account(self, account: Account) -> None:
        wanted = [account.id] if account.parent is None else [account.id, account.parent]
        _storable(account.name, *wanted)
        async with self._pool.borrow() as db, db.transaction():
            await db.execute(ALONE)
            purses, now = await self._lock(db, [account.id], wanted)
            put(purses, account)
            p = purses[account.id]
            if p.period != account.period:
                cursor = await db.execute(SPENT_SINCE, (p.id, period_start(account.period, now)))
                count_from(p, account, int((await _one(cursor))[0]), now)
            await db.execute(SET_ACCOUNTS, (_rows([p]),))

    async def grant(self, account: str, amount_nusd: int, note: str) -> Account:
        if abs(amount_nusd) > MOST_NUSD:
            raise Problem("client", f"{amount_nusd} nano-dollars are more than an account can hold")
        _storable(account, note)
        async with self._pool.borrow() as db, db.transaction():
            await db.execute(SHARE)
            purses, now = await self._lock(db, [account], [account])
            paid = pay(purses[account], amount_nusd)
            await db.execute(SET_ACCOUNTS, (_rows([purses[account]]),))
            await db.execute(ADD_GRANT, (account, paid, note, now))
        return shown(purses[account])

    async def account(self, id: str) -> Account | None:
        async with self._pool.borrow() as db:
            return await audit.account(db, id, self._clock)

    async def accounts(self) -> list[Account]:
        async with self._pool.borrow() as db:
            return await audit.accounts(db, self._clock)

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        async with self._pool.borrow(slow=True) as db:
            return await audit.usage(db, query)

    async def check(self) -> list[str]:
        async with self._pool.borrow(slow=True) as db:
            return await audit.check(db)

    # -- many at once ----------------------------------------------------------------------------------------------

    def _enqueue(self, what: Hold | End) -> asyncio.Future[bool]:
        """Its answer, once that is committed. A caller that leaves meanwhile changes nothing."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((what, future))
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._commit_all())
        return future

    async def _commit_all(self) -> None:
        """Commit what waits, and what came meanwhile, until nothing does."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
                for (_, future), answer in zip(batch, await self._answers([w for w, _ in batch]), strict=True):
                    if future.done():
                        continue
                    if isinstance(answer, Problem):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._pump = None

    async def _answers(self, batch: list[Hold | End]) -> list[bool | Problem]:
        """An answer each. What spoils the transaction for all (a value that cannot be stored) then fails alone."""
        doubtful, self._doubtful = self._doubtful, []
        back = [End(id, "released", LOST) for id in doubtful]
        try:
            return (await self._transact([*back, *batch]))[len(back) :]
        except Problem as problem:
            self._chains.clear()
            self._doubtful += doubtful
            if problem.code != "store_failed" or len(batch) == 1:
                return [problem] * len(batch)
        return [answer for what in batch for answer in await self._answers([what])]

    async def _transact(self, batch: list[Hold | End]) -> list[bool | Problem]:
        new = [w for w in batch if isinstance(w, Hold)]
        ending = [w.id for w in batch if isinstance(w, End)]
        accounts = sorted({h.account for h in new})
        async with self._pool.borrow() as db, db.pipeline():
            await db.execute("BEGIN")
            await db.execute(SHARE)
            await db.execute(ADD_ACCOUNTS, (accounts,))
            locked = await db.execute(LOCK_ACCOUNTS, {"accounts": accounts, "ending": ending})
            taken = await db.execute(TAKEN, {"new": [h.id for h in new]})
            ended = await db.execute(END_HOLDS, (ending,))
            purses, now = self._purses(await locked.fetchall())
            numbers = {id: await self._chain(db, purses, id) for id in accounts}
            held = {row[0]: Held(*row) for row in await ended.fetchall()}
            page = Page(purses, {id for (id,) in await taken.fetchall()}, held, numbers, now)
            answers = [page.enter(what) for what in batch]
            if page.changed:
                await db.execute(SET_ACCOUNTS, (_rows(page.changed.values()),))
            if page.holds:
                await db.execute(ADD_HOLDS, (_rows(page.holds.values()),))
            if page.entries:
                await db.execute(ADD_ENTRIES, (_rows(page.entries),))
            self._doubtful = list(page.holds)
            await db.execute("COMMIT")
        self._doubtful = []
        return answers

    async def _chain(self, db: Connection, purses: dict[str, Purse], account: str) -> int:
        """The number of the chain that begins with this account."""
        ids = tuple(p.id for p in path(purses, account))
        if ids not in self._chains:
            await db.execute(ADD_CHAIN, (list(ids),))
            (self._chains[ids],) = await _one(await db.execute(FIND_CHAIN, (list(ids),)))
        return self._chains[ids]

    async def _lock(self, db: Connection, add: list[str], wanted: list[str]) -> tuple[dict[str, Purse], float]:
        """The wanted accounts with all above them, after `add` were made where they are missing; and the time."""
        await db.execute(ADD_ACCOUNTS, (add,))
        cursor = await db.execute(LOCK_ACCOUNTS, {"accounts": wanted, "ending": []})
        return self._purses(await cursor.fetchall())

    def _purses(self, rows: list[tuple[Any, ...]]) -> tuple[dict[str, Purse], float]:
        now = self._clock() if self._clock is not None else max((row[-1] for row in rows), default=0.0)
        return {row[0]: read_purse(row[:-1], now) for row in rows}, now


def _rows(rows: Iterable[object]) -> str:
    return json.encode(list(rows)).decode()


async def _one(cursor: Cursor) -> tuple[Any, ...]:
    row = await cursor.fetchone()
    assert row is not None
    return row


def _storable(*texts: str) -> None:
    if any(clean(text) != text for text in texts):
        raise Problem("client", "a name or a tag holds a zero byte or half a character: leave that out")
