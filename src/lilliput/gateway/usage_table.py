"""Usage as it is asked for and shown, by the command line and over HTTP alike: words in, rows and CSV out."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from lilliput.money import Account, UsageQuery, UsageRow
from lilliput.neutral import Problem

By = Literal["account", "model", "served", "operation", "tag", "day"]
COLUMNS: dict[str, By] = {
    "key": "account",
    "model": "model",
    "served": "served",
    "operation": "operation",
    "tag": "tag",
    "day": "day",
}
"""What one may group by, as the ledger calls it."""
SUMS = ("requests", "problems", "prompt_tokens", "completion_tokens", "cost_usd", "unpriced")
"""`cost_usd` leaves out what `unpriced` requests cost."""

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_S = 100 * 366 * 86_400
_LIFETIME = re.compile(r"([0-9]{1,9})([smhdw])")


def asked(
    by: str, since: str, until: str, account: str | None, limit: int, now: float
) -> tuple[Sequence[str], UsageQuery]:
    """The columns to group by, by the names that people use, and the query; raises Problem (400) for other words."""
    names = list(dict.fromkeys(name.strip() for name in by.split(",") if name.strip()))
    for name in names:
        if name not in COLUMNS:
            raise Problem("client", f"by {name!r} is none of {', '.join(COLUMNS)}", code="usage", param="by")
    columns = tuple([COLUMNS[name] for name in names])
    began, ended = moment(since, now), moment(until, now)
    return names, UsageQuery(by=columns, since=began, until=ended, account=account, limit=limit)


def moment(text: str, now: float) -> float | None:
    """The Unix second that is meant: `7d` is seven days ago, `2026-11-01` that day's start in UTC, `` no bound."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return now - lifetime_s(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def lifetime_s(text: str) -> int:
    """The seconds in a lifetime such as `30d`; Problem for another form, zero, or over a hundred years."""
    match = _LIFETIME.fullmatch(text.strip().lower())
    seconds = int(match[1]) * _UNIT_S[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_S:
        say = f"lifetime {text!r} is not a whole number with s, m, h, d or w, such as 12h or 30d"
        raise Problem("client", say, code="usage")
    return seconds


def cells(row: UsageRow) -> list[str | int]:
    """A row under `[*names, *SUMS]`."""
    sums = (row.requests, row.problems, row.prompt_tokens, row.completion_tokens, usd(row.cost_nusd), row.unpriced)
    return [*row.group, *sums]


def csv_text(lines: Iterable[Sequence[str | int]]) -> str:
    """The lines as CSV that no spreadsheet takes for a formula: callers choose names and tags."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[_plain(str(cell)) for cell in line] for line in lines])
    return out.getvalue()


def _plain(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def usd(nusd: int) -> str:
    """The amount in dollars, exactly, at least to the cent: `12.50`, `-0.000002`."""
    whole, part = divmod(abs(nusd), 10**9)
    digits = f"{part:09}".rstrip("0").ljust(2, "0")
    return f"{'-' if nusd < 0 else ''}{whole}.{digits}"


def shown(a: Account) -> dict[str, object]:
    """The account as JSON: dollars as text, so that no digit is lost."""
    return {
        "id": a.id,
        "kind": a.kind,
        "name": a.name,
        "parent": a.parent,
        "limit_usd": None if a.limit_nusd is None else usd(a.limit_nusd),
        "period": a.period,
        "spent_usd": usd(a.spent_nusd),
        "held_usd": usd(a.held_nusd),
        "credit_usd": None if a.credit_nusd is None else usd(a.credit_nusd),
    }
