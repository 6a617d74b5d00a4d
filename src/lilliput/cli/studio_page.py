"""The commands about making students, and the demonstrations; what they do is in `studio.py` and `demo.py`."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lilliput.cli.options import PLAIN, ConfigFile, Json

studio = typer.Typer(help="Make a student of a task's rows.", **PLAIN)
demo = typer.Typer(help="See it work, in a home of its own that is removed afterwards.", **PLAIN)


class _Format(StrEnum):
    finetuning = "finetuning"
    completions = "completions"
    csv = "csv"


@studio.command("loop", hidden=True)
@studio.command("run")
def run(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task to make a student for.")],
    recipe: Annotated[Path | None, typer.Option(metavar="FILE", help="Recipe, as TOML.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One value of the recipe; repeatable.")
    ] = None,
    rows: Annotated[Path | None, typer.Option(metavar="FILE", help="Rows of a file instead of the captured.")] = None,
    format: Annotated[_Format | None, typer.Option(help="What the file is; else by its looks.")] = None,
    consent: Annotated[str | None, typer.Option(metavar="TEXT", help="By which the file's rows are used.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew where a run of this recipe was stopped.")] = False,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print progress and result as a JSON object a line.")] = False,
) -> None:
    """Make a student: collect, label, train, quantise, evaluate; published if it passes. Exit 1 if none does."""
    from lilliput.cli.studio import Ask
    from lilliput.cli.studio import run as command

    asked = Ask(
        task=task,
        recipe=recipe,
        sets=tuple(sets or ()),
        rows=rows,
        format=format.value if format else None,
        consent=consent,
        fresh=fresh,
    )
    raise typer.Exit(command(os.environ, config, asked, as_json))


@studio.command("list")
def listing(as_json: Json = False) -> None:
    """List the runs."""
    from lilliput.cli.studio import listing

    listing(os.environ, as_json)


@studio.command("show")
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run, as `list` calls it.")], as_json: Json = False
) -> None:
    """Show a run: its stages, how long each took and what came of it."""
    from lilliput.cli.studio import show

    show(os.environ, run, as_json)


@demo.callback()
def _demos() -> None:
    pass


@demo.command("loop")
def loop(
    keep: Annotated[bool, typer.Option("--keep", help="Leave its home behind, and say where.")] = False,
    as_json: Json = False,
) -> None:
    """The whole loop in minutes: calls to a scripted teacher become a student that answers in its place."""
    from lilliput.cli.demo import loop as command

    raise typer.Exit(command(os.environ, keep, as_json))
