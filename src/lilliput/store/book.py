"""The accounts that one commit touches: read from SQLite once, decided on in memory, written back once.

A book lives inside one write transaction, which nobody else can share; who is charged for what is decided here.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from msgspec import Struct, json

from lilliput.money import Account, Kind, Period
from lilliput.neutral import Problem
from lilliput.store.budget import MOST_NUSD, no_credit, over_limit, period_start

MOST_CHAINS = 10_000
"""Chains kept in memory, each of which is a few hundred bytes."""

FIND_ACCOUNT = """
SELECT id, kind, parent, name, limit_nusd, period, credit_nusd, spent_nusd, held_nusd, past_nusd, unpaid_nusd,
  period_began
FROM account WHERE id = ?
"""
ADD_ACCOUNT = """
INSERT INTO account (id, kind, name, period, spent_nusd, held_nusd, past_nusd, unpaid_nusd, period_began)
VALUES (?, 'key', '', 'total', 0, 0, 0, 0, 0)
"""
SET_WORDS = "UPDATE account SET kind = ?, parent = ?, name = ?, limit_nusd = ?, period = ? WHERE id = ?"
SET_SUMS = """
UPDATE account SET credit_nusd = nullif(?, -9223372036854775808), spent_nusd = ?, held_nusd = ?, past_nusd = ?,
  unpaid_nusd = ?, period_began = ?
WHERE id = ?
"""
SPENT_SINCE = """
SELECT coalesce(sum(e.cost_nusd), 0) FROM chain AS c, json_each(c.accounts) AS a, entry AS e
WHERE a.value = ? AND e.chain = c.n AND e.ended_at >= ?
"""
_NONE = -(2**63)
"""NULL as SET_SUMS is handed it: None is slow to bind (the module looks for an adapter)."""
FIND_CHAIN = "SELECT n FROM chain WHERE accounts = ?"
ADD_CHAIN = "INSERT INTO chain (accounts) VALUES (?)"
CHAIN_ACCOUNTS = "SELECT accounts FROM chain WHERE n = ?"


class Purse(Struct, eq=False):
    """An account's row, as it will be written back."""

    id: str
    kind: Kind = "key"
    parent: str | None = None
    name: str = ""
    limit_nusd: int | None = None
    period: Period = "total"
    credit_nusd: int | None = None
    spent_nusd: int = 0
    held_nusd: int = 0
    past_nusd: int = 0
    unpaid_nusd: int = 0
    period_began: float = 0.0


class Chains:
    """Numbers of chains and the chains of numbers, as they are committed; a chain once written stays."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, ...], int] = {}
        self.accounts: dict[int, tuple[str, ...]] = {}

    def keep(self, n: int, accounts: tuple[str, ...]) -> None:
        if len(self.accounts) >= MOST_CHAINS:
            self.numbers.clear()
            self.accounts.clear()
        self.numbers[accounts] = n
        self.accounts[n] = accounts


class Book:
    """What one transaction does to accounts. Nothing of it is in the database before `write`, but new accounts are."""

    def __init__(self, db: sqlite3.Connection, now: float, chains: Chains) -> None:
        self.db = db
        self.now = now
        self._chains = chains
        self._new_chains = Chains()
        self._purses: dict[str, Purse] = {}
        self._paths: dict[str, list[Purse]] = {}

    def take(self, account: str, amount_nusd: int) -> int | Problem:
        """Hold the amount on the account and all above it, or on none; the chain's number, or the refusal."""
        path = self._path(account)
        if amount_nusd:  # what costs nothing is refused by no budget
            for p in path:
                if p.credit_nusd is not None and p.credit_nusd < amount_nusd:
                    return no_credit(p.id, amount_nusd, p.credit_nusd, p.held_nusd)
                limit_nusd = MOST_NUSD if p.limit_nusd is None else p.limit_nusd
                if p.spent_nusd + p.held_nusd + amount_nusd > limit_nusd:
                    return over_limit(shown(p), amount_nusd, self.now)
            for p in path:
                p.held_nusd += amount_nusd
                if p.credit_nusd is not None:
                    p.credit_nusd -= amount_nusd
        return self._number(path)

    def charge(self, chain: int, amount_nusd: int, cost_nusd: int) -> None:
        """Turn what was held on the chain into its cost."""
        for account in self._accounts(chain):
            p = self._purse(account)
            p.held_nusd -= amount_nusd
            p.spent_nusd += cost_nusd
            if p.credit_nusd is not None:
                p.credit_nusd += amount_nusd - cost_nusd

    def pay(self, account: str, amount_nusd: int) -> int:
        """Pay credits in, or take back what there is; the amount that it came to."""
        p = self._purse(account)
        if p.credit_nusd is None:
            p.unpaid_nusd = p.spent_nusd + p.past_nusd
            p.credit_nusd = -p.held_nusd
        paid = max(amount_nusd, -max(p.credit_nusd, 0))
        if p.credit_nusd + paid > MOST_NUSD:
            raise Problem("client", f"account {account!r} cannot hold that many credits")
        p.credit_nusd += paid
        return paid

    def put(self, account: Account) -> None:
        """Make the account or change it; raises Problem (400) for a parent that is unknown or below it."""
        p = self._purse(account.id)
        if account.parent is not None:
            if self._find(account.parent) is None:
                raise Problem(
                    "client", f"account {account.parent!r}, above {account.id!r}, is not known: make it first"
                )
            if p in self._path(account.parent):
                raise Problem(
                    "client", f"account {account.parent!r} is below {account.id!r}: it cannot be above it too"
                )
        if account.period != p.period:
            all_nusd = p.spent_nusd + p.past_nusd
            p.period_began = period_start(account.period, self.now)
            (since_nusd,) = self.db.execute(SPENT_SINCE, (p.id, p.period_began)).fetchone()
            p.spent_nusd, p.past_nusd = since_nusd, all_nusd - since_nusd
        words = (account.kind, account.parent, account.name, account.limit_nusd, account.period, account.id)
        self.db.execute(SET_WORDS, words)

    def account(self, id: str) -> Account:
        return shown(self._purse(id))

    def write(self) -> None:
        """Write what is held and spent back, for every account that was looked at."""
        sums = []
        for p in self._purses.values():
            credit_nusd = _NONE if p.credit_nusd is None else p.credit_nusd
            spent = (p.spent_nusd, p.held_nusd, p.past_nusd, p.unpaid_nusd)
            sums.append((credit_nusd, *spent, p.period_began, p.id))
        self.db.executemany(SET_SUMS, sums)

    def _find(self, id: str) -> Purse | None:
        purse = self._purses.get(id)
        if purse is None:
            purse = find_purse(self.db, id, self.now)
            if purse is not None:
                self._purses[id] = purse
        return purse

    def _purse(self, id: str) -> Purse:
        """The account's, made when there is none."""
        purse = self._find(id)
        if purse is None:
            self.db.execute(ADD_ACCOUNT, (id,))
            purse = self._purses[id] = Purse(id)
        return purse

    def _path(self, id: str) -> list[Purse]:
        """The account with all above it, itself first."""
        path = self._paths.get(id)
        if path is None:
            path = self._paths[id] = [self._purse(id)]
            while (parent := path[-1].parent) is not None:
                path.append(self._purse(parent))
        return path

    def _number(self, path: list[Purse]) -> int:
        ids = tuple([p.id for p in path])
        n = self._chains.numbers.get(ids) or self._new_chains.numbers.get(ids)
        if n is None:
            text = json.encode(ids).decode()
            row = self.db.execute(FIND_CHAIN, (text,)).fetchone()
            if row is not None:
                n = int(row[0])
                self._chains.keep(n, ids)
            else:  # not to be remembered beyond this transaction, which may fail
                n = self.db.execute(ADD_CHAIN, (text,)).lastrowid
                assert n is not None
                self._new_chains.keep(n, ids)
        return n

    def _accounts(self, chain: int) -> tuple[str, ...]:
        accounts = self._chains.accounts.get(chain) or self._new_chains.accounts.get(chain)
        if accounts is None:
            (text,) = self.db.execute(CHAIN_ACCOUNTS, (chain,)).fetchone()
            accounts = chain_accounts(text)
            self._chains.keep(chain, accounts)
        return accounts


def find_purse(db: sqlite3.Connection, id: str, now: float) -> Purse | None:
    row = db.execute(FIND_ACCOUNT, (id,)).fetchone()
    return None if row is None else read_purse(row, now)


def read_purse(row: tuple[Any, ...], now: float) -> Purse:
    """The account in a row of all its columns, brought to the period that `now` is in."""
    p = Purse(*row)
    if p.period != "total" and (start := period_start(p.period, now)) > p.period_began:
        p.past_nusd += p.spent_nusd
        p.spent_nusd = 0
        p.period_began = start
    return p


def shown(p: Purse) -> Account:
    return Account(
        id=p.id,
        kind=p.kind,
        parent=p.parent,
        name=p.name,
        limit_nusd=p.limit_nusd,
        period=p.period,
        credit_nusd=p.credit_nusd,
        spent_nusd=p.spent_nusd,
        held_nusd=p.held_nusd,
        period_began=p.period_began,
    )


def chain_accounts(text: str) -> tuple[str, ...]:
    """The accounts in a chain's column, the charged one first."""
    return json.decode(text, type=tuple[str, ...])
