"""What a journal's records say: a request that runs, and one that ended, which is an entry by the columns of `book`."""

from __future__ import annotations

from typing import Any

from msgspec import json, msgpack

from lilliput.money import Hold, Outcome, Settlement
from lilliput.neutral import Problem
from lilliput.store.book import COLUMNS, MOST_TOKENS, NO_USAGE, Landing, Row

encode = msgpack.Encoder().encode
LOST = Settlement(cost_nusd=None, usage=None, served="", price="", tries=0, status=0, latency_ms=0)
"""What is told of a request whose end nobody saw."""
_FEW = len(NO_USAGE)


def running(hold: Hold, chain: int, began_at: float) -> bytes:
    """A request that runs; Problem (400) for a name that no database takes."""
    try:
        return encode((hold.id, chain, began_at, hold.amount_nusd, hold.operation, hold.model, _tags(hold)))
    except UnicodeError:
        raise Problem("client", "a name or a tag holds half a character: leave that out") from None


def ended(
    hold: Hold, chain: int, state: Outcome, at: float, began_at: float, cost_nusd: int | None, s: Settlement
) -> tuple[Row, bytes]:
    """A request that ended, and its record."""
    u = s.usage
    row: Row = (
        hold.id,
        chain,
        state,
        at,
        began_at,
        hold.amount_nusd,
        cost_nusd,
        hold.operation,
        hold.model,
        _tags(hold),
        s.served,
        s.price,
        s.tries,
        s.status,
        s.latency_ms,
        -1 if s.first_token_ms is None else s.first_token_ms,
        s.left_early,
    )
    if u is None:
        row += NO_USAGE
    else:
        row += (
            u.input,
            u.cache_read,
            u.cache_write_5m,
            u.cache_write_1h,
            u.audio_in,
            u.image_in,
            u.output,
            u.reasoning,
            u.audio_out,
            u.image_out,
        )
    try:
        return row, encode(row)
    except (OverflowError, UnicodeError):
        row = _storable(row)
        return row, encode(row)


def replayed(journal: str, since: int, records: list[Any]) -> tuple[Landing, int]:
    """The journal of a process that died, told whole, and how many requests ran in it."""
    rows, runs = list[Row](), dict[str, Any]()
    for record in records:
        if len(record) == len(COLUMNS):
            rows.append(tuple(record))
            runs.pop(record[0], None)
        else:
            runs[record[0]] = record
    for id, chain, began_at, amount_nusd, operation, model, tags in runs.values():
        head = (id, chain, "unknown", None, began_at, amount_nusd, amount_nusd, operation, model, tags)
        rows.append((*head, "", "", 0, 0, 0, -1, False, *NO_USAGE))
    return Landing(journal, since, rows, [], closes=True, replays=True), len(runs)


def _tags(hold: Hold) -> str:
    return json.encode(hold.tags).decode() if hold.tags else "[]"


def _storable(row: Row) -> Row:
    """The row with texts that can be written and counts that can be kept."""
    cells = [v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for v in row]
    return (*cells[:-_FEW], *(v and min(max(v, 0), MOST_TOKENS) for v in cells[-_FEW:]))
