"""Missing answers come from the teacher: constrained, retried, and never asked for twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.studio.rows import LABELS, WORDS, silent, tickets, work

from lilliput.neutral import Problem
from lilliput.studio.collect import collect
from lilliput.studio.label import label
from lilliput.studio.parts import SPLITS, Work


def collected(root: Path, ask: Any) -> Work:
    rows = [structs.replace(r, answer="") if n % 3 == 1 else r for n, r in enumerate(tickets(120))]
    made = structs.replace(work(root, rows), ask=ask)
    made.of("collect").mkdir()
    made.of("label").mkdir()
    collect(made, made.of("collect"), silent)
    return made


class Teacher:
    """Counts words; `trouble` says what befalls the n-th call."""

    def __init__(self, trouble: dict[int, Any] | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self.trouble = trouble or {}

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        odd = self.trouble.get(len(self.asked))
        if isinstance(odd, BaseException):
            raise odd
        text = body["messages"][-1]["content"].split()
        best = max(LABELS, key=lambda name: sum(word in WORDS[name] for word in text))
        content = odd or f'{{"label": "{best}"}}'
        usage = {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0.001}
        return {"choices": [{"message": {"content": content}}], "usage": usage}


def test_what_is_missing_is_asked_for_once(tmp_path: Path) -> None:
    teacher = Teacher({3: "I think it is billing.", 5: Problem("limit", "slow down", retry_after_s=7.0)})
    made = collected(tmp_path, teacher)
    pauses: list[float] = []
    facts = label(made, made.of("label"), silent, pauses.append)
    assert (facts["asked"], facts["filled"], len(teacher.asked)) == (40, 40, 42)
    assert facts["tries"] == {"1": 38, "2": 2}
    assert (facts["prompt_tokens"], facts["completion_tokens"]) == (410, 82)
    assert facts["cost_usd"] == pytest.approx(0.041)
    assert pauses == [7.0]
    assert teacher.asked[0]["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"] == list(LABELS)
    filled = [e for name in SPLITS for e in made.examples(name) if e.source == "label"]
    assert len(filled) == 40
    assert sum(e.answer == "delivery" for e in filled) >= 36


def test_a_killed_run_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    made = collected(tmp_path / "a", Teacher({20: KeyboardInterrupt()}))
    with pytest.raises(KeyboardInterrupt):
        label(made, made.of("label"), silent)
    part = made.root / "label.part.jsonl"
    kept = len(part.read_bytes().splitlines())
    assert kept >= 16
    part.write_bytes(part.read_bytes() + b'{"question": "cut of')
    rest = Teacher()
    made = structs.replace(made, ask=rest)
    facts = label(made, made.of("label"), silent)
    assert len(rest.asked) == 40 - kept
    whole = collected(tmp_path / "b", Teacher())
    assert facts["data_sha256"] == label(whole, whole.of("label"), silent)["data_sha256"]


def test_a_teacher_that_cannot_answer_is_told(tmp_path: Path) -> None:
    made = collected(tmp_path / "a", lambda body: {"choices": [{"message": {"content": None}}]})
    with pytest.raises(Problem, match="no usable answer to 40 of 40 requests in 3 tries"):
        label(made, made.of("label"), silent)
    made = collected(tmp_path / "b", None)
    with pytest.raises(Problem, match="40 rows have no answer"):
        label(made, made.of("label"), silent)
    made = collected(tmp_path / "c", Teacher({1: Problem("auth", "bad key")}))
    with pytest.raises(Problem, match="bad key"):
        label(made, made.of("label"), silent)
