"""What one transaction of a ledger does to the accounts that it has read, whatever database keeps them. No SQL here.

A process holds amounts on accounts in *allotments* and admits requests against them on its own (see `journal_ledger`).
A `Landing` is what it tells the database of that, decided on in one transaction that nobody else can share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct, structs

from lilliput.money import Account, Kind, Period, UsageQuery, UsageRow
from lilliput.neutral import Problem
from lilliput.store.budget import MOST_NUSD, no_credit, over_limit, period_start

SHARE = 16
"""One process puts aside no more than this part of what is left above an account, for requests to come."""
FEWEST, MOST = 32, 8192
"""And for so many requests at least, else each is held for itself; for so many at most."""
MOST_TOKENS = 2**53
"""No provider counts so many: a larger figure is cut to this, and a negative one to 0."""

COLUMNS = (
    *("id", "chain", "state", "ended_at", "began_at", "amount_nusd", "cost_nusd", "operation", "model", "tags"),
    *("served", "price", "tries", "status", "latency_ms", "first_token_ms", "left_early"),
    *("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_in", "image_in"),
    *("output", "reasoning", "audio_out", "image_out"),
)
Row = tuple[Any, ...]
"""An entry: a request that ended, by `COLUMNS`. `first_token_ms` is -1 where there was none; `tags` a JSON array;
`ended_at` None is when it lands."""
NO_USAGE = (None,) * 10


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


class Want(Struct, frozen=True):
    """A request that waits for its amount."""

    id: str
    amount_nusd: int


class Line(Struct):
    """One allotment: what running requests take of it, what is kept for more, who waits. `chain` 0 is not known yet;
    `is_kept`: the database had it; `typical_nusd` is what a request on it may cost, 0 where no more is to be kept."""

    id: str
    account: str
    chain: int = 0
    is_kept: bool = False
    open_nusd: int = 0
    free_nusd: int = 0
    typical_nusd: int = 0
    wants: list[Want] = []


class Landing(Struct):
    """What `journal` tells: `rows` ended, the first of which is its end number `since`. With `closes` it is told whole,
    and nothing is held for it any longer; with `replays` that is so only if it is not yet."""

    journal: str
    since: int
    rows: list[Row]
    lines: list[Line]
    closes: bool = False
    replays: bool = False


class Allotment(Struct):
    """An allotment as it is kept."""

    id: str
    chain: int
    amount_nusd: int


class Allotted(Struct):
    """What became of a line: a refusal or None for each that waited, and what is kept on top of `free_nusd` now.

    `is_unlimited`: nothing above bounds it. `is_tight`: so little is left that nothing should be kept. `has_moved`: the
    account is below others now, so that nobody was let in here. `is_lost`: its lease ran out and others have freed it;
    what runs is held again, and nothing is kept.
    """

    chain: int
    answers: list[Problem | None] = []
    spare_nusd: int = 0
    is_unlimited: bool = False
    is_tight: bool = False
    has_moved: bool = False
    is_lost: bool = False
    is_kept: bool = False


class Landed(Struct):
    """`now` is the database's time; False in `counts` is a replay that somebody else has done."""

    now: float
    lines: list[Allotted]
    counts: bool = True


class Books(Protocol):
    """The accounts, allotments and entries in a database. Every method raises Problem (503) when it cannot answer."""

    def land_now(self, landing: Landing) -> Landed | None:
        """`land` when that can be done at once; None, and nothing is done, when it cannot."""

    async def land(self, landing: Landing) -> Landed: ...

    async def free(self, alive: list[str]) -> None:
        """Give back what journals hold whose lease ran out, but for those whose processes are known to live."""

    async def put_account(self, account: Account) -> None: ...
    async def account(self, id: str) -> Account | None: ...
    async def accounts(self) -> list[Account]: ...
    async def grant(self, account: str, amount_nusd: int, note: str) -> Account: ...
    async def usage(self, query: UsageQuery) -> list[UsageRow]: ...
    async def check(self) -> list[str]: ...


class Page(Struct):
    """What a landing is decided on: the accounts, by id; the `allotments` of its journal and how many of its ends
    `landed`; the ids among those that wait that are `taken`; chains by number and, of the accounts that are charged
    now, their numbers."""

    purses: Mapping[str, Purse]
    allotments: dict[str, Allotment]
    landed: int | None
    taken: set[str]
    chains: Mapping[int, Sequence[str]]
    numbers: Mapping[str, int]
    now: float
    rows: list[Row] = []
    gone: list[str] = []
    lost: set[str] = set()

    def land(self, landing: Landing) -> Landed:
        """Decide it: `purses` and `allotments` change, `rows` become entries and `gone` are deleted."""
        if landing.replays and self.landed is None:
            return Landed(self.now, [], counts=False)
        done = 0 if self.landed is None else max(0, self.landed - landing.since)
        self.rows = [r if r[3] is not None else (*r[:3], self.now, *r[4:]) for r in landing.rows[done:]]
        self.taken.update(r[0] for r in self.rows)
        self._charge()
        for line in landing.lines:
            self._settle(line)
        if landing.closes:
            lines = {line.id for line in landing.lines}
            for id in [id for id in self.allotments if id not in lines]:
                self._resize(self.allotments[id], 0)
        answers = [self._serve(line) for line in landing.lines]
        self.gone = [a.id for a in self.allotments.values() if not a.amount_nusd]
        for id in self.gone:
            del self.allotments[id]
        for line, answer in zip(landing.lines, answers, strict=True):
            answer.is_kept = line.id in self.allotments
        return Landed(self.now, answers)

    def _charge(self) -> None:
        costs: dict[int, int] = {}
        for row in self.rows:
            costs[row[1]] = costs.get(row[1], 0) + (row[6] or 0)
        for chain, cost_nusd in costs.items():
            for id in self.chains[chain]:
                p = self.purses[id]
                p.spent_nusd += cost_nusd
                if p.credit_nusd is not None:
                    p.credit_nusd -= cost_nusd

    def _settle(self, line: Line) -> None:
        """Hold what the line says."""
        kept = self.allotments.get(line.id)
        if kept is None:
            kept = self.allotments[line.id] = Allotment(line.id, line.chain or self.numbers[line.account], 0)
            if line.is_kept:
                self.lost.add(line.id)
        self._resize(kept, line.open_nusd + (0 if line.id in self.lost else line.free_nusd))

    def _resize(self, kept: Allotment, amount_nusd: int) -> None:
        hold([self.purses[id] for id in self.chains[kept.chain]], amount_nusd - kept.amount_nusd)
        kept.amount_nusd = amount_nusd

    def _serve(self, line: Line) -> Allotted:
        """Let in who waits, each or not, and keep something for the next."""
        kept, is_lost = self.allotments[line.id], line.id in self.lost
        if kept.chain != self.numbers[line.account]:
            return Allotted(kept.chain, has_moved=True, is_lost=is_lost)
        on = path(self.purses, line.account)
        answers = [self._let_in(w, on, kept) for w in line.wants]
        found = Allotted(kept.chain, answers, is_unlimited=not any(is_limited(p) for p in on), is_lost=is_lost)
        if not found.is_unlimited and not is_lost:
            left = room(on)
            share = (left + line.free_nusd) // SHARE
            found.is_tight = share < FEWEST * line.typical_nusd
            if line.typical_nusd and not found.is_tight:
                found.spare_nusd = min(max(0, min(share, MOST * line.typical_nusd) - line.free_nusd), max(left, 0))
                hold(on, found.spare_nusd)
                kept.amount_nusd += found.spare_nusd
        return found

    def _let_in(self, want: Want, on: Sequence[Purse], kept: Allotment) -> Problem | None:
        if want.id in self.taken:
            return already_held(want.id)
        refusal = take(on, want.amount_nusd, self.now)
        if refusal is None:
            self.taken.add(want.id)
            kept.amount_nusd += want.amount_nusd
        return refusal


def already_held(id: str) -> Problem:
    return Problem("server", f"request {id!r} is in the ledger already", 409, code="already_held")


def path(purses: Mapping[str, Purse], id: str) -> list[Purse]:
    """The account with all above it, itself first."""
    on = [purses[id]]
    while (parent := on[-1].parent) is not None:
        on.append(purses[parent])
    return on


def is_limited(p: Purse) -> bool:
    return p.limit_nusd is not None or p.credit_nusd is not None


def room(on: Sequence[Purse]) -> int:
    """What may still be held on all of them; below 0 where more is spent and held than there should be."""
    limits = [p.limit_nusd - p.spent_nusd - p.held_nusd for p in on if p.limit_nusd is not None]
    return min([MOST_NUSD, *limits, *[p.credit_nusd for p in on if p.credit_nusd is not None]])


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
    hold(on, amount_nusd)
    return None


def hold(on: Sequence[Purse], amount_nusd: int) -> None:
    """Hold so much more on all of them, or less."""
    for p in on:
        p.held_nusd += amount_nusd
        if p.credit_nusd is not None:
            p.credit_nusd -= amount_nusd


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
    p.kind, p.parent, p.name = account.kind, account.parent, account.name
    p.limit_nusd = account.limit_nusd


def count_from(p: Purse, period: Period, since_nusd: int, now: float) -> None:
    """Change the period; `since_nusd` was spent since the new one began."""
    p.past_nusd += p.spent_nusd - since_nusd
    p.spent_nusd = since_nusd
    p.period, p.period_began = period, period_start(period, now)


def read_purse(row: tuple[Any, ...], now: float) -> Purse:
    """The account in a row of all its columns, brought to the period that `now` is in."""
    p = Purse(*row)
    if p.period != "total" and (start := period_start(p.period, now)) > p.period_began:
        p.past_nusd += p.spent_nusd
        p.spent_nusd = 0
        p.period_began = start
    return p


def shown(p: Purse) -> Account:
    account = structs.asdict(p)
    del account["past_nusd"], account["unpaid_nusd"]
    return Account(**account)


def renamed(rows: Sequence[Row], taken: set[str], journal: str, since: int) -> list[Row]:
    """The rows, each under an id of its own: what was asked under an id of another request is metered all the same."""
    seen, found = set(taken), []
    for n, row in enumerate(rows, since):
        id = f"{row[0]}~{journal}-{n}" if row[0] in seen else row[0]
        seen.add(id)
        found.append((id, *row[1:]))
    return found
