"""What the ledger's tables tell: accounts, usage added up, and whether every sum is right. Nothing here writes.

Each function reads one snapshot: the caller has begun a transaction.
"""

from __future__ import annotations

import sqlite3
from collections import Counter

from msgspec import json

from lilliput.money import Account, UsageQuery, UsageRow
from lilliput.store.book import Purse, read_purse, shown

ACCOUNT = """
SELECT id, kind, parent, name, limit_nusd, period, credit_nusd, spent_nusd, held_nusd, past_nusd, unpaid_nusd,
  period_began
FROM account WHERE id = ?
"""
ACCOUNTS = """
SELECT id, kind, parent, name, limit_nusd, period, credit_nusd, spent_nusd, held_nusd, past_nusd, unpaid_nusd,
  period_began
FROM account ORDER BY id
"""
# What is not grouped by is '', the same for all. An entry with several tags counts under each when grouped by tag.
USAGE = """
SELECT
  CASE WHEN :by_account THEN json_extract(c.accounts, '$[0]') ELSE '' END AS account,
  CASE WHEN :by_model THEN e.model ELSE '' END AS model,
  CASE WHEN :by_served THEN e.served ELSE '' END AS served,
  CASE WHEN :by_operation THEN e.operation ELSE '' END AS operation,
  t.value AS tag,
  CASE WHEN :by_day THEN date(e.ended_at, 'unixepoch') ELSE '' END AS day,
  count(*) AS requests,
  sum(e.status >= 400 OR e.state = 'unknown') AS problems,
  coalesce(sum(e.input + e.cache_read + e.cache_write_5m + e.cache_write_1h + e.audio_in + e.image_in), 0),
  coalesce(sum(e.output + e.reasoning + e.audio_out + e.image_out), 0),
  coalesce(sum(e.cost_nusd), 0) AS cost,
  sum(e.cost_nusd IS NULL)
FROM chain AS c
  CROSS JOIN entry AS e ON e.chain = c.n AND e.ended_at >= :since AND e.ended_at < :until
  JOIN json_each(CASE WHEN :by_tag AND e.tags <> '[]' THEN e.tags ELSE '[""]' END) AS t
WHERE :account IS NULL OR EXISTS (SELECT 1 FROM json_each(c.accounts) AS a WHERE a.value = :account)
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY day, cost DESC, requests DESC, 1, 2, 3, 4, 5
LIMIT :limit
"""
_COLUMNS = ("account", "model", "served", "operation", "tag", "day")
_EVER = (-1e18, 1e18)

CHAINS = "SELECT n, accounts FROM chain"
CHARGED = "SELECT chain, coalesce(sum(cost_nusd), 0) FROM entry GROUP BY chain"
HELD = "SELECT chain, sum(amount_nusd) FROM allotment GROUP BY chain"
GRANTED = "SELECT account, sum(amount_nusd) FROM credit_grant GROUP BY account"
STRAY = "SELECT id FROM allotment WHERE journal NOT IN (SELECT id FROM journal) ORDER BY 1 LIMIT 10"
MISPRICED = """
SELECT id, state FROM entry
WHERE state = 'released' AND cost_nusd IS NOT 0 OR state = 'unknown' AND cost_nusd IS NOT amount_nusd
ORDER BY 1 LIMIT 10
"""


def account(db: sqlite3.Connection, id: str, now: float) -> Account | None:
    row = db.execute(ACCOUNT, (id,)).fetchone()
    return None if row is None else shown(read_purse(row, now))


def accounts(db: sqlite3.Connection, now: float) -> list[Account]:
    """All of them, parents before children, else by id."""
    found = {p.id: shown(p) for p in (read_purse(row, now) for row in db.execute(ACCOUNTS))}

    def depth(a: Account) -> int:
        return 0 if a.parent is None else 1 + depth(found[a.parent])

    return sorted(found.values(), key=lambda a: (depth(a), a.id))


def usage(db: sqlite3.Connection, query: UsageQuery) -> list[UsageRow]:
    values: dict[str, object] = {f"by_{name}": name in query.by for name in _COLUMNS}
    values["since"] = _EVER[0] if query.since is None else query.since
    values["until"] = _EVER[1] if query.until is None else query.until
    values["account"], values["limit"] = query.account, query.limit
    places = [_COLUMNS.index(name) for name in query.by]
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
        for row in db.execute(USAGE, values)
    ]


def check(db: sqlite3.Connection) -> list[str]:
    """What does not add up, a sentence each."""
    chains = {n: chain_accounts(text) for n, text in db.execute(CHAINS)}
    charged = _by_account(db.execute(CHARGED).fetchall(), chains)
    held = _by_account(db.execute(HELD).fetchall(), chains)
    granted = dict(db.execute(GRANTED).fetchall())
    purses = {row[0]: Purse(*row) for row in db.execute(ACCOUNTS)}
    wrong = [f"allotment {id!r} is of a journal that is not there" for (id,) in db.execute(STRAY)]
    wrong += [f"entry {id!r} is {state} at another cost" for id, state in db.execute(MISPRICED)]
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
        if p.parent is not None and p.parent not in purses:
            wrong.append(f"account {p.id!r}: {p.parent!r} above it is not there")
    return wrong


def _by_account(sums: list[tuple[int, int]], chains: dict[int, tuple[str, ...]]) -> Counter[str]:
    """Sums by chain, added up for every account in each chain."""
    found: Counter[str] = Counter()
    for chain, nusd in sums:
        for id in chains[chain]:
            found[id] += nusd
    return found


def chain_accounts(text: str) -> tuple[str, ...]:
    """The accounts in a chain's column, the charged one first."""
    return json.decode(text, type=tuple[str, ...])
