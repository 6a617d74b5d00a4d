"""Files that hold what somebody wants forgotten, and the marks on students."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from lilliput.store.erasing import block, blocked, clean
from lilliput.tasks import Frame, Student, Threshold

NEVER = Threshold(confidence=2, alpha=0.05, delta=0.1, items=0, coverage=0, bound=1, method="none")


def lines(path: Path, *values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{v if isinstance(v, str) else json.dumps(v)}\n" for v in values))
    return path


def bundle(folder: Path, id: str, **more: Any) -> Path:
    student = Student(id=id, task="t", kind="label", form="baseline", frame=Frame(), threshold=NEVER, **more)
    (folder / id).mkdir(parents=True)
    (folder / id / "student.json").write_bytes(msgspec.json.encode(student))
    return folder / id


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_lines_of_a_key_go_and_what_stands_under_their_ids(tmp_path: Path) -> None:
    mine, other = {"id": "r1", "key": "k1", "text": "CANARY"}, {"id": "r2", "key": "k2", "subject": "ann", "text": "y"}
    train = lines(tmp_path / "a" / "collect" / "train.jsonl", mine, other, "no JSON", [1])
    told = lines(tmp_path / "a" / "evaluate" / "predictions.jsonl", {"id": "r1", "answer": "CANARY"}, {"id": "r2"})
    manifest = lines(tmp_path / "a" / "collect" / "manifest.json", {})
    whole = lines(tmp_path / "b" / "rows.jsonl", other)
    kept = lines(tmp_path / "b" / "collect" / "manifest.json", {})
    before = sha(train.read_text())
    got = clean(tmp_path, "k1", None)
    assert [(c.path, c.lines) for c in got] == [("a/collect/train.jsonl", 1), ("a/evaluate/predictions.jsonl", 1)]
    assert (got[0].sha256_before, got[0].sha256_after) == (before, sha(train.read_text()))
    assert train.read_text() == f"{json.dumps(other)}\nno JSON\n[1]\n"
    assert told.read_text() == '{"id": "r2"}\n'
    assert not manifest.exists(), "the run is not finished any more"
    assert kept.exists()
    assert not any(b"CANARY" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert clean(tmp_path, "k1", None) == []
    assert {c.path for c in clean(tmp_path, None, "ann")} == {
        *("a/collect/train.jsonl", "a/evaluate/predictions.jsonl", "b/rows.jsonl")
    }
    assert whole.read_text() == ""


def test_who_learned_from_it_is_marked(tmp_path: Path) -> None:
    one = bundle(tmp_path, "s1", keys=("k1", "k2"))
    two = bundle(tmp_path, "s2", keys=("k2",), subjects_sha256=(sha("ann"),))
    lines(tmp_path / "s3" / "student.json", "half a manif")
    marks, unread = block(tmp_path, "k1", None, "erased", 5.0)
    assert ([m.student for m in marks], unread) == (["s1"], ["s3"])
    assert blocked(two) is None
    mark = blocked(one)
    assert mark is not None
    assert (mark.why, mark.at, mark.task) == ("erased", 5.0, "t")
    assert [m.student for m in block(tmp_path, None, "ann", "erased", 6.0)[0]] == ["s2"]
    assert block(tmp_path, None, "an", "erased", 6.0)[0] == []
    (two / "blocked.json").write_text("{")
    mark = blocked(two)
    assert mark is not None, "a mark that cannot be read is a mark"
    assert "cannot be read" in mark.why
