"""The stage `publish`: the student that `evaluate` chose, as a bundle that the gateway serves.

A bundle is a directory named by its id, the hash of its manifest, which holds the hash of each file: it is put in
place whole, never changed, and the same student is the same bundle again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import structs

from lilliput.local.student import BASELINE, MANIFEST, opened
from lilliput.neutral import Problem
from lilliput.studio.collect import digest
from lilliput.studio.evaluate import Chosen
from lilliput.studio.parts import SPLITS, Facts, Tell, Work, atomically
from lilliput.studio.quantise import BESIDE, LORA, file_of
from lilliput.tasks import File, Student, identity

BLOCKED = "blocked.json"
"""Beside a manifest, once a person was forgotten whose rows the student had learned from."""
REFERENCE = "reference.json"
WEIGHTS = "model.gguf"


def publish(work: Work, out: Path, tell: Tell) -> Facts:
    """Facts: the bundle's id (`student`), `path`, `bytes` and `form`. Raises Problem where no student was chosen."""
    path = work.of("evaluate") / "chosen.json"
    if not path.is_file():
        say = "no student passed its gates, so none is published; the report says what would pass"
        raise Problem("client", say, code="nothing_chosen")
    chosen = msgspec.json.decode(path.read_bytes(), type=Chosen)
    tell(0.0, f"publishing {chosen.who}")
    sources = _sources(work, chosen)
    student = manifest(work, chosen, [_file(name, source) for name, source in sorted(sources.items())])
    place = work.students / student.id
    if place.exists() and not (place / BLOCKED).exists() and _found(place) is None:
        shutil.rmtree(place)

    def write(new: Path) -> None:
        for name, source in sources.items():
            shutil.copyfile(source, new / name)
        (new / MANIFEST).write_bytes(msgspec.json.encode(student, order="deterministic"))

    if not place.exists():
        atomically(place, write)
    verify(place)
    (out / "student.json").write_bytes(msgspec.json.encode(student, order="deterministic"))
    return {
        "student": student.id,
        "path": str(place),
        "form": student.form,
        "bytes": sum(f.bytes for f in student.files),
    }


def manifest(work: Work, chosen: Chosen, files: Iterable[File]) -> Student:
    """All that a bundle says of itself. `made_at` is the time of the newest row it was made of, so that the same rows
    make the same bundle whenever they do."""
    task, recipe = work.task, work.recipe
    splits = {split: work.examples(split) for split in SPLITS}
    rows = [e for part in splits.values() for e in part]
    beside = BESIDE in (chosen.who, chosen.of)
    student = Student(
        task=task.name,
        kind=task.kind,
        form=chosen.form,
        labels=task.labels,
        schema=task.schema,
        files=tuple(files),
        base=recipe.base if beside else "",
        base_sha256=_sha256(work.weights) if beside and work.weights is not None else "",
        frame=work.frame(),
        calibration=chosen.calibration,
        threshold=chosen.threshold,
        max_text_tokens=recipe.max_text_tokens,
        max_answer_tokens=recipe.max_answer_tokens,
        scores=chosen.scores,
        run=work.root.name,
        data_sha256=digest(splits),
        rows=len(rows),
        keys=tuple(sorted({e.key for e in rows} - {""})),
        subjects_sha256=tuple(sorted({hashlib.sha256(e.subject.encode()).hexdigest() for e in rows if e.subject})),
        made_at=max((e.at for e in rows), default=0.0),
        seed=recipe.seed,
    )
    return structs.replace(student, id=identity(student))


def verify(path: Path) -> Student:
    """The manifest of a bundle whose every file is the one that was published; Problem (503) names what differs."""
    if (path / BLOCKED).exists():
        say = f"the student {path.name} learned from rows that were erased since; train it anew (see {BLOCKED})"
        raise Problem("server", say, code="student_blocked")
    student = opened(path)
    if path.name != student.id:
        raise Problem("server", f"the bundle {path.name} holds the student {student.id}", code="student_broken")
    return student


def students(folder: Path) -> list[Student]:
    """Those whose bundles lie in `folder`, whole and free to be served, by id."""
    places = sorted(p.parent for p in folder.glob(f"*/{MANIFEST}"))
    return [s for s in map(_found, places) if s is not None]


def _found(place: Path) -> Student | None:
    try:
        return verify(place)
    except Problem:
        return None


def _sources(work: Work, chosen: Chosen) -> dict[str, Path]:
    """Name in the bundle -> where it lies now."""
    files = {REFERENCE: work.of("evaluate") / REFERENCE}
    if chosen.form != "model":
        files[BASELINE] = work.of("baseline") / BASELINE
    if chosen.form != "baseline":
        name = chosen.of if chosen.form == "ensemble" else chosen.who
        files[LORA if name == BESIDE else WEIGHTS] = work.of("quantise") / file_of(name)
    if missing := [path for path in files.values() if not path.is_file()]:
        say = f"{missing[0].name} is not in {missing[0].parent.name}: run that stage again, then publish"
        raise Problem("client", say, code="missing_output")
    return files


def _file(name: str, path: Path) -> File:
    return File(name, path.stat().st_size, _sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
