"""Rows from elsewhere: OpenAI fine-tuning files, exports of stored completions, and tables.

An error names the file and the line. Nothing is redacted or stored here; consent and terms are the caller's to give.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Problem
from lilliput.tasks import Row, Terms

Format = Literal["finetuning", "completions", "csv"]


class Origin(Struct, frozen=True, kw_only=True):
    """What every row of a file gets: the task it is for, who vouches for it, and on what terms."""

    task: str = ""
    key: str = "import"
    teacher: str = ""
    consent: str = ""
    terms: Terms = "unknown"


class _Wrong(Exception):
    """What is wrong with one line."""


def read(path: Path, kind: Format, origin: Origin = Origin()) -> Iterator[Row]:  # noqa: B008
    """The rows of a file, in its order; a row's id follows from its content, so that a second import adds nothing.

    `finetuning`: {"messages": [...]} a line; the last assistant message is the answer, and a line whose `weight` there
    is 0 is left out. `completions`: a chat completion a line (or a list object of them) with its request's `messages`
    or `input`, metadata `group` and `subject`. `csv`: columns text, answer and, if wanted, group, at, subject, gold;
    an empty answer is for the studio's `label` to fill.
    """
    if kind not in get_args(Format):
        raise Problem("client", f"{kind!r} is no kind of import: choose {', '.join(get_args(Format))}", param="kind")
    lines: Callable[[Path], Iterator[tuple[int, Any]]] = _table if kind == "csv" else _json_lines
    readers: dict[str, Callable[[Any], Iterator[dict[str, Any]]]] = {
        "finetuning": _finetuning,
        "completions": _completion,
        "csv": _cells,
    }
    rows = readers[kind]
    line = 0
    try:
        for number, value in lines(path):
            line = number
            for fields in rows(value):
                yield _row(fields, origin)
    except (_Wrong, csv.Error) as e:
        raise Problem("client", f"{path}, line {line + isinstance(e, csv.Error)}: {e}", code="bad_import") from e
    except UnicodeDecodeError as e:
        raise Problem("client", f"{path}: after line {line} there is text that is no UTF-8; convert it") from e
    except OSError as e:
        raise Problem("missing", f"{path} cannot be read: {e.strerror}") from e


def _row(fields: dict[str, Any], origin: Origin) -> Row:
    messages = Raw(msgspec.json.encode(fields.pop("messages")))
    fields = {"key": origin.key, "teacher": origin.teacher, "at": 0.0, **{k: v for k, v in fields.items() if v}}
    answer = fields.pop("answer", "")
    whole = (origin.task, messages, answer, *sorted(fields.items()))
    return Row(
        id="imp_" + hashlib.sha256(msgspec.json.encode(whole)).hexdigest()[:24],
        task=origin.task,
        messages=messages,
        answer=answer,
        source="import",
        consent=origin.consent,
        terms=origin.terms,
        **fields,
    )


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(b"\xef\xbb\xbf").strip()
            if text:
                yield number, _Line(text)


class _Line(bytes):
    """A line that has yet to be decoded, so that what is wrong with it is told with its number."""

    def object(self) -> dict[str, Any]:
        try:
            value = msgspec.json.decode(self)
        except (msgspec.DecodeError, RecursionError) as e:
            raise _Wrong(f"is no JSON ({e})") from e
        if not isinstance(value, dict):
            raise _Wrong("is no JSON object")
        return value


def _finetuning(line: _Line) -> Iterator[dict[str, Any]]:
    messages = _messages(line.object().get("messages"), "messages")
    last = messages[-1]
    if last.get("role") != "assistant":
        raise _Wrong(f"the last message is the {last.get('role')}'s: it has to be the assistant's, the answer")
    if last.get("weight", 1) != 0:
        yield {"messages": _asked(messages[:-1]), "answer": _said(last)}


def _completion(line: _Line) -> Iterator[dict[str, Any]]:
    value = line.object()
    each = value["data"] if value.get("object") == "list" and isinstance(value.get("data"), list) else [value]
    for n, completion in enumerate(each):
        if not isinstance(completion, dict):
            raise _Wrong(f"data[{n}] is no chat completion")
        yield _stored(completion)


def _stored(value: dict[str, Any]) -> dict[str, Any]:
    request = value.get("request")
    found = next(
        (h[k] for h in (value, request) if isinstance(h, dict) for k in ("messages", "input") if h.get(k)), None
    )
    if isinstance(found, str):
        found = [{"role": "user", "content": found}]
    if isinstance(found, dict):
        found = found.get("data")
    messages = _messages(found, "messages (what was asked; the API lists it apart, by completion)")
    answer: dict[str, Any] | None = None
    logprobs = None
    choices = value.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        answer, logprobs = choices[0].get("message"), choices[0].get("logprobs")
    elif messages[-1].get("role") == "assistant":
        *messages, answer = messages
    if not isinstance(answer, dict):
        raise _Wrong("there is no choices[0].message, the answer")
    metadata = value.get("metadata")
    labels = metadata if isinstance(metadata, dict) else {}
    created = value.get("created")
    return {
        "messages": _asked(messages),
        "answer": _said(answer),
        "at": float(created) if isinstance(created, int | float) else 0.0,
        "teacher": str(value.get("model") or ""),
        "group": str(labels.get("group") or labels.get("conversation_id") or ""),
        "subject": str(labels.get("subject") or labels.get("user_id") or ""),
        "logprobs": Raw(msgspec.json.encode(logprobs)) if logprobs else None,
    }


def _messages(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(m, dict) and m.get("role") for m in value):
        raise _Wrong(f"has no {name}: a list of objects with a role")
    return value


def _asked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not any(m.get("role") == "user" for m in messages):
        raise _Wrong("no message is the user's: there is nothing to answer")
    return [{k: v for k, v in m.items() if k not in ("weight", "id") and v is not None} for m in messages]


def _said(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(p.get("text", "")) for p in content if isinstance(p, dict) and p.get("type") == "text")
    if not isinstance(content, str) or not content:
        raise _Wrong("the assistant's message has no text: tool calls and refusals are no answers to learn from")
    return content


def _table(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        missing = {"text", "answer"} - set(rows.fieldnames or ())
        if missing:
            raise Problem(
                "client",
                f"{path}, line 1: no column {' or '.join(sorted(missing))} among {', '.join(rows.fieldnames or ())!r}; "
                "the columns are text, answer, group, at, subject, gold",
                code="bad_import",
            )
        for row in rows:
            yield rows.line_num, row


def _cells(row: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    if None in row or None in row.values():
        raise _Wrong(f"has {'more' if None in row else 'fewer'} cells than the header; quote text with commas")
    if not row["text"].strip():
        raise _Wrong("its text is empty")
    yield {
        "messages": [{"role": "user", "content": row["text"]}],
        "answer": row["answer"],
        "at": _time(row.get("at", "")),
        **{name: row.get(name) or "" for name in ("group", "subject")},
        "gold": row.get("gold") or None,
    }


def _time(text: str) -> float:
    """Unix seconds, or ISO 8601 (UTC where it does not say)."""
    try:
        return float(text or 0)
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise _Wrong(f"at is {text!r}: give Unix seconds or ISO 8601") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
