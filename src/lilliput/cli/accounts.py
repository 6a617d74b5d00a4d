"""The commands about money and the database, as the command line shows them; what they do is in the files they name."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lilliput.cli.options import PLAIN, Json

credits = typer.Typer(help="Show and set what accounts may spend: limits and prepaid credits.", **PLAIN)


class _Period(StrEnum):
    total = "total"
    day = "day"
    week = "week"
    month = "month"


@credits.command("grant", context_settings={"ignore_unknown_options": True})
def credits_grant(
    account: Annotated[str, typer.Argument(help="Account to pay into: a key's id, a team, an organisation.")],
    amount: Annotated[str, typer.Argument(metavar="USD", help="Dollars; negative takes back what is left.")],
    note: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    as_json: Json = False,
) -> None:
    """Pay credits into an account, which from then on may spend no more than it has."""
    from lilliput.cli.credits import grant

    grant(os.environ, account, amount, note, as_json)


@credits.command("show")
def credits_show(
    account: Annotated[str | None, typer.Argument(help="Only this account.")] = None, as_json: Json = False
) -> None:
    """Show what accounts may spend, have spent and hold."""
    from lilliput.cli.credits import show

    show(os.environ, account, as_json)


@credits.command("limit")
def credits_limit(
    account: Annotated[str, typer.Argument(help="Account; it is made when it is not there.")],
    usd: Annotated[str, typer.Option(metavar="USD", help="Most that it may spend, or none.")],
    per: Annotated[_Period, typer.Option(help="In which time; total is for ever.")] = _Period.total,
    as_json: Json = False,
) -> None:
    """Set the most that an account may spend in a period."""
    from lilliput.cli.credits import limit

    limit(os.environ, account, usd, per.value, as_json)


def usage(
    by: Annotated[str, typer.Option(metavar="A,B", help="key, model, served, operation, tag, day.")] = "model",
    since: Annotated[str, typer.Option(metavar="TIME", help="7d, 12h, or a date such as 2026-11-01.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="As --since; not included.")] = "",
    account: Annotated[str | None, typer.Option(help="Only this account and those below it.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 1000,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Show requests, tokens and cost, added up from the ledger."""
    from lilliput.cli.usage import usage as command

    if as_csv and as_json:
        raise typer.BadParameter("--csv or --json, not both")
    command(os.environ, by, since, until, account, limit, as_csv, as_json)


db = typer.Typer(help="Upgrade, back up and check the database.", **PLAIN)


@db.command("upgrade")
def db_upgrade(as_json: Json = False) -> None:
    """Bring the database to the newest version."""
    from lilliput.cli.db import upgrade

    upgrade(os.environ, as_json)


@db.command("backup")
def db_backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; nothing may be there.")], as_json: Json = False
) -> None:
    """Copy the database while it is used."""
    from lilliput.cli.db import backup

    backup(os.environ, file, as_json)


@db.command("check")
def db_check(as_json: Json = False) -> None:
    """Check the database and that the ledger adds up. Exit 1 when it does not."""
    from lilliput.cli.db import check

    raise typer.Exit(check(os.environ, as_json))
