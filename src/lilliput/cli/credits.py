"""`lilliput credits`: what accounts may spend, in this home's ledger, whether or not the gateway runs.

A gateway that runs is a second behind in what is changed here and a quarter of one ahead of what is shown; what it
keeps for requests to come is shown as held, up to a sixteenth of what is left.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from msgspec import structs

from lilliput import config as configuration
from lilliput.cli.output import one_line, show_json, show_table
from lilliput.gateway.usage_table import shown
from lilliput.money import Account, Ledger, Period
from lilliput.neutral import Problem
from lilliput.store.budget import MOST_NUSD, dollars
from lilliput.store.open import open_store, store_url

T = TypeVar("T")


def grant(env: Mapping[str, str], account: str, amount: str, note: str, as_json: bool) -> None:
    """Pay credits in, or take them back with a negative amount, as far as there are any."""
    say_if_off(env)
    nusd = nano_dollars(amount)
    paid = with_ledger(env, lambda ledger: ledger.grant(account, nusd, note))
    if as_json:
        show_json(shown(paid), sys.stdout)
    else:
        print(f"account {one_line(account)} has {dollars(paid.credit_nusd or 0)} of credits")


def show(env: Mapping[str, str], account: str | None, as_json: bool) -> None:
    """One account, or all of them, those above before those below."""

    async def read(ledger: Ledger) -> list[Account]:
        if account is None:
            return await ledger.accounts()
        return [await _known(ledger, account)]

    found = with_ledger(env, read)
    if as_json:
        show_json([shown(a) for a in found] if account is None else shown(found[0]), sys.stdout)
        return
    head = ["account", "kind", "name", "under", "limit", "per", "spent", "held", "credits"]
    cells = [
        [
            a.id,
            a.kind,
            a.name or "-",
            a.parent or "-",
            "none" if a.limit_nusd is None else dollars(a.limit_nusd),
            a.period,
            dollars(a.spent_nusd),
            dollars(a.held_nusd),
            "-" if a.credit_nusd is None else dollars(a.credit_nusd),
        ]
        for a in found
    ]
    show_table(head, cells, sys.stdout)


def limit(env: Mapping[str, str], account: str, usd: str, per: Period, as_json: bool) -> None:
    """Set the most that an account may spend in a period; `none` lifts it. An account that is not there is made."""
    say_if_off(env)
    limit_nusd = None if usd == "none" else nano_dollars(usd)
    if limit_nusd is not None and limit_nusd < 0:
        raise Problem("client", f"limit {usd!r} is below 0: give 0 to refuse all, or none to lift it", code="usage")

    async def change(ledger: Ledger) -> Account:
        now = await ledger.account(account) or Account(id=account, kind="key")
        await ledger.put_account(structs.replace(now, limit_nusd=limit_nusd, period=per))
        return await _known(ledger, account)

    changed = with_ledger(env, change)
    if as_json:
        show_json(shown(changed), sys.stdout)
    elif limit_nusd is None:
        print(f"account {one_line(account)} has no limit")
    else:
        what = "in all" if per == "total" else f"a {per}"
        print(f"account {one_line(account)} may spend {dollars(limit_nusd)} {what}")


def nano_dollars(text: str) -> int:
    """The amount of US dollars in `text`, in nano-dollars; Problem for what is no number or finer or greater."""
    try:
        nusd = Decimal(text.strip().removeprefix("$")) * 10**9
        if nusd.is_finite() and nusd == int(nusd) and abs(nusd) <= MOST_NUSD:
            return int(nusd)
    except InvalidOperation:
        pass
    say = f"amount {text!r} is not in US dollars with nine decimals at most, such as 5 or 0.25"
    raise Problem("client", say, code="usage")


def with_ledger(env: Mapping[str, str], job: Callable[[Ledger], Awaitable[T]]) -> T:
    """What `job` makes of this home's ledger."""

    async def run() -> T:
        opened = await open_store(store_url(env), configuration.home(env).database)
        try:
            return await job(opened.ledger)
        finally:
            await opened.close()

    return asyncio.run(run())


def say_if_off(env: Mapping[str, str]) -> None:
    """One line on stderr where the configuration keeps no ledger, so that no budget is thought to be kept to."""
    file = configuration.home(env).config_file
    if not configuration.read(file if file.is_file() else None).ledger.on:
        print(f"nothing is held against it yet: set `on = true` under [ledger] in {file}", file=sys.stderr)


async def _known(ledger: Ledger, id: str) -> Account:
    account = await ledger.account(id)
    if account is None:
        raise Problem("client", f"account {id!r} is not known; list them with `lilliput credits show`")
    return account
