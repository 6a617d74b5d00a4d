"""A bundle is the same again from the same run, differs where anything does, and is refused once a file was changed."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs
from tests.local.bundles import ALWAYS, BASELINE
from tests.studio import made_models

from lilliput.local.student import Runner
from lilliput.neutral import Problem
from lilliput.studio import publish
from lilliput.studio.evaluate import Chosen
from lilliput.studio.parts import Example, Work, write
from lilliput.tasks import Frame, Student, identity


def quiet(done: float, say: str, **figures: float) -> None:
    """Nobody listens."""


def run(root: Path, who: str = "baseline", form: str = "baseline", of: str = "", **recipe: Any) -> Work:
    """A run up to `evaluate`, with files that stand for weights."""
    work = made_models.work(root, made_models.colours(), forms=("Q8_0", "base+lora"), **recipe)
    rows = [Example(id="c", text="red", answer="warm", key="k2", subject="ann", at=5.0)]
    write(root / "collect" / "cal.jsonl", rows)
    write(root / "collect" / "test.jsonl", [structs.replace(rows[0], id="t", key="k1", subject="", at=4.0)])
    (root / "collect" / "frame.json").write_bytes(msgspec.json.encode(Frame(head="Is it warm? ")))
    chosen = Chosen(who=who, form=form, of=of, calibration=(1.5, 0.1), threshold=ALWAYS, scores={"auroc": 0.9})  # type: ignore[arg-type]
    files = {
        "evaluate/chosen.json": msgspec.json.encode(chosen),
        "evaluate/reference.json": b"{}",
        "baseline/baseline.bin": BASELINE,
        "quantise/Q8_0.gguf": b"weights",
        "quantise/lora.gguf": b"adapter",
        "base.gguf": b"base",
    }
    for name, raw in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(raw)
    return structs.replace(work, weights=root / "base.gguf")


def published(work: Work) -> tuple[Path, Student]:
    out = work.of("publish")
    out.mkdir(exist_ok=True)
    facts = publish.publish(work, out, quiet)
    return Path(facts["path"]), publish.verify(Path(facts["path"]))


FORMS = [
    ("baseline", {}, {"baseline.bin"}, ""),
    ("model", {"who": "Q8_0", "form": "model"}, {"model.gguf"}, ""),
    ("adapter", {"who": "base+lora", "form": "model"}, {"lora.gguf"}, "smollm2-135m"),
    ("ensemble", {"who": "ensemble", "form": "ensemble", "of": "Q8_0"}, {"baseline.bin", "model.gguf"}, ""),
    (
        "ensemble over a base",
        {"who": "ensemble", "form": "ensemble", "of": "base+lora"},
        {"baseline.bin", "lora.gguf"},
        "smollm2-135m",
    ),
]


@pytest.mark.parametrize(("name", "given", "files", "base"), FORMS, ids=[r[0] for r in FORMS])
def test_what_a_bundle_holds(name: str, given: dict[str, Any], files: set[str], base: str, tmp_path: Path) -> None:
    place, student = published(run(tmp_path / "r", **given))
    assert {f.path for f in student.files} == {p.name for p in place.iterdir()} - {"student.json"}
    assert {f.path for f in student.files} == files | {"reference.json"}
    assert (student.base, student.base_sha256) == (base, hashlib.sha256(b"base").hexdigest() if base else "")
    assert place.name == student.id == identity(student)
    assert student.keys == ("k1", "k2")
    assert student.subjects_sha256 == (hashlib.sha256(b"ann").hexdigest(),)
    assert (student.rows, student.made_at, student.calibration) == (22, 5.0, (1.5, 0.1))
    assert student.frame.head == "Is it warm? "


def test_the_same_run_is_the_same_bundle(tmp_path: Path) -> None:
    work = run(tmp_path / "a" / "r")
    place, student = published(work)
    again = structs.replace(run(tmp_path / "b" / "r"), students=work.students)
    assert published(again) == (place, student)
    assert [p.name for p in work.students.iterdir()] == [place.name], "nothing half made is left"
    write(again.root / "collect" / "cal.jsonl", [Example(id="c", text="red", answer="cold")])
    other, changed = published(again)
    assert other != place
    assert changed.data_sha256 != student.data_sha256
    assert {s.id for s in publish.students(work.students)} == {student.id, changed.id}


def test_a_bundle_serves(tmp_path: Path) -> None:
    work = structs.replace(run(tmp_path / "r"))
    place, _ = published(structs.replace(work, task=structs.replace(work.task, labels=("games", "mail"))))

    async def guess() -> None:
        runner = Runner(place)
        await runner.start()
        assert (await runner.guess("chess")).answer == "games"
        await runner.stop()

    asyncio.run(guess())


def test_a_changed_bundle_is_refused_and_made_again(tmp_path: Path) -> None:
    work = run(tmp_path / "r")
    place, student = published(work)
    for name, say in [("baseline.bin", "another baseline.bin than"), ("student.json", "its manifest was changed")]:
        whole = (place / name).read_bytes()
        broken = whole.replace(b"1.5", b"1.6") if name == "student.json" else whole[:-1] + b"x"
        (place / name).write_bytes(broken)
        with pytest.raises(Problem, match=say):
            publish.verify(place)
        assert publish.students(work.students) == []
        assert published(work) == (place, student)
    (place / "baseline.bin").unlink()
    with pytest.raises(Problem, match=r"cannot be read: baseline.bin"):
        publish.verify(place)
    moved = place.rename(place.with_name("other"))
    assert published(work) == (place, student)
    (moved / "baseline.bin").write_bytes(BASELINE)
    with pytest.raises(Problem, match=f"other holds the student {student.id}"):
        publish.verify(moved)


def test_a_blocked_student_stays_blocked(tmp_path: Path) -> None:
    work = run(tmp_path / "r")
    place, _ = published(work)
    (place / "blocked.json").write_text("{}")
    (place / "baseline.bin").unlink()
    with pytest.raises(Problem, match="learned from rows that were erased since"):
        published(work)
    assert publish.students(work.students) == []


def test_nothing_chosen(tmp_path: Path) -> None:
    work = run(tmp_path / "r", who="Q4_0", form="model")
    with pytest.raises(Problem, match=r"Q4_0\.gguf is not in quantise"):
        published(work)
    (work.of("evaluate") / "chosen.json").unlink()
    with pytest.raises(Problem, match="no student passed its gates"):
        published(work)
