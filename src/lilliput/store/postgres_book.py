"""What one transaction of the Postgres ledger does to the accounts that it has locked. No SQL here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, structs

from lilliput.money import Account, Hold, Outcome, Settlement
from lilliput.neutral import Problem
from lilliput.store.book import Purse, shown
from lilliput.store.budget import MOST_NUSD, no_credit, over_limit, period_start

MOST_TOKENS = 2**53
"""No provider counts so many: a larger figure is cut to this, and a negative one to 0."""

LOST = Settlement(cost_nusd=None, usage=None, served="", price="", tries=0, status=0, latency_ms=0)
"""What is told of a request whose end nobody saw."""
_IN = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_in", "image_in")
_BUCKETS = (*_IN, "output", "reasoning", "audio_out", "image_out")


class End(Struct, frozen=True):
    """A hold's end. Of `unknown` ones nothing is known but that they cost no more than was held."""

    id: str
    state: Outcome
    settlement: Settlement


class Held(Struct):
    """A hold as it is kept, and the accounts of its chain."""

    id: str
    chain: int
    accounts: Sequence[str]
    amount_nusd: int
    began_at: float
    lease_ends: float
    operation: str
    model: str
    tags: Sequence[str]


class Page:
    """One transaction's holds and ends, entered one after the other into `purses`, the accounts that it has locked.

    `taken` are the ids of requests that are in the ledger, `ending` the holds that may end here, `numbers` those of
    the chains. What is to be written collects in `holds`, `entries` and `changed`.
    """

    def __init__(
        self, purses: dict[str, Purse], taken: set[str], ending: dict[str, Held], numbers: Mapping[str, int], now: float
    ) -> None:
        self.holds: dict[str, Held] = {}
        self.entries: list[dict[str, Any]] = []
        self.changed: dict[str, Purse] = {}
        self._purses = purses
        self._taken = taken
        self._ending = ending
        self._numbers = numbers
        self._now = now

    def enter(self, what: Hold | End) -> bool | Problem:
        return self._hold(what) if isinstance(what, Hold) else self._end(what)

    def _hold(self, hold: Hold) -> bool | Problem:
        if hold.id in self._taken:
            return Problem("server", f"request {hold.id!r} is in the ledger already", 409, code="already_held")
        on = path(self._purses, hold.account)
        refusal = take(on, hold.amount_nusd, self._now)
        if refusal is not None:
            return refusal
        self._taken.add(hold.id)
        self.changed |= {p.id: p for p in on}
        self.holds[hold.id] = Held(
            id=hold.id,
            chain=self._numbers[hold.account],
            accounts=[p.id for p in on],
            amount_nusd=hold.amount_nusd,
            began_at=self._now,
            lease_ends=self._now + hold.lease_s,
            operation=hold.operation,
            model=hold.model,
            tags=hold.tags,
        )
        return True

    def _end(self, end: End) -> bool:
        held = self._ending.pop(end.id, None) or self.holds.pop(end.id, None)
        if held is None:
            return False
        s = end.settlement
        cost_nusd = {"settled": s.cost_nusd, "released": 0, "unknown": held.amount_nusd}[end.state]
        for id in held.accounts:
            charge(self._purses[id], held.amount_nusd, cost_nusd or 0)
            self.changed[id] = self._purses[id]
        entry = structs.asdict(held) | structs.asdict(s) | {"usage": None}
        entry |= {"state": end.state, "cost_nusd": cost_nusd, "ended_at": self._now}
        entry |= {"served": clean(s.served), "price": clean(s.price)}
        if s.usage is not None:
            entry |= {name: min(max(getattr(s.usage, name), 0), MOST_TOKENS) for name in _BUCKETS}
        self.entries.append(entry)
        return True


def path(purses: Mapping[str, Purse], id: str) -> list[Purse]:
    """The account with all above it, itself first."""
    on = [purses[id]]
    while (parent := on[-1].parent) is not None:
        on.append(purses[parent])
    return on


def take(on: Sequence[Purse], amount_nusd: int, now: float) -> Problem | None:
    """Hold the amount on all of them, or on none and the refusal; what costs nothing is refused by no budget."""
    if not amount_nusd:
        return None
    for p in on:
        if p.credit_nusd is not None and p.credit_nusd < amount_nusd:
            return no_credit(p.id, amount_nusd, p.credit_nusd, p.held_nusd)
        limit_nusd = MOST_NUSD if p.limit_nusd is None else p.limit_nusd
        if p.spent_nusd + p.held_nusd + amount_nusd > limit_nusd:
            return over_limit(shown(p), amount_nusd, now)
    for p in on:
        p.held_nusd += amount_nusd
        if p.credit_nusd is not None:
            p.credit_nusd -= amount_nusd
    return None


def charge(p: Purse, amount_nusd: int, cost_nusd: int) -> None:
    """Turn what was held into its cost."""
    p.held_nusd -= amount_nusd
    p.spent_nusd += cost_nusd
    if p.credit_nusd is not None:
        p.credit_nusd += amount_nusd - cost_nusd


def pay(p: Purse, amount_nusd: int) -> int:
    """Pay credits in, or take back what there is; the amount that it came to."""
    if p.credit_nusd is None:
        p.unpaid_nusd = p.spent_nusd + p.past_nusd
        p.credit_nusd = -p.held_nusd
    paid = max(amount_nusd, -max(p.credit_nusd, 0))
    if p.credit_nusd + paid > MOST_NUSD:
        raise Problem("client", f"account {p.id!r} cannot hold that many credits")
    p.credit_nusd += paid
    return paid


def put(purses: Mapping[str, Purse], account: Account) -> None:
    """Give the account its new words; Problem (400) for a parent that is unknown or below it."""
    p = purses[account.id]
    if account.parent is not None:
        if account.parent not in purses:
            raise Problem("client", f"account {account.parent!r}, above {account.id!r}, is not known: make it first")
        if p in path(purses, account.parent):
            raise Problem("client", f"account {account.parent!r} is below {account.id!r}: it cannot be above it too")
    p.kind, p.parent, p.name = account.kind, account.parent, clean(account.name)
    p.limit_nusd = account.limit_nusd


def count_from(p: Purse, account: Account, since_nusd: int, now: float) -> None:
    """Change the period; `since_nusd` was spent since the new one began."""
    p.past_nusd += p.spent_nusd - since_nusd
    p.spent_nusd = since_nusd
    p.period, p.period_began = account.period, period_start(account.period, now)


def clean(text: str) -> str:
    """The text as Postgres can keep it: no zero byte, no lone surrogate."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")
