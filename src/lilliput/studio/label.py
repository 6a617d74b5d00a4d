"""The stage that asks the teacher for answers that are missing, through the gateway, in the form the task wants.

Each answer is kept in `label.part.jsonl` in the run's root as soon as it is there, under the hash of its question, so
a run that is killed asks nothing twice. Splits stay as `collect` made them.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from lilliput.neutral import Problem
from lilliput.studio.collect import digest, enough, of_task
from lilliput.studio.parts import SPLITS, Example, Facts, Tell, Work, read, write
from lilliput.tasks import Row, Task

TRIES = 3
AT_ONCE = 8
PAUSES_S = (1.0, 4.0)
LONGEST_PAUSE_S = 60.0
UNUSABLE_SHARE = 0.2
_AGAIN = ("limit", "provider", "timeout", "server")


class Labelled(Struct, frozen=True, kw_only=True):
    """An answer that was asked for; None where no try gave a usable one."""

    question: str
    answer: str | None
    tokens: tuple[int, int] = (0, 0)
    cost_usd: float = 0.0
    tries: int = 1


def label(work: Work, out: Path, tell: Tell, pause: Callable[[float], None] = time.sleep) -> Facts:
    """Fills the answers that `collect` left empty; rows that the teacher cannot answer are dropped."""
    splits = {name: list(read(work.of("collect") / f"{name}.jsonl", Example)) for name in SPLITS}
    missing = {e.id for part in splits.values() for e in part if not e.answer}
    questions = {
        row.id: question(row.messages, work.task)
        for row in (read(work.root / "rows.jsonl", Row) if missing else ())
        if row.id in missing
    }
    done = _answers(work, questions, tell, pause) if questions else {}
    kept = {name: [filled for e in part if (filled := _filled(e, done)) is not None] for name, part in splits.items()}
    dropped = sum(map(len, splits.values())) - sum(map(len, kept.values()))
    if dropped > UNUSABLE_SHARE * len(missing):
        raise Problem(
            "provider",
            f"{work.task.teacher!r} gave no usable answer to {dropped} of {len(missing)} requests in {TRIES} tries; "
            "does it take response_format, and do the labels (or the schema) fit what is asked?",
            code="bad_answers",
        )
    enough([e for part in kept.values() for e in part], work.task)
    for name, part in kept.items():
        write(out / f"{name}.jsonl", part)
    return {
        "data_sha256": digest(kept),
        "rows": sum(map(len, kept.values())),
        "asked": len(missing),
        "filled": len(missing) - dropped,
        "dropped": dropped,
        "tries": dict(sorted(Counter(str(d.tries) for d in done.values()).items())),
        "prompt_tokens": sum(d.tokens[0] for d in done.values()),
        "completion_tokens": sum(d.tokens[1] for d in done.values()),
        "cost_usd": sum(d.cost_usd for d in done.values()),
    }


def question(messages: Raw, task: Task) -> dict[str, Any]:
    """The chat body that asks the teacher, at temperature 0, for one of the labels or JSON of the schema alone."""
    body: dict[str, Any] = {"model": task.teacher, "messages": msgspec.json.decode(messages), "temperature": 0}
    if task.kind == "label":
        labels = {"type": "string", "enum": list(task.labels)}
        schema: Any = {
            "type": "object",
            "properties": {"label": labels},
            "required": ["label"],
            "additionalProperties": False,
        }
    elif task.kind == "extract" and task.schema is not None:
        schema = msgspec.json.decode(task.schema)
    else:
        return body
    body["response_format"] = {"type": "json_schema", "json_schema": {"name": task.kind, "schema": schema}}
    return body


def _answers(
    work: Work, questions: Mapping[str, dict[str, Any]], tell: Tell, pause: Callable[[float], None]
) -> dict[str, Labelled]:
    """By row. What stands in the part file is not asked again; a line that was cut off is."""
    if work.ask is None:
        raise Problem("client", f"{len(questions)} rows have no answer, and there is no teacher to ask here")
    ask = work.ask
    path = work.root / "label.part.jsonl"
    before = {each.question: each for each in _part(path)}
    hashes = {row: _hash(body) for row, body in questions.items()}
    todo = {hashes[row]: body for row, body in sorted(questions.items()) if hashes[row] not in before}
    pending, total = list(todo.items()), len(set(hashes.values()))
    write(path, before.values())
    with path.open("ab") as file, ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(pending), AT_ONCE):
            few = pending[start : start + AT_ONCE]
            for each in pool.map(lambda item: _one(item[0], item[1], work.task, ask, pause), few):
                before[each.question] = each
                file.write(msgspec.json.encode(each) + b"\n")
            file.flush()
            finished = total - len(pending) + min(start + AT_ONCE, len(pending))
            tell(finished / total, f"{finished} of {total} answered", answered=finished)
    return {row: before[name] for row, name in hashes.items()}


def _part(path: Path) -> Iterator[Labelled]:
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            yield msgspec.json.decode(line, type=Labelled)
        except msgspec.DecodeError:
            continue


def _hash(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()


def _one(
    name: str,
    body: dict[str, Any],
    task: Task,
    ask: Callable[[dict[str, Any]], dict[str, Any]],
    pause: Callable[[float], None],
) -> Labelled:
    prompt = completion = 0
    cost = 0.0
    for tried in range(1, TRIES + 1):
        try:
            reply = ask(body)
        except Problem as e:
            if e.fault not in _AGAIN or tried == TRIES:
                raise
            pause(min(e.retry_after_s or PAUSES_S[tried - 1], LONGEST_PAUSE_S))
            continue
        usage = reply.get("usage")
        if isinstance(usage, dict):
            prompt += int(usage.get("prompt_tokens") or 0)
            completion += int(usage.get("completion_tokens") or 0)
            cost += float(usage.get("cost") or 0.0)
        answer = _said(reply, task)
        if answer:
            return Labelled(question=name, answer=answer, tokens=(prompt, completion), cost_usd=cost, tries=tried)
    return Labelled(question=name, answer=None, tokens=(prompt, completion), cost_usd=cost, tries=TRIES)


def _said(reply: Mapping[str, Any], task: Task) -> str | None:
    """The task's answer in a reply, bare or in the JSON that was asked for; None where there is none."""
    try:
        text = reply["choices"][0]["message"]["content"].strip()
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    if task.kind == "label" and text.startswith("{"):
        try:
            text = str(msgspec.json.decode(text).get("label", ""))
        except msgspec.DecodeError:
            return None
    return of_task(text, task) if text else None


def _filled(e: Example, done: Mapping[str, Labelled]) -> Example | None:
    if e.answer:
        return e
    found = done[e.id].answer if e.id in done else None
    return structs.replace(e, answer=found, source="label") if found else None
