"""`GET /v1/usage` and `GET /v1/credits`: what the caller's own account spent and may spend, with those below it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lilliput.gateway.gates import Gate
from lilliput.gateway.usage_table import SUMS, asked, cells, csv_text, shown
from lilliput.money import Account, Ledger
from lilliput.neutral import Key, Problem

MOST_ROWS = 10_000
ASKED = ("by", "since", "until", "account", "limit", "format")


def endpoints(gate: Gate) -> Mapping[str, Callable[[Request], Awaitable[Response]]]:
    return {"usage": partial(usage, gate), "credits": partial(credits, gate)}


async def usage(gate: Gate, request: Request) -> Response:
    """The sums, dearest first or day by day, as `lilliput usage` prints them; raises Problem (400, 404)."""
    ledger, key, query = _ledger(gate), _key(request), request.query_params
    for name in query:
        if name not in ASKED:
            raise _bad(name, f"{name[:50]!r} is nothing that can be asked here: send {', '.join(ASKED)}")
    form, limit = query.get("format", "json"), query.get("limit", "1000")
    if form not in ("json", "csv"):
        raise _bad("format", f"format is {form[:20]!r}; send json or csv")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= MOST_ROWS):
        raise _bad("limit", f"limit is {limit[:20]!r}; send 1 to {MOST_ROWS}")
    account = await _own(ledger, key, query.get("account", key.id))
    try:
        names, wanted = asked(
            query.get("by", "model"),
            query.get("since", ""),
            query.get("until", ""),
            account,
            int(limit),
            gate.clock(),
        )
    except Problem as problem:
        raise _bad(problem.param, problem.say) from None
    head = [*names, *SUMS]
    lines = [cells(row) for row in await ledger.usage(wanted)]
    if form == "csv":
        return Response(csv_text([head, *lines]), media_type="text/csv")
    return _json({"object": "list", "data": [dict(zip(head, line, strict=True)) for line in lines]})


async def credits(gate: Gate, request: Request) -> Response:
    """The caller's account: its limit, what it has spent and holds, and the credits that are left."""
    key = _key(request)
    account = await _ledger(gate).account(key.id)
    return _json(shown(account or Account(id=key.id, kind="key", name=key.name)))


async def _own(ledger: Ledger, key: Key, id: str) -> str:
    """The account, which is the key's or below it; any other, there or not, is a Problem (404)."""
    at: str | None = id
    while at is not None and at != key.id:
        account = await ledger.account(at)
        at = None if account is None else account.parent
    if at is None:
        say = f"account {id[:100]!r} is not known to this key; it sees {key.id!r} and what is below it"
        raise Problem("missing", say, code="account_not_found", param="account")
    return id


def _ledger(gate: Gate) -> Ledger:
    if gate.till is None or gate.till.ledger is None:
        say = "this gateway keeps no ledger; its operator sets `on = true` under [ledger]"
        raise Problem("missing", say, code="not_found")
    return gate.till.ledger


def _key(request: Request) -> Key:
    key: Key = request.scope["state"]["key"]
    return key


def _bad(param: str | None, say: str) -> Problem:
    return Problem("client", say, code="invalid_value", param=param)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
