"""What the ledger's tables tell: accounts, usage added up, and whether every sum is right. Nothing here writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from lilliput.money import Account, UsageQuery, UsageRow
from lilliput.store.book import Purse, read_purse, shown
from lilliput.store.postgres_pool import Connection

NOW = "SELECT extract(epoch FROM clock_timestamp())::double precision"
ACCOUNTS = """
SELECT id, kind, parent, name, limit_nusd, period, credit_nusd, spent_nusd, held_nusd, past_nusd, unpaid_nusd,
  period_began
FROM account ORDER BY id
"""
ACCOUNT = """
SELECT id, kind, parent, name, limit_nusd, period, credit_nusd, spent_nusd, held_nusd, past_nusd, unpaid_nusd,
  period_began, extract(epoch FROM clock_timestamp())::double precision
FROM account WHERE id = %s
"""
# What is not grouped by is '', the same for all. An entry with several tags counts under each when grouped by tag.
USAGE = """
SELECT
  CASE WHEN %(by_account)s THEN c.accounts[1] ELSE '' END AS account,
  CASE WHEN %(by_model)s THEN e.model ELSE '' END AS model,
  CASE WHEN %(by_served)s THEN e.served ELSE '' END AS served,
  CASE WHEN %(by_operation)s THEN e.operation ELSE '' END AS operation,
  t.tag,
  CASE WHEN %(by_day)s THEN to_char(to_timestamp(e.ended_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD') ELSE '' END AS day,
  count(*) AS requests,
  count(*) FILTER (WHERE e.status >= 400 OR e.state = 'unknown') AS problems,
  coalesce(sum(e.input + e.cache_read + e.cache_write_5m + e.cache_write_1h + e.audio_in + e.image_in), 0)::bigint,
  coalesce(sum(e.output + e.reasoning + e.audio_out + e.image_out), 0)::bigint,
  coalesce(sum(e.cost_nusd), 0)::bigint AS cost,
  count(*) FILTER (WHERE e.cost_nusd IS NULL)
FROM chain AS c
  JOIN entry AS e ON e.chain = c.n AND e.ended_at >= %(since)s AND e.ended_at < %(until)s
  CROSS JOIN LATERAL unnest(CASE WHEN %(by_tag)s AND e.tags <> '{}' THEN e.tags ELSE '{""}' END) AS t (tag)
WHERE %(account)s::text IS NULL OR %(account)s::text = ANY (c.accounts)
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY day, cost DESC, requests DESC, 1, 2, 3, 4, 5
LIMIT %(limit)s
"""
_COLUMNS = ("account", "model", "served", "operation", "tag", "day")

CHARGED = """
SELECT c.accounts, coalesce(sum(e.cost_nusd), 0)::bigint FROM entry AS e JOIN chain AS c ON c.n = e.chain GROUP BY c.n
"""
HELD = "SELECT c.accounts, sum(h.amount_nusd)::bigint FROM allotment AS h JOIN chain AS c ON c.n = h.chain GROUP BY c.n"
GRANTED = "SELECT account, sum(amount_nusd)::bigint FROM credit_grant GROUP BY account"
STRAY = "SELECT id FROM allotment WHERE journal NOT IN (SELECT id FROM journal) ORDER BY 1 LIMIT 10"
CHAINLESS = """
SELECT id FROM (SELECT id, chain FROM allotment UNION ALL SELECT id, chain FROM entry) AS all_of_them
WHERE NOT EXISTS (SELECT 1 FROM chain WHERE n = chain) ORDER BY 1 LIMIT 10
"""
MISPRICED = """
SELECT id, state FROM entry
WHERE state = 'released' AND cost_nusd IS DISTINCT FROM 0
  OR state = 'unknown' AND cost_nusd IS DISTINCT FROM amount_nusd
ORDER BY 1 LIMIT 10
"""


async def account(db: Connection, id: str, clock: Callable[[], float] | None) -> Account | None:
    row = await (await db.execute(ACCOUNT, (clean(id),))).fetchone()
    return None if row is None else shown(read_purse(row[:-1], row[-1] if clock is None else clock()))


async def accounts(db: Connection, clock: Callable[[], float] | None) -> list[Account]:
    """All of them, parents before children, else by id."""
    async with _snapshot(db):
        ((at,),) = await (await db.execute(NOW)).fetchall()
        now = at if clock is None else clock()
        found = {row[0]: shown(read_purse(row, now)) for row in await (await db.execute(ACCOUNTS)).fetchall()}

    def depth(a: Account) -> int:
        return 0 if a.parent is None else 1 + depth(found[a.parent])

    return sorted(found.values(), key=lambda a: (depth(a), a.id))


async def usage(db: Connection, query: UsageQuery) -> list[UsageRow]:
    values: dict[str, object] = {f"by_{name}": name in query.by for name in _COLUMNS}
    values["since"] = float("-inf") if query.since is None else query.since
    values["until"] = float("inf") if query.until is None else query.until
    values["account"] = None if query.account is None else clean(query.account)
    values["limit"] = query.limit
    places = [_COLUMNS.index(name) for name in query.by]
    async with _snapshot(db):
        rows = await (await db.execute(USAGE, values)).fetchall()
    return [
        UsageRow(
            group=tuple([row[i] for i in places]),
            requests=row[6],
            problems=row[7],
            prompt_tokens=row[8],
            completion_tokens=row[9],
            cost_nusd=row[10],
            unpriced=row[11],
        )
        for row in rows
    ]


async def check(db: Connection) -> list[str]:
    """What does not add up, a sentence each."""
    async with _snapshot(db):
        charged = _by_account(await (await db.execute(CHARGED)).fetchall())
        held = _by_account(await (await db.execute(HELD)).fetchall())
        granted: Mapping[str, int] = dict(await (await db.execute(GRANTED)).fetchall())
        purses = {row[0]: Purse(*row) for row in await (await db.execute(ACCOUNTS)).fetchall()}
        stray = await (await db.execute(STRAY)).fetchall()
        mispriced = await (await db.execute(MISPRICED)).fetchall()
        chainless = await (await db.execute(CHAINLESS)).fetchall()
    wrong = [f"allotment {id!r} is of a journal that is not there" for (id,) in stray]
    wrong += [f"entry {id!r} is {state} at another cost" for id, state in mispriced]
    wrong += [f"{id!r} names a chain that is not there" for (id,) in chainless]
    unknown = (set(charged) | set(held)) - set(purses)
    wrong += [f"entries or allotments name account {id!r}, which is not there" for id in sorted(unknown)]
    for p in purses.values():
        spent = p.spent_nusd + p.past_nusd
        sums = [("spent", spent, charged[p.id], "its entries"), ("held", p.held_nusd, held[p.id], "its allotments")]
        if p.credit_nusd is not None:
            paid = p.credit_nusd + p.held_nusd + spent - p.unpaid_nusd
            sums.append(("credit, held and spent", paid, granted.get(p.id, 0), "its grants"))
        wrong += [
            f"account {p.id!r}: {what} {have} nano-dollars, {who} make {want}"
            for what, have, want, who in sums
            if have != want
        ]
    return wrong


@asynccontextmanager
async def _snapshot(db: Connection) -> AsyncIterator[None]:
    """One state of the database for all that is read inside."""
    async with db.transaction():
        await db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _by_account(sums: list[tuple[Any, ...]]) -> Counter[str]:
    """Sums by chain, added up for every account in each chain."""
    found: Counter[str] = Counter()
    for chain, nusd in sums:
        for id in chain:
            found[id] += nusd
    return found


def clean(text: str) -> str:
    """The text as Postgres can keep it: no zero byte, no lone surrogate."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")
