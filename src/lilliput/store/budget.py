"""What an account allows, whatever database keeps it: when its period ends, and how a hold is refused. No SQL here."""

from __future__ import annotations

from datetime import UTC, datetime

from lilliput.money import Account, Period
from lilliput.neutral import Problem

MOST_NUSD = 2**60
"""About a billion dollars: no amount is larger, so that no sum leaves 64 bits."""
IN_FLIGHT_S = 1.0
"""When to ask again for what other requests hold now."""
_DAY_S = 86_400
_MONDAY = 4 * _DAY_S
"""1970-01-05, the first Monday of Unix time."""


def period_start(period: Period, now: float) -> float:
    """When the period that `now` is in began: UTC days, ISO weeks, calendar months; 0 for `total`."""
    match period:
        case "total":
            return 0.0
        case "day":
            return now // _DAY_S * _DAY_S
        case "week":
            return (now - _MONDAY) // (7 * _DAY_S) * (7 * _DAY_S) + _MONDAY
        case "month":
            at = datetime.fromtimestamp(now, UTC)
            return datetime(at.year, at.month, 1, tzinfo=UTC).timestamp()


def period_end(period: Period, now: float) -> float | None:
    """When the period that `now` is in ends; None for `total`."""
    start = period_start(period, now)
    match period:
        case "total":
            return None
        case "day":
            return start + _DAY_S
        case "week":
            return start + 7 * _DAY_S
        case "month":
            return period_start("month", start + 31 * _DAY_S)


def no_credit(account: str, amount_nusd: int, credit_nusd: int, held_nusd: int) -> Problem:
    """The refusal of a hold that the account's credits do not cover."""
    waits = credit_nusd + held_nusd >= amount_nusd
    say = (
        f"the request may cost up to {dollars(amount_nusd)} and account {account!r} has not as many credits left"
        f"{' while other requests run' if waits else ''}: pay some in (`lilliput credits grant`), or ask for fewer "
        "tokens (max_tokens)"
    )
    return Problem("limit", say, 402, code="insufficient_credits", retry_after_s=IN_FLIGHT_S if waits else None)


def over_limit(account: Account, amount_nusd: int, now: float) -> Problem:
    """The refusal of a hold that would pass the account's limit: 429 until the period ends, 402 when it never does."""
    limit = account.limit_nusd or 0
    waits = account.spent_nusd + amount_nusd <= limit
    end = period_end(account.period, now)
    until = "" if end is None else f" until {datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M} UTC"
    say = (
        f"the request may cost up to {dollars(amount_nusd)} and account {account.id!r} may not spend that much more"
        f"{' while other requests run' if waits else until}: raise its limit (`lilliput credits limit`), or ask for "
        "fewer tokens (max_tokens)"
    )
    wait_s = IN_FLIGHT_S if waits else None if end is None else max(end - now, IN_FLIGHT_S)
    return Problem("limit", say, 402 if end is None else 429, code="budget_exceeded", retry_after_s=wait_s)


def dollars(nusd: int) -> str:
    """The amount as it is shown: `$12.50`, `-$0.000002`."""
    whole, part = divmod(abs(nusd), 10**9)
    digits = f"{part:09}".rstrip("0").ljust(2, "0")
    return f"{'-' if nusd < 0 else ''}${whole}.{digits}"
