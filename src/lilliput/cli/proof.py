"""The commands about receipts, as the command line shows them; what they do is in `cli.receipts`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lilliput.cli.options import PLAIN, Json

receipts = typer.Typer(help="List, show and verify the signed records of requests.", **PLAIN)


@receipts.command("list")
def receipts_list(
    limit: Annotated[int, typer.Option(min=1, help="Most receipts, the newest.")] = 20, as_json: Json = False
) -> None:
    """List the newest receipts, the last one last."""
    from lilliput.cli.receipts import listing

    listing(os.environ, limit, as_json)


@receipts.command("show")
def receipts_show(
    id: Annotated[str, typer.Argument(help="As the answer's x-lilliput-receipt header tells it.")],
    as_json: Json = False,
) -> None:
    """Show one receipt; with --json as it was signed."""
    from lilliput.cli.receipts import show

    show(os.environ, id, as_json)


@receipts.command("verify")
def receipts_verify(
    files: Annotated[list[Path] | None, typer.Argument(help="Files of receipts; else all of this home.")] = None,
    public_key: Annotated[
        str | None, typer.Option(metavar="HEX|FILE", help="The key that must have signed them; else this home's.")
    ] = None,
    answer: Annotated[
        tuple[Path, str] | None,
        typer.Option(metavar="FILE ID", help="Compare an answer's body that was kept with its receipt."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify hashes, order and signatures. Exit 1 when anything was changed, is missing or does not belong."""
    from lilliput.cli.receipts import verify

    raise typer.Exit(verify(os.environ, tuple(files or ()), public_key, answer, as_json))
