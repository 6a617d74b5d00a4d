"""The ledger's books on Postgres: a landing is one transaction, decided on (see `book`) with its accounts locked.

Every transaction locks its journal first, for which only whoever replays it waits, and accounts after, in the order of
their ids, so that none waits in a circle. It takes two round trips and one commit, however many requests it carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import json, structs

from lilliput.money import Account, UsageQuery, UsageRow
from lilliput.neutral import Problem
from lilliput.store import postgres_audit as audit
from lilliput.store.book import (
    COLUMNS,
    Allotment,
    Landed,
    Landing,
    Page,
    Purse,
    Row,
    count_from,
    path,
    pay,
    put,
    read_purse,
    renamed,
    shown,
)
from lilliput.store.budget import period_start
from lilliput.store.postgres_audit import clean
from lilliput.store.postgres_pool import Connection, Cursor, Pool

MOST_CHAINS = 10_000
"""Chains kept in memory, each of which is a few hundred bytes."""

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
  SELECT unnest(accounts) FROM chain
  WHERE n = ANY (%(chains)s::bigint[]) OR n IN (SELECT chain FROM allotment WHERE journal = %(journal)s)
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
CHAINS = "SELECT n, accounts FROM chain WHERE n = ANY (%s::bigint[])"
TAKEN = "SELECT id FROM entry WHERE id = ANY (%s::text[])"
NOW = "SELECT extract(epoch FROM clock_timestamp())::double precision"

FIND_JOURNAL = "SELECT landed FROM journal WHERE id = %s FOR UPDATE"
SET_JOURNAL = "INSERT INTO journal VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET landed = excluded.landed"
END_JOURNAL = "DELETE FROM journal WHERE id = %s"
ALLOTMENTS = "SELECT id, chain, amount_nusd FROM allotment WHERE journal = %s FOR UPDATE"
SET_ALLOTMENTS = """
INSERT INTO allotment SELECT * FROM json_populate_recordset(NULL::allotment, %s::json)
ON CONFLICT (id) DO UPDATE SET amount_nusd = excluded.amount_nusd, lease_ends = excluded.lease_ends
"""
END_ALLOTMENTS = "DELETE FROM allotment WHERE id = ANY (%s::text[])"
EXPIRED = """
SELECT DISTINCT journal FROM allotment
WHERE lease_ends <= coalesce(%s, extract(epoch FROM clock_timestamp())::double precision)
  AND journal <> ALL (%s::text[])
"""
ADD_ENTRIES = "INSERT INTO entry SELECT * FROM json_populate_recordset(NULL::entry, %s::json)"
ADD_GRANT = "INSERT INTO credit_grant (account, amount_nusd, note, granted_at) VALUES (%s, %s, %s, %s)"
SPENT_SINCE = """
SELECT coalesce(sum(e.cost_nusd), 0)::bigint FROM chain AS c JOIN entry AS e ON e.chain = c.n
WHERE %s = ANY (c.accounts) AND e.ended_at >= %s
"""


class PostgresBooks:
    """`journal_ledger.Books` in the database of `pool`; any number of processes may have one.

    Leases and periods go by the database's clock, or by `clock` (Unix seconds) when one is given.
    """

    def __init__(self, pool: Pool, *, lease_s: float = 60.0, clock: Callable[[], float] | None = None) -> None:
        self._pool = pool
        self._lease_s = lease_s
        self._clock = clock
        self._numbers: dict[tuple[str, ...], int] = {}
        self._chains: dict[int, tuple[str, ...]] = {}

    def land_now(self, landing: Landing) -> Landed | None:
        return None

    async def land(self, landing: Landing) -> Landed:
        try:
            return await self._land(landing, is_odd=False)
        except Problem as problem:
            self._numbers.clear()
            self._chains.clear()
            if problem.code != "store_failed":
                raise
        return await self._land(landing, is_odd=True)

    async def free(self, alive: list[str]) -> None:
        async with self._pool.borrow() as db:
            now = None if self._clock is None else self._clock()
            journals = [id for (id,) in await (await db.execute(EXPIRED, (now, alive))).fetchall()]
        for journal in journals:
            await self.land(Landing(journal, 0, [], [], closes=True))

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
                count_from(p, account.period, int((await _one(cursor))[0]), now)
            await db.execute(SET_ACCOUNTS, (_rows([p]),))

    async def grant(self, account: str, amount_nusd: int, note: str) -> Account:
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

    # -- one transaction -------------------------------------------------------------------------------------------

    async def _land(self, landing: Landing, *, is_odd: bool) -> Landed:
        """`is_odd` looks at what may keep an entry from being stored, which costs time."""
        accounts = sorted({line.account for line in landing.lines})
        charged = sorted({r[1] for r in landing.rows} | {x.chain for x in landing.lines if x.chain})
        wanted = [w.id for line in landing.lines for w in line.wants]
        async with self._pool.borrow() as db, db.pipeline():
            await db.execute("BEGIN")
            await db.execute(SHARE)
            journal = await db.execute(FIND_JOURNAL, (landing.journal,))
            await db.execute(ADD_ACCOUNTS, (accounts,))
            places = {"accounts": accounts, "chains": charged, "journal": landing.journal}
            locked = await db.execute(LOCK_ACCOUNTS, places)
            kept = await db.execute(ALLOTMENTS, (landing.journal,))
            taken = await db.execute(TAKEN, (wanted,))
            clock = await db.execute(NOW)
            purses = {row[0]: row[:-1] for row in await locked.fetchall()}
            ((now,),) = await clock.fetchall()
            now = now if self._clock is None else self._clock()
            read = {id: read_purse(row, now) for id, row in purses.items()}
            numbers = {id: await self._number(db, read, id) for id in accounts}
            allotments = {row[0]: Allotment(*row) for row in await kept.fetchall()}
            chains = await self._accounts(db, {*charged, *numbers.values(), *(a.chain for a in allotments.values())})
            row = await journal.fetchone()
            landed = None if row is None else int(row[0])
            page = Page(read, allotments, landed, {id for (id,) in await taken.fetchall()}, chains, numbers, now)
            answer = page.land(landing)
            if answer.counts:
                await self._write(db, page, landing, is_odd)
            await db.execute("COMMIT")
        return answer

    async def _write(self, db: Connection, page: Page, landing: Landing, is_odd: bool) -> None:
        await db.execute(SET_ACCOUNTS, (_rows(page.purses.values()),))
        await db.execute(END_ALLOTMENTS, (page.gone,))
        more = {"journal": landing.journal, "lease_ends": page.now + self._lease_s}
        lines = [page.allotments[x.id] for x in landing.lines if x.id in page.allotments]
        await db.execute(SET_ALLOTMENTS, (_rows([structs.asdict(a) | more for a in lines]),))
        if landing.closes:
            await db.execute(END_JOURNAL, (landing.journal,))
        else:
            await db.execute(SET_JOURNAL, (landing.journal, landing.since + len(landing.rows)))
        rows = page.rows
        if is_odd:
            rows = [tuple(clean(v) if isinstance(v, str) else v for v in row) for row in rows]
            cursor = await db.execute(TAKEN, ([row[0] for row in rows],))
            rows = renamed(rows, {id for (id,) in await cursor.fetchall()}, landing.journal, landing.since)
        if rows:
            await db.execute(ADD_ENTRIES, (_rows(map(_entry, rows)),))

    async def _number(self, db: Connection, purses: dict[str, Purse], account: str) -> int:
        """The number of the chain that begins with this account."""
        ids = tuple(p.id for p in path(purses, account))
        if ids not in self._numbers:
            await db.execute(ADD_CHAIN, (list(ids),))
            (self._numbers[ids],) = await _one(await db.execute(FIND_CHAIN, (list(ids),)))
            self._chains[self._numbers[ids]] = ids
        return self._numbers[ids]

    async def _accounts(self, db: Connection, numbers: set[int]) -> dict[int, tuple[str, ...]]:
        if len(self._chains) > MOST_CHAINS:
            self._chains.clear()
            self._numbers.clear()
        unknown = list(numbers - self._chains.keys())
        found = {}
        if unknown:
            found = {n: tuple(ids) for n, ids in await (await db.execute(CHAINS, (unknown,))).fetchall()}
        found |= {n: self._chains[n] for n in numbers if n in self._chains}
        self._chains |= found
        return found

    async def _lock(self, db: Connection, add: list[str], wanted: list[str]) -> tuple[dict[str, Purse], float]:
        """The wanted accounts with all above them, after `add` were made where they are missing; and the time."""
        await db.execute(ADD_ACCOUNTS, (add,))
        cursor = await db.execute(LOCK_ACCOUNTS, {"accounts": wanted, "chains": [], "journal": ""})
        rows = await cursor.fetchall()
        now = self._clock() if self._clock is not None else max((row[-1] for row in rows), default=0.0)
        return {row[0]: read_purse(row[:-1], now) for row in rows}, now


def _entry(row: Row) -> dict[str, Any]:
    entry = dict(zip(COLUMNS, row, strict=True))
    entry["tags"] = json.decode(entry["tags"])
    if entry["first_token_ms"] == -1:
        entry["first_token_ms"] = None
    return entry


def _rows(rows: Iterable[object]) -> str:
    return json.encode(list(rows)).decode()


async def _one(cursor: Cursor) -> tuple[Any, ...]:
    row = await cursor.fetchone()
    assert row is not None
    return row


def _storable(*texts: str) -> None:
    if any(clean(text) != text for text in texts):
        raise Problem("client", "a name or a tag holds a zero byte or half a character: leave that out")
