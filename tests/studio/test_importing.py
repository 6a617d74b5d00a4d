"""Rows from other people's files; an error names the file and the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.json import decode

from lilliput.neutral import Problem
from lilliput.studio.importing import Format, Origin, read

U = {"role": "user", "content": "q"}
A = {"role": "assistant", "content": "a"}
DONE = {"id": "c1", "object": "chat.completion", "model": "gpt-5.4", "created": 1738960610}
CHOICES = [{"index": 0, "message": {**A, "tool_calls": None}, "logprobs": {"content": []}}]


def file(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n")
    return path


def test_finetuning_files(tmp_path: Path) -> None:
    lines = [{"messages": [U, A]}, "", {"messages": [U, {**A, "weight": 0}]}, {"messages": [U, {**A, "weight": 1}]}]
    path = file(tmp_path / "f.jsonl", *lines)
    rows = list(read(path, "finetuning", Origin(task="t", consent="yes", teacher="m")))
    assert [(decode(r.messages), r.answer, r.source, r.consent, r.teacher) for r in rows] == [
        ([U], "a", "import", "yes", "m")
    ] * 2
    assert rows[0].id == rows[1].id
    assert rows == list(read(path, "finetuning", Origin(task="t", consent="yes", teacher="m")))


STORED = [
    {**DONE, "choices": CHOICES, "messages": [U], "metadata": {"group": "g", "subject": "s"}},
    {**DONE, "choices": CHOICES, "input": "q", "metadata": {"conversation_id": "g", "user_id": "s"}},
    {
        **DONE,
        "choices": CHOICES,
        "request": {"messages": [{**U, "id": "c1-0"}]},
        "metadata": {"group": "g", "subject": "s"},
    },
    {
        "object": "list",
        "data": [
            {
                **DONE,
                "choices": CHOICES,
                "messages": {"object": "list", "data": [U]},
                "metadata": {"group": "g", "subject": "s"},
            }
        ],
    },
]


@pytest.mark.parametrize("line", STORED)
def test_stored_completions(tmp_path: Path, line: dict[str, Any]) -> None:
    (row,) = read(file(tmp_path / "s.jsonl", line), "completions", Origin(teacher="other"))
    assert (decode(row.messages), row.answer) == ([U], "a")
    assert (row.teacher, row.at, row.group, row.subject) == ("gpt-5.4", 1738960610.0, "g", "s")
    assert row.logprobs is not None
    assert bytes(row.logprobs) == b'{"content":[]}'


def test_tables(tmp_path: Path) -> None:
    path = file(tmp_path / "t.csv", "\ufefftext,answer,at,gold", '"one, two",x,2026-01-02T00:00:00Z,y', "three,,5,")
    one, two = read(path, "csv")
    assert (decode(one.messages), one.answer, one.at, one.gold) == (
        [{"role": "user", "content": "one, two"}],
        "x",
        1767312000.0,
        "y",
    )
    assert (two.answer, two.at, two.gold) == ("", 5.0, None)


WRONG: list[tuple[Format, list[Any], str]] = [
    ("finetuning", [{"messages": [U, A]}, "{"], r"w, line 2: is no JSON"),
    ("finetuning", [{"messages": [U]}], r"w, line 1: the last message is the user's"),
    ("finetuning", [{"messages": [U, {"role": "assistant", "tool_calls": []}]}], r"line 1: .*no text"),
    ("finetuning", [{"messages": [A]}], "line 1: no message is the user's"),
    ("finetuning", ["[]"], "line 1: is no JSON object"),
    ("finetuning", [{"prompt": "x"}], "line 1: has no messages"),
    ("completions", [{**DONE, "choices": CHOICES}], "line 1: has no messages"),
    ("completions", [{**DONE, "messages": [U]}], r"no choices\[0\].message"),
    ("csv", ["text,label", "a,b"], "line 1: no column answer"),
    ("csv", ["text,answer", "a,b,c"], "line 2: has more cells"),
    ("csv", ["text,answer", "a,b", " ,c"], "line 3: its text is empty"),
    ("csv", ["text,answer,at", "a,b,soon"], "line 2: at is 'soon'"),
    ("csv", ["text,answer", '"a,b'], r"w, line \d: "),
]


@pytest.mark.parametrize(("kind", "lines", "say"), WRONG)
def test_errors_name_the_line(tmp_path: Path, kind: Format, lines: list[Any], say: str) -> None:
    with pytest.raises(Problem, match=say):
        list(read(file(tmp_path / "w", *lines), kind))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="cannot be read"):
        list(read(tmp_path / "none", "csv"))
    (tmp_path / "b").write_bytes(b"text,answer\n\xff\xfe,x\n")
    with pytest.raises(Problem, match="no UTF-8"):
        list(read(tmp_path / "b", "csv"))
    with pytest.raises(Problem, match="no kind of import"):
        list(read(tmp_path / "b", "xml"))  # type: ignore[arg-type]
