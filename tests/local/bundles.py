"""Bundles made for the tests: a baseline of two terms, and files that stand for weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from lilliput.loop import linear
from lilliput.tasks import File, Frame, Student, Threshold, identity

LABELS = ("games", "mail")
ALWAYS = Threshold(confidence=0.0, alpha=0.05, delta=0.1, items=1, coverage=1.0, bound=0.0, method="none")
BASELINE = linear.pack(LABELS, ["chess", "post"], [1.0, 1.0], [2.0, -2.0, -2.0, 2.0], [0.0, 0.0])


def bundle(folder: Path, files: Mapping[str, bytes], **fields: Any) -> Path:
    """A bundle that is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    listed = tuple(File(n, len(raw), hashlib.sha256(raw).hexdigest()) for n, raw in files.items())
    given = {"kind": "label", "labels": LABELS, "form": "baseline", **fields}
    student = Student(task="sections", files=listed, frame=Frame(), threshold=ALWAYS, **given)
    student = structs.replace(student, id=identity(student))
    (folder / "student.json").write_bytes(msgspec.json.encode(student))
    return folder
