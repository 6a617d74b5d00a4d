"""What is in a data set, for people and for machines: where it comes from, who consented, what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from lilliput.studio import slices
from lilliput.studio.parts import Example
from lilliput.tasks import Frame, Row, Task

SHOWN = 20
"""Lines of a table in Markdown; the JSON has them all."""


def write(
    out: Path,
    task: Task,
    rows: Mapping[str, Row],
    splits: Mapping[str, Sequence[Example]],
    shape: Frame,
    facts: Mapping[str, Any],
) -> None:
    """`datasheet.json` and `datasheet.md` in `out`. `rows` are all that were read, by id."""
    sheet = _sheet(task, rows, splits, shape, facts)
    (out / "datasheet.json").write_bytes(msgspec.json.format(msgspec.json.encode(sheet, order="deterministic")))
    (out / "datasheet.md").write_text("\n".join(_markdown(task, sheet)) + "\n")


def _sheet(
    task: Task,
    rows: Mapping[str, Row],
    splits: Mapping[str, Sequence[Example]],
    shape: Frame,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    examples = [e for part in splits.values() for e in part]
    used = [rows[e.id] for e in examples]
    times = [e.at for e in examples if e.at]
    return {
        "task": task.name,
        "kind": task.kind,
        "teachers": _counts(row.teacher for row in used),
        "terms": _counts(row.terms for row in used),
        "override": task.override,
        "consent": _counts(row.consent for row in used),
        "sources": _counts(e.source for e in examples),
        "keys": _counts(e.key for e in examples),
        "subjects": len({e.subject for e in examples if e.subject}),
        "groups": len({e.group for e in examples}),
        "from": _day(min(times)) if times else None,
        "to": _day(max(times)) if times else None,
        "redactions": sum(row.redacted for row in used),
        "rows_with_redactions": sum(row.redacted > 0 for row in used),
        "languages": _counts(slices.language(e.text) for e in examples),
        "lengths": _counts(slices.length(e.text) for e in examples),
        "labels": {name: _counts(e.answer for e in part) for name, part in splits.items()}
        if task.kind == "label"
        else {},
        "frame": {"system_sha256": shape.system_sha256, "head": shape.head, "tail": shape.tail},
        "warnings": list(_warnings(task, used, splits)),
        **facts,
    }


def _warnings(task: Task, used: Sequence[Row], splits: Mapping[str, Sequence[Example]]) -> Iterable[str]:
    terms = Counter(row.terms for row in used)
    if terms["unknown"]:
        yield f"{terms['unknown']} rows come from a teacher whose terms nobody has looked at."
    if terms["forbidden"]:
        yield f"{terms['forbidden']} rows come from a teacher whose terms forbid this; overridden: {task.override}"
    missing = sorted(set(task.labels) - {e.answer for e in splits["train"]}) if task.kind == "label" else []
    if missing and all(e.answer for e in splits["train"]):
        yield f"Nothing in train has the label {', '.join(map(repr, missing))}."
    if len({e.key for part in splits.values() for e in part}) == 1:
        yield "All rows come from one key."


def _markdown(task: Task, sheet: Mapping[str, Any]) -> Iterable[str]:
    yield from (f"# Data of the task {task.name}", "")
    yield f"{sheet['rows']} rows, {sheet['groups']} groups; data hash `{sheet['data_sha256']}`."
    if sheet["from"]:
        yield f"From {sheet['from']} to {sheet['to']}."
    yield (
        f"{sheet['redactions']} things were redacted in {sheet['rows_with_redactions']} rows. Of "
        f"{sheet['asked_again']} texts asked again, {sheet['changed_mind']} got another answer "
        f"({sheet['changed_mind_rate']:.1%})."
    )
    for warning in sheet["warnings"]:
        yield from ("", f"**{warning}**")
    tables = {name: sheet[name] for name in ("splits", "dropped", "teachers", "terms", "consent", "sources", "keys")}
    tables |= {name: sheet[name] for name in ("languages", "lengths")}
    tables |= {f"labels in {name}": counts for name, counts in sheet["labels"].items()}
    for name, counts in tables.items():
        if counts:
            yield from ("", f"## {name.capitalize()}", "", "| | rows |", "|---|---|")
            yield from (f"| {_cell(what)} | {n} |" for what, n in list(counts.items())[:SHOWN])
            if len(counts) > SHOWN:
                yield f"| {len(counts) - SHOWN} more | {sum(list(counts.values())[SHOWN:])} |"
    if sheet["suspects"]:
        yield from ("", "## Left out as suspects", "", "| what | text | answer | rows |", "|---|---|---|---|")
        for s in sheet["suspects"]:
            ids = ", ".join(s["rows"][:SHOWN]) + (" ..." if len(s["rows"]) > SHOWN else "")
            yield f"| {s['what']} | {_cell(s['text'])} | {_cell(s['answer'])} | {len(s['rows'])}: {ids} |"


def _counts(values: Iterable[str]) -> dict[str, int]:
    """Most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())[:200] or "(none)"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
