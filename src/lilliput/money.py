"""What the ledger and those who pay into it say to each other: accounts, holds, settlements, usage.

Values and one protocol. Money is integer nano-dollars (nusd), times are Unix seconds. Stores implement `Ledger`; the
gateway is handed one.
"""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

from lilliput.neutral import Usage

Kind = Literal["organisation", "team", "key"]
Period = Literal["total", "day", "week", "month"]
Outcome = Literal["settled", "released", "unknown"]


class Account(Struct, frozen=True, kw_only=True):
    """Who pays: an organisation, a team in it, or a key. A hold on a key is a hold on all above it, in one step.

    `limit_nusd` is the most that may be spent in a `period` (UTC days, ISO weeks, calendar months); None is no limit.
    `credit_nusd` is what was paid in and not yet spent or held; None for an account that is billed afterwards.
    """

    id: str
    kind: Kind
    parent: str | None = None
    name: str = ""
    limit_nusd: int | None = None
    period: Period = "total"
    credit_nusd: int | None = None
    spent_nusd: int = 0
    held_nusd: int = 0
    period_began: float = 0.0


class Hold(Struct, frozen=True, kw_only=True):
    """What a request may cost at most, put aside before it goes out. `id` is the request's.

    It is swept as `unknown`, at the amount held, when its process dies, or when `lease_s` runs out unsettled.
    """

    id: str
    account: str
    amount_nusd: int
    lease_s: float
    operation: str
    model: str
    tags: tuple[str, ...] = ()


class Settlement(Struct, frozen=True, kw_only=True):
    """What a request did cost, told once. `price` names the snapshot that the cost was reckoned with; `tries` is how
    many calls it took; `cost_nusd` None is a price that is not known (of an account without limits)."""

    cost_nusd: int | None
    usage: Usage | None
    served: str
    price: str
    tries: int
    status: int
    latency_ms: int
    first_token_ms: int | None = None
    left_early: bool = False


class UsageQuery(Struct, frozen=True, kw_only=True):
    """Which entries to add up: those that ended from `since` on and before `until`. `by` names the columns to group by,
    in order; an entry with several tags counts under each. `account` includes all that was below it at the time. Rows
    come dearest first, or day by day.
    """

    by: tuple[Literal["account", "model", "served", "operation", "tag", "day"], ...] = ("model",)
    since: float | None = None
    until: float | None = None
    account: str | None = None
    limit: int = 1000


class UsageRow(Struct, frozen=True, kw_only=True):
    """`group` has the values of `UsageQuery.by`, in its order. `unpriced` requests have no part in `cost_nusd`."""

    group: tuple[str, ...]
    requests: int
    problems: int
    prompt_tokens: int
    completion_tokens: int
    cost_nusd: int
    unpriced: int


class Ledger(Protocol):
    """Every method raises `Problem("server", ...)` with status 503 when the database cannot answer.

    Holds and settlements outlive a kill -9 from their return on. A hold is admitted only where `spent + held <= limit`
    and `credit >= 0` stay true for the account and all above it, whatever runs at once, on one machine or many. A
    settlement above its hold is owed: it may pass both, and nothing but what costs nothing is admitted until it is
    paid.

    A process puts amounts aside for requests to come, which count as held until they go back, a second after their last
    use. What it settled is seen by others a quarter of a second later, and what they change (a limit, credits, a
    parent) binds here within a second; its own questions and changes are exact.
    """

    def hold_now(self, hold: Hold) -> bool:
        """`hold` where no database need be asked; False, and nothing is held, where it must. The id is one that its
        caller made and never used before: it is not looked up. Raises Problem (503) when the disk is full."""

    def settle_now(self, id: str, settlement: Settlement) -> bool:
        """`settle`, at once."""

    def release_now(self, id: str, settlement: Settlement) -> bool:
        """`release`, at once."""

    def is_unlimited(self, account: str) -> bool:
        """Whether nothing above the account bounds it, as far as is known now; False when nobody has asked lately."""

    async def hold(self, hold: Hold) -> None:
        """Put the amount aside on the account and all above it; raises Problem: 402 `insufficient_credits`, or 429
        `budget_exceeded` with `retry_after_s` until the period ends (402 for the period `total`); a second later when
        it is only what others hold that is in the way. An account that is not known has no limits and is made on the
        way; an id that was held before is a Problem (409). Who is cancelled while waiting here holds nothing."""

    async def settle(self, id: str, settlement: Settlement) -> bool:
        """Turn a hold into spending; False when it was settled, released or swept before, and then nothing changes."""

    async def release(self, id: str, settlement: Settlement) -> bool:
        """Give a hold back whole: the request cost nothing. It stays on record."""

    async def sweep(self) -> int:
        """Settle what processes that died have left as `unknown`, at the amount held, and holds of this one whose lease
        ran out; how many there were. What a machine put aside that is gone for good is free a minute later."""

    async def put_account(self, account: Account) -> None:
        """Make an account or change its kind, parent, name, limit and period; what was spent and held stays, and a new
        period counts what its entries say was spent in it. Problem (400) for a parent that is unknown or below it."""

    async def account(self, id: str) -> Account | None: ...

    async def accounts(self) -> list[Account]:
        """All accounts, parents before children."""

    async def grant(self, account: str, amount_nusd: int, note: str) -> Account:
        """Pay credits in (a negative amount takes them back, not below 0); on record with its note. The first make the
        account prepaid: they pay for what it holds, not for what it spent before."""

    async def usage(self, query: UsageQuery) -> list[UsageRow]: ...

    async def check(self) -> list[str]:
        """What does not add up, read under one snapshot; empty for a sound ledger."""

    async def close(self) -> None:
        """Write down what is still in this process; nothing is held after it. Calling it again does nothing."""
