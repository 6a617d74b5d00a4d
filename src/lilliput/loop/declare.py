"""What a person may declare a task to be; the same words in the command line and over HTTP."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Problem
from lilliput.tasks import PREFIX, Kind, Scorer, Task, Terms

MOST_LABELS = 52
"""Each label has a code of one token, a letter (see `form`)."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SCORERS: dict[Kind, Scorer] = {"label": Scorer(), "extract": Scorer(by="fields"), "text": Scorer(by="f1", least=0.8)}


class Declared(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task as it is asked for; what is None is as `tasks.Task` has it, the scorer as the kind wants it."""

    name: str
    teacher: str
    kind: Kind
    scorer: Scorer | None = None
    labels: tuple[str, ...] = ()
    schema: Any = None
    alpha: float | None = None
    delta: float | None = None
    terms: Terms | None = None
    override: str | None = None
    sample: float | None = None
    retention_days: int | None = None
    audit_share: float | None = None
    offline: Literal["refuse", "degraded"] | None = None


def declared(asked: Declared, now: float) -> Task:
    """The task, in state `off`; raises Problem (400) that names the field."""
    if not _NAME.fullmatch(asked.name):
        say = f"name {asked.name[:80]!r} is not 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first"
        raise _bad("name", say)
    if not asked.teacher or asked.teacher.startswith(PREFIX):
        say = f"teacher {asked.teacher!r} is no model: name one that `lilliput models` lists, not another task"
        raise _bad("teacher", say)
    _kind(asked)
    given = {name: getattr(asked, name) for name in asked.__struct_fields__}
    values = {name: value for name, value in given.items() if value is not None}
    task = Task(**{**values, "scorer": asked.scorer or _SCORERS[asked.kind], "made_at": now})
    for name, most in (("alpha", 0.5), ("delta", 0.5), ("sample", 1.0)):
        if not 0 < getattr(task, name) <= most:
            raise _bad(name, f"{name} is {getattr(task, name)!r}; send more than 0 and at most {most:g}")
    if not 0 <= task.audit_share <= 1:
        raise _bad("audit_share", f"audit_share is {task.audit_share!r}; send 0 to 1, a share of the answers served")
    if not 1 <= task.retention_days <= 3650:
        raise _bad("retention_days", f"retention_days is {task.retention_days!r}; send 1 to 3650")
    _scorer(task.scorer)
    return task


def _kind(asked: Declared) -> None:
    if asked.kind == "label":
        labels = asked.labels
        if not 2 <= len(labels) <= MOST_LABELS:
            raise _bad("labels", f"a label task needs 2 to {MOST_LABELS} labels; {len(labels)} are given")
        if len({label.strip() for label in labels}) < len(labels) or not all(label.strip() for label in labels):
            raise _bad("labels", "a label is empty or given twice; each is an answer of its own")
    elif asked.labels:
        raise _bad("labels", f"labels are for tasks of kind label, and this one is {asked.kind}")
    if asked.kind == "extract":
        if not isinstance(asked.schema, dict) or asked.schema.get("type") != "object":
            raise _bad("schema", 'an extract task needs a JSON schema with "type": "object"')
        if not isinstance(asked.schema.get("properties"), dict) or not asked.schema["properties"]:
            raise _bad("schema", "the schema names no properties; name each field that is to be extracted")
    elif asked.schema is not None:
        raise _bad("schema", f"a schema is for tasks of kind extract, and this one is {asked.kind}")


def _scorer(scorer: Scorer) -> None:
    if scorer.by in ("embedding", "judge") and not scorer.model:
        raise _bad("scorer", f"a scorer by {scorer.by} needs a model, such as --scorer {scorer.by}:PROVIDER/MODEL")
    if scorer.by == "pattern":
        try:
            re.compile(scorer.pattern)
        except re.error as e:
            raise _bad("scorer", f"the scorer's pattern {scorer.pattern!r} is no regular expression: {e}") from None
        if not scorer.pattern:
            raise _bad("scorer", "a scorer by pattern needs a regular expression")
    if not -1 <= scorer.least <= 1:
        raise _bad("scorer", f"the scorer's least is {scorer.least!r}; send -1 to 1")


def read(body: bytes | Raw) -> Declared:
    """The declaration in a JSON body; raises Problem (400)."""
    try:
        return msgspec.json.decode(body, type=Declared)
    except msgspec.DecodeError as e:
        raise Problem("client", f"this is no task: {e}", code="invalid_value") from None


def _bad(field: str, say: str) -> Problem:
    return Problem("client", say, code="invalid_value", param=field)
