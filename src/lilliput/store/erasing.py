"""Files that hold what somebody wants forgotten: the rows of runs, and the students that learned from them.

What is in a database is erased by its own store.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from lilliput.neutral import Problem
from lilliput.tasks import Student

BLOCKED = "blocked.json"
"""Beside a student's manifest: it may not be served, and why."""


class Cleaned(Struct, frozen=True, kw_only=True):
    """A file of a run that lost lines; `path` is relative to the folder of runs."""

    path: str
    lines: int
    sha256_before: str
    sha256_after: str


class Blocked(Struct, frozen=True, kw_only=True):
    """Why a student may not be served, as `blocked.json` says it."""

    student: str
    task: str
    why: str
    at: float


class _Line(Struct):
    """What a line of a run says of whom it is; lines of other shapes are nobody's."""

    id: Any = ""
    key: Any = ""
    subject: Any = ""


def clean(runs: Path, key: str | None, subject: str | None) -> list[Cleaned]:
    """Takes a key's or subject's lines out of every `*.jsonl` of every run, and what other files have under their ids.

    A run that lost lines has its stages' manifests removed: none of it counts as finished, so that what was made of
    those lines is made anew before it is used. Raises Problem (503) for a file that cannot be read or written.
    """
    done: list[Cleaned] = []
    try:
        for run in sorted(p for p in runs.glob("*") if p.is_dir()):
            files = sorted(run.rglob("*.jsonl"))
            ids = {str(line.id) for path in files for line in _lines(path) if _is_of(line, key, subject)} - {""}
            found = [_without(path, ids, key, subject, runs) for path in files]
            touched = [c for c in found if c is not None]
            if touched:
                for manifest in run.glob("*/manifest.json"):
                    manifest.unlink()
            done += touched
    except OSError as e:
        raise Problem("server", f"{e.filename} cannot be cleaned: {e.strerror}; mend that and call again") from None
    return done


def block(
    students: Path, key: str | None, subject: str | None, why: str, now: float
) -> tuple[list[Blocked], list[str]]:
    """Marks the students that learned from a key's or subject's rows as not to be served; those, and the folders whose
    manifest cannot be read, of which nobody knows."""
    blocked, unread = [], []
    digest = hashlib.sha256((subject or "").encode()).hexdigest()
    for path in sorted(students.glob("*/student.json")):
        try:
            student = msgspec.json.decode(path.read_bytes(), type=Student)
        except (msgspec.DecodeError, OSError):
            unread.append(path.parent.name)
            continue
        if key in student.keys if key is not None else digest in student.subjects_sha256:
            one = Blocked(student=path.parent.name, task=student.task, why=why, at=now)
            _write(path.with_name(BLOCKED), msgspec.json.encode(one) + b"\n")
            blocked.append(one)
    return blocked, unread


def blocked(folder: Path) -> Blocked | None:
    """Why the student in this folder may not be served; None when it may. A mark that cannot be read is a mark."""
    path = folder / BLOCKED
    try:
        return msgspec.json.decode(path.read_bytes(), type=Blocked)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as e:
        return Blocked(student=folder.name, task="", why=f"{BLOCKED} cannot be read ({e})", at=0.0)


def _is_of(line: _Line, key: str | None, subject: str | None) -> bool:
    return bool(line.key == key if key is not None else line.subject == subject)


def _lines(path: Path) -> Iterator[_Line]:
    with path.open("rb") as file:
        for line in file:
            yield _read(line)


def _read(line: bytes) -> _Line:
    try:
        return msgspec.json.decode(line, type=_Line)
    except msgspec.DecodeError:
        return _Line()


def _without(path: Path, ids: set[str], key: str | None, subject: str | None, runs: Path) -> Cleaned | None:
    """The file without some of its lines; None when it had none of them, and then it is not touched."""
    before, kept, lines = path.read_bytes(), [], 0
    for line in before.splitlines(keepends=True):
        read = _read(line)
        if str(read.id) in ids or _is_of(read, key, subject):
            lines += 1
        else:
            kept.append(line)
    if not lines:
        return None
    after = b"".join(kept)
    _write(path, after)
    return Cleaned(
        path=str(path.relative_to(runs)),
        lines=lines,
        sha256_before=hashlib.sha256(before).hexdigest(),
        sha256_after=hashlib.sha256(after).hexdigest(),
    )


def _write(path: Path, data: bytes) -> None:
    """The file anew, whole or not at all, and on the disk."""
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
