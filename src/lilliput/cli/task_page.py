"""The commands about tasks, as the command line shows them; what they do is in `task.py`."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lilliput.cli.options import PLAIN, Json

task = typer.Typer(help="Make tasks, and have students earn their place in them.", **PLAIN)


class _Kind(StrEnum):
    label = "label"
    extract = "extract"
    text = "text"


class _Terms(StrEnum):
    allowed = "allowed"
    forbidden = "forbidden"
    unknown = "unknown"


class _Offline(StrEnum):
    refuse = "refuse"
    degraded = "degraded"


class _Format(StrEnum):
    finetuning = "finetuning"
    completions = "completions"
    csv = "csv"


_Name = Annotated[str, typer.Argument(metavar="NAME", help="The task; it is called as task/NAME.")]


@task.command("create")
def create(
    name: _Name,
    teacher: Annotated[str, typer.Option(metavar="MODEL", help="Model that answers, and is learned from.")],
    kind: Annotated[_Kind, typer.Option(help="What an answer is: one label, JSON of a schema, or text.")],
    labels: Annotated[str, typer.Option(metavar="A,B", help="The labels, of a label task.")] = "",
    labels_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The labels, one a line.")] = None,
    schema: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON schema, of an extract task.")] = None,
    scorer: Annotated[
        str,
        typer.Option(
            metavar="BY",
            help="exact, fields, schema, f1, pattern:REGEX, embedding:MODEL, judge:MODEL; else the kind's.",
        ),
    ] = "",
    least: Annotated[float | None, typer.Option(help="From which score on two answers agree.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Most disagreement among the student's answers.")] = None,
    delta: Annotated[float | None, typer.Option(help="How often that may be broken: 0.1 is 90 % sure.")] = None,
    audit_share: Annotated[float | None, typer.Option(help="Share of its answers that the teacher checks.")] = None,
    sample: Annotated[float | None, typer.Option(help="Share of calls that are captured.")] = None,
    retention_days: Annotated[int | None, typer.Option(help="How long captured rows are kept.")] = None,
    offline: Annotated[
        _Offline | None, typer.Option(help="What is answered when the teacher is away and the student unsure.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a task. From the first call its name works, and is simply the teacher."""
    from lilliput.cli import task as commands
    from lilliput.loop.declare import Declared

    asked = Declared(
        name=name,
        teacher=teacher,
        kind=kind.value,
        scorer=commands.scorer(scorer, least),
        labels=commands.labels(labels, labels_file),
        schema=commands.schema(schema),
        alpha=alpha,
        delta=delta,
        audit_share=audit_share,
        sample=sample,
        retention_days=retention_days,
        offline=offline.value if offline else None,
    )
    commands.create(os.environ, asked, as_json)


@task.command("show")
def show(name: _Name, as_json: Json = False) -> None:
    """Show a task as it stands."""
    from lilliput.cli.task import show

    show(os.environ, name, as_json)


@task.command("list")
def listing(as_json: Json = False) -> None:
    """List the tasks."""
    from lilliput.cli.task import listing

    listing(os.environ, as_json)


@task.command("capture")
def capture(
    name: _Name,
    key: Annotated[str | None, typer.Option(metavar="ID|NAME", help="Whose calls are kept.")] = None,
    consent: Annotated[str | None, typer.Option(metavar="TEXT", help="What the people concerned agreed to.")] = None,
    terms: Annotated[_Terms | None, typer.Option(help="Whether the teacher's terms allow training from it.")] = None,
    override: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Who answers for training although they forbid it, and why.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Keep a key's calls, redacted, with the consent that they are kept by."""
    from lilliput.cli.task import capture

    capture(os.environ, name, key, consent, terms.value if terms else None, override, as_json)


@task.command("import")
def bring(
    name: _Name,
    file: Annotated[Path, typer.Argument(help="Fine-tuning JSONL, stored completions, or CSV.")],
    format: Annotated[_Format | None, typer.Option(help="Else by its ending and first line.")] = None,
    consent: Annotated[
        str | None, typer.Option(metavar="TEXT", help="By which it may be used; else the task's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add rows from a file."""
    from lilliput.cli.task import bring

    bring(os.environ, name, file, format.value if format else None, consent, as_json)


@task.command("promote")
def promote(
    name: _Name,
    student: Annotated[str, typer.Argument(help="Id of a published student.")],
    live: Annotated[bool, typer.Option("--live", help="Let it answer where it is sure; else it is in shadow.")] = False,
    as_json: Json = False,
) -> None:
    """Put a student in place: in shadow first, live after that."""
    from lilliput.cli.task import promote

    promote(os.environ, name, student, live, as_json)


@task.command("pause")
def pause(
    name: _Name, why: Annotated[str, typer.Option(help="Why, for the record.")] = "", as_json: Json = False
) -> None:
    """Have the teacher answer alone, and keep nothing."""
    from lilliput.cli.task import pause

    pause(os.environ, name, why, as_json)


@task.command("resume")
def resume(name: _Name, as_json: Json = False) -> None:
    """Go on after a pause: a student is measured in shadow again."""
    from lilliput.cli.task import resume

    resume(os.environ, name, as_json)


@task.command("rollback")
def rollback(name: _Name, as_json: Json = False) -> None:
    """Put the student before this one back in place."""
    from lilliput.cli.task import rollback

    rollback(os.environ, name, as_json)


@task.command("drop")
def drop(name: _Name, as_json: Json = False) -> None:
    """Forget a task with its rows and audits."""
    from lilliput.cli.task import drop

    drop(os.environ, name, as_json)


@task.command("forget")
def forget(
    key: Annotated[str | None, typer.Option(metavar="ID|NAME", help="Whose traces are erased.")] = None,
    subject: Annotated[str | None, typer.Option(help="Of whom; as rows name them.")] = None,
    as_json: Json = False,
) -> None:
    """Erase all that is kept of a key or a subject, in every task, and block the students that learned from it."""
    from lilliput.cli.task import forget

    forget(os.environ, key, subject, as_json)


@task.command("feedback", context_settings={"ignore_unknown_options": True})
def feedback(
    name: _Name,
    row: Annotated[str, typer.Argument(help="A row's id: the x-request-id of a captured answer.")],
    score: Annotated[float | None, typer.Option(help="-1 (wrong) to 1 (right).")] = None,
    correction: Annotated[str | None, typer.Option(metavar="TEXT", help="What the answer should have been.")] = None,
    as_json: Json = False,
) -> None:
    """Say what an answer was worth, or what it should have been."""
    from lilliput.cli.task import feedback

    feedback(os.environ, name, row, score, correction, as_json)


@task.command("rows")
def rows(
    name: _Name,
    limit: Annotated[int, typer.Option(min=0, help="Most rows; 0 is all.")] = 100,
    offset: Annotated[int, typer.Option(min=0, help="Rows to leave out first.")] = 0,
    as_json: Json = False,
) -> None:
    """List a task's rows, oldest first."""
    from lilliput.cli.task import rows

    rows(os.environ, name, limit, offset, as_json)


@task.command("savings")
def savings(name: _Name, as_json: Json = False) -> None:
    """Show what the student saved against asking the teacher each time."""
    from lilliput.cli.task import savings

    savings(os.environ, name, as_json)
