"""`lilliput usage`: what was asked and what it cost, added up from this home's ledger.

Requests are in it a quarter of a second after their end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from lilliput.cli.credits import say_if_off, with_ledger
from lilliput.cli.output import one_line, show_json, show_table
from lilliput.gateway.usage_table import SUMS, asked, cells, csv_text


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
    names, query = asked(by, since, until, account, limit, time.time())
    rows = with_ledger(env, lambda ledger: ledger.usage(query))
    head = [*names, *SUMS]
    lines = [cells(row) for row in rows]
    if as_json:
        show_json([dict(zip(head, line, strict=True)) for line in lines], sys.stdout)
    elif as_csv:
        print(csv_text([head, *([one_line(str(c)) for c in line] for line in lines)]), end="")
    else:
        shown = [[str(c) if c != "" else "-" for c in line] for line in lines]
        show_table(head, shown, sys.stdout)
