"""`lilliput usage`: what was asked and what it cost, added up from this home's ledger."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from lilliput.cli.credits import say_if_off, with_ledger
from lilliput.cli.key import lifetime_s
from lilliput.cli.output import one_line, show_json, show_table
from lilliput.money import UsageQuery, UsageRow
from lilliput.neutral import Problem
from lilliput.store.budget import dollars

By = Literal["account", "model", "served", "operation", "tag", "day"]
COLUMNS: dict[str, By] = {
    "key": "account",
    "model": "model",
    "served": "served",
    "operation": "operation",
    "tag": "tag",
    "day": "day",
}
"""What `--by` takes, as the ledger calls it."""
SUMS = ("requests", "problems", "prompt_tokens", "completion_tokens", "cost_usd", "unpriced")


def usage(
    env: Mapping[str, str],
    by: str,
    since: str,
    until: str,
    account: str | None,
    limit: int,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Print the sums, dearest first, or day by day. `cost_usd` leaves out what `unpriced` requests cost."""
    say_if_off(env)
    names = [name.strip() for name in by.split(",") if name.strip()]
    for name in names:
        if name not in COLUMNS:
            raise Problem("client", f"--by {name!r} is none of {', '.join(COLUMNS)}", code="usage")
    query = UsageQuery(
        by=tuple(COLUMNS[name] for name in names),
        since=moment(since),
        until=moment(until),
        account=account,
        limit=limit,
    )
    rows = with_ledger(env, lambda ledger: ledger.usage(query))
    head = [*names, *SUMS]
    cells = [[*row.group, *_sums(row)] for row in rows]
    if as_json:
        show_json([dict(zip(head, line, strict=True)) for line in cells], sys.stdout)
    elif as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([head, *([_cell(c) for c in line] for line in cells)])
    else:
        shown = [[str(c) if c != "" else "-" for c in line] for line in cells]
        show_table(head, shown, sys.stdout)


def moment(text: str, now: float | None = None) -> float | None:
    """The Unix second that is meant: `7d` is seven days ago, `2026-11-01` that day's start in UTC, `` no bound."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return (time.time() if now is None else now) - lifetime_s(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _sums(row: UsageRow) -> list[int | str]:
    cost = dollars(row.cost_nusd).removeprefix("$")
    return [row.requests, row.problems, row.prompt_tokens, row.completion_tokens, cost, row.unpriced]


def _cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula: callers choose names and tags."""
    text = one_line(str(value))
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
