"""`lilliput task`: the life of a task, ordered from the command line, whether or not the gateway runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from lilliput.cli.output import clean, one_line, show_json, show_table
from lilliput.cli.tasking import home_desk
from lilliput.gateway.task_desk import Desk
from lilliput.gateway.task_routes import shown, shown_row
from lilliput.gateway.task_savings import Savings, Share
from lilliput.loop import lifecycle
from lilliput.loop.declare import Declared
from lilliput.neutral import Problem
from lilliput.tasks import PREFIX, Row, Scorer, Task

T = TypeVar("T")
BATCH = 500
"""Rows that are stored together."""


def create(env: Mapping[str, str], asked: Declared, as_json: bool) -> None:
    """Make a task; from now on its name can be called, and is its teacher."""
    task = _ask(env, lambda desk: desk.create(asked))
    _tell(task, f"{PREFIX}{task.name} can be called, and is {one_line(task.teacher)}", as_json)


def show(env: Mapping[str, str], name: str, as_json: bool) -> None:
    async def read(desk: Desk) -> tuple[Task, int]:
        return await desk.named(name), await desk.store.count(name)

    task, rows = _ask(env, read)
    if as_json:
        show_json({**shown(task), "rows": rows}, sys.stdout)
        return
    fields = {**structs.asdict(task), "rows": rows, "scorer": _scorer(task.scorer), "made_at": _time(task.made_at)}
    for field, value in fields.items():
        if isinstance(value, tuple):
            value = ", ".join(map(str, value))
        if value not in (None, "", b""):
            print(f"{field:<16} {one_line(bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value))}")


def listing(env: Mapping[str, str], as_json: bool) -> None:
    async def read(desk: Desk) -> list[tuple[Task, int]]:
        return [(task, await desk.store.count(task.name)) for task in await desk.store.tasks()]

    found = _ask(env, read)
    if as_json:
        show_json([{**shown(task), "rows": rows} for task, rows in found], sys.stdout)
        return
    head = ["task", "kind", "state", "teacher", "student", "rows", "why"]
    cells = [[t.name, t.kind, t.state, t.teacher, t.student or "-", str(rows), t.why or "-"] for t, rows in found]
    show_table(head, cells, sys.stdout)


def capture(
    env: Mapping[str, str],
    name: str,
    key: str | None,
    consent: str | None,
    terms: str | None,
    override: str | None,
    as_json: bool,
) -> None:
    """Keep a key's calls and the teacher's answers to them, redacted; or say what the teacher's terms allow."""
    task = _ask(env, lambda desk: desk.capture(name, key, consent, terms, override))  # type: ignore[arg-type]
    whose = ", ".join(task.keys) or "no key"
    _tell(task, f"{name} is {task.state}, captures {whose}; training is {_training(task)}", as_json)


def bring(
    env: Mapping[str, str], name: str, file: Path, format: str | None, consent: str | None, as_json: bool
) -> None:
    """Add rows of a file, redacted: OpenAI's fine-tuning JSONL, an export of stored completions, or CSV."""
    from lilliput.studio.importing import Origin, read

    async def work(desk: Desk) -> tuple[int, int]:
        task = await desk.named(name)
        origin = Origin(task=name, teacher=task.teacher, consent=consent or task.consent, terms=task.terms)
        now, new, of = desk.clock(), 0, 0
        rows = (structs.replace(row, at=row.at or now) for row in read(file, _format(file, format), origin))
        while some := list(islice(rows, BATCH)):
            added, these = await desk.keep(name, some)
            new, of = new + added, of + these
        return new, of

    new, of = _ask(env, work)
    if as_json:
        show_json({"object": "task.import", "new": new, "rows": of}, sys.stdout)
    else:
        print(f"{new} of {of} rows are new to {name}")


def promote(env: Mapping[str, str], name: str, student: str, live: bool, as_json: bool) -> None:
    task = _ask(env, lambda desk: desk.promote(name, student, live=live))
    _tell(task, f"{name} is {task.state} with student {student}", as_json)


def pause(env: Mapping[str, str], name: str, why: str, as_json: bool) -> None:
    task = _ask(env, lambda desk: desk.change(name, lambda t: lifecycle.move(t, "paused", why)))
    _tell(task, f"{name} is paused: its teacher answers, nothing is kept", as_json)


def resume(env: Mapping[str, str], name: str, as_json: bool) -> None:
    task = _ask(env, lambda desk: desk.change(name, lifecycle.resume))
    _tell(task, f"{name} is {task.state}", as_json)


def rollback(env: Mapping[str, str], name: str, as_json: bool) -> None:
    task = _ask(env, lambda desk: desk.rollback(name))
    _tell(task, f"{name} is {task.state} with {task.student or 'no student'}", as_json)


def drop(env: Mapping[str, str], name: str, as_json: bool) -> None:
    _ask(env, lambda desk: desk.drop(name))
    if as_json:
        show_json({"id": name, "object": "task.deleted", "deleted": True}, sys.stdout)
    else:
        print(f"{name} is forgotten with its rows and audits; its runs and students stay in their folders")


def forget(env: Mapping[str, str], key: str | None, subject: str | None, as_json: bool) -> None:
    """Erase all that is kept of a key or a subject, and say what that was."""
    report = _ask(env, lambda desk: desk.forget(key, subject))
    if as_json:
        show_json(report, sys.stdout)
        return
    print(f"forgotten: {report.of} sha256:{report.sha256}")
    for task, rows in report.rows.items():
        print(f"  rows       {rows} of {task}")
    if report.rows:
        print(f"             ids sha256:{report.rows_sha256}")
    print(f"  answers    {report.responses} responses, {report.cached} cached, {report.idempotent} idempotency keys")
    for file in report.files:
        print(f"  lines      {file.lines} of runs/{one_line(file.path)}, now sha256:{file.sha256_after}")
    for student in report.students:
        print(f"  student    {student.student} of {student.task} is blocked until it is trained anew")
    for name in report.unread:
        print(f"  student    {one_line(name)} has no manifest that can be read: delete it")
    for task, state in report.tasks.items():
        print(f"  task       {task} is {state}")
    print(f"not erased: {'; '.join(report.not_erased)}")


def feedback(
    env: Mapping[str, str], name: str, row: str, score: float | None, correction: str | None, as_json: bool
) -> None:
    judged = _ask(env, lambda desk: desk.feedback(name, row, score, correction))
    if as_json:
        show_json(shown_row(judged), sys.stdout)
    else:
        print(f"row {judged.id}: score {_plain(judged.feedback)}, correction {one_line(judged.correction or '-')}")


def rows(env: Mapping[str, str], name: str, limit: int, offset: int, as_json: bool) -> None:
    async def read(desk: Desk) -> list[Row]:
        await desk.named(name)
        return await desk.store.rows(name, limit=limit, offset=offset)

    found = _ask(env, read)
    if as_json:
        show_json([shown_row(row) for row in found], sys.stdout)
        return
    head = ["row", "at", "key", "source", "score", "answer"]
    cells = [
        [r.id, _time(r.at), r.key or "-", r.source, _plain(r.feedback), one_line(r.correction or r.answer)[:60]]
        for r in found
    ]
    show_table(head, cells, sys.stdout)


def savings(env: Mapping[str, str], name: str, as_json: bool) -> None:
    found: Savings = _ask(env, lambda desk: desk.savings(name))
    if as_json:
        show_json(found, sys.stdout)
        return
    share = "-" if found.local_share is None else f"{found.local} of {found.requests} ({found.local_share:.1%})"
    lines = [
        ("student", found.student or "-"),
        ("served here", share),
        ("agreement", _share(found.agreement)),
        ("in shadow", _share(found.shadow)),
        ("spent", f"${found.spent_usd}" if found.spent_usd is not None else "-"),
        ("all teacher", f"${found.all_teacher_usd}" if found.all_teacher_usd is not None else "-"),
        ("saved", f"${found.saved_usd}" if found.saved_usd is not None else "-"),
        ("median", "-" if found.saved_ms is None else f"{found.student_ms:g} ms, teacher {found.teacher_ms:g} ms"),
    ]
    for label, value in lines:
        print(f"{label:<12} {one_line(value)}")
    for note in found.notes:
        print(f"note: {clean(note)}", file=sys.stderr)


def scorer(text: str, least: float | None) -> Scorer | None:
    """The scorer in `exact`, `f1`, `pattern:REGEX`, `judge:MODEL`; None for none."""
    if not text:
        return None
    by, _, more = text.partition(":")
    if more and by not in ("pattern", "embedding", "judge"):
        raise Problem("client", f"scorer {by} takes nothing after it: leave out {more!r}", code="usage")
    asked = {"by": by, "pattern" if by == "pattern" else "model": more, "least": 1.0 if least is None else least}
    try:
        return msgspec.convert(asked, Scorer)
    except msgspec.ValidationError as e:
        raise Problem(
            "client", f"scorer {text!r} is none: {e}; see `lilliput task create --help`", code="usage"
        ) from None


def labels(text: str, file: Path | None) -> tuple[str, ...]:
    """The labels between commas, or one a line of a file."""
    if text and file is not None:
        raise Problem("client", "--labels or --labels-file, not both", code="usage")
    given = file.read_text(encoding="utf-8").splitlines() if file is not None else text.split(",") if text else []
    return tuple(label.strip() for label in given if label.strip() or file is None)


def schema(file: Path | None) -> Any:
    if file is None:
        return None
    try:
        return msgspec.json.decode(file.read_bytes())
    except msgspec.DecodeError as e:
        raise Problem("client", f"{file} is no JSON: {e}", code="usage") from None


def _ask(env: Mapping[str, str], job: Callable[[Desk], Awaitable[T]]) -> T:
    async def run() -> T:
        async with home_desk(env) as desk:
            return await job(desk)

    return asyncio.run(run())


def _format(file: Path, given: str | None) -> Any:
    """The format that was given, else what the file looks like."""
    if given is not None:
        return given
    if file.suffix.lower() == ".csv":
        return "csv"
    with file.open("rb") as lines:
        first: Iterator[bytes] = (line for line in lines if line.strip())
        return "completions" if b'"choices"' in next(first, b"") else "finetuning"


def _tell(task: Task, say: str, as_json: bool) -> None:
    if as_json:
        show_json(shown(task), sys.stdout)
    else:
        print(say)


def _training(task: Task) -> str:
    try:
        lifecycle.may_train(task)
    except Problem:
        return "refused, by the teacher's terms"
    return "allowed by a person" if task.terms == "forbidden" else f"allowed (terms: {task.terms})"


def _scorer(s: Scorer) -> str:
    return f"{s.by}{':' if s.pattern or s.model else ''}{s.pattern or s.model}, from {s.least:g} on"


def _share(s: Share) -> str:
    return "-" if s.share is None else f"{s.share:.1%} of {s.items} audited ({s.low:.1%} to {s.high:.1%})"


def _plain(number: float | None) -> str:
    return "-" if number is None else f"{number:g}"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
