"""Runs the stages of a run in order. What each of them does is its own; here is when it is done, and that it is whole.

A stage writes into `STAGE.part/`; finished, its manifest is put beside its files and the directory gets its name. A
stage whose manifest has the same inputs, and whose files are as they were, is not run again: a run that was killed,
or whose disk was full, goes on where it stopped and comes to the same hashes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct, structs

import lilliput
from lilliput.neutral import Problem
from lilliput.studio.parts import Facts, Prediction, Stage, Work, read

MANIFEST, BEGUN, LOCK, ROWS = "manifest.json", ".inputs", ".lock", "rows.jsonl"
PREDICT = "predict"
"""The directory that stages share for what they predict; such files belong to the stage that wrote them."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KIND = ("name", "kind", "labels", "schema")


class Step(Struct, frozen=True, kw_only=True):
    """A stage by name and function (`module:function`, of the studio where no package is named), and all that its
    result depends on."""

    name: str
    run: str
    after: tuple[str, ...] = ()
    """Stages whose files it reads, as far as they ran."""
    recipe: tuple[str, ...] = ()
    task: tuple[str, ...] = KIND
    libraries: tuple[str, ...] = ()
    reads_weights: bool = False
    passes_on: tuple[str, ...] = ()
    """Those of its files that later stages depend on, where others tell times; all, if none is named."""


TRAINING = ("torch", "transformers", "safetensors")
LENGTHS = ("max_text_tokens", "max_answer_tokens")
LEARNING = ("method", "loss", "steps", "batch", "rate", "layers", "rank", "teacher", "text_instead", "seed", *LENGTHS)
STEPS = (
    Step(name="collect", run="collect:collect", recipe=("shares", "by_time", "seed"), task=(*KIND, "override")),
    Step(name="label", run="label:label", after=("collect",), task=(*KIND, "teacher")),
    Step(
        name="baseline", run="baseline:baseline", after=("collect", "label"), recipe=("seed",),
        libraries=("scikit-learn", "numpy"),
    ),
    Step(
        name="base", run="zeroshot:zeroshot", after=("collect", "label"), recipe=("base", *LENGTHS),
        libraries=("xllamacpp",), reads_weights=True,
    ),
    Step(
        name="distil", run="distil:distil", after=("collect", "label"), recipe=("base", *LEARNING),
        libraries=(*TRAINING, "peft"), reads_weights=True,
    ),
    Step(
        name="prune", run="prune:prune", after=("collect", "label", "distil"),
        recipe=("base", "keep_layers", *LEARNING), libraries=TRAINING, reads_weights=True,
    ),
    Step(
        name="quantise", run="quantise:quantise", after=("collect", "label", "distil", "prune"),
        recipe=("base", "forms", *LENGTHS), libraries=("gguf", "xllamacpp"), reads_weights=True,
    ),
    Step(
        name="evaluate", run="evaluate:evaluate", after=("collect", "label", "baseline", "base", "distil", "quantise"),
        recipe=("seed",), task=(*KIND, "alpha", "delta", "scorer"), passes_on=("chosen.json", "reference.json"),
    ),
    Step(
        name="publish", run="publish:publish", after=("collect", "label", "baseline", "quantise", "evaluate"),
        recipe=("base", "seed", *LENGTHS),
    ),
)  # fmt: skip


class Manifest(Struct, frozen=True, kw_only=True):
    """`manifest.json` of a finished stage. `inputs` has the hash of what it came from, by stage (and `rows`, `recipe`,
    `task`, `versions`, `weights`); `outputs` that of each file, in its directory or under `predict/`."""

    stage: str
    inputs: Mapping[str, str]
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    seed: int
    seconds: float
    facts: Mapping[str, Any]
    outputs: Mapping[str, str]
    content_sha256: str
    """Over those of `outputs` that later stages depend on."""


class Hear(Protocol):
    """How far a stage is; `facts` comes once, when it is done. `skipped` is one that was done before."""

    def __call__(
        self,
        stage: str,
        done: float,
        say: str,
        figures: Mapping[str, float],
        facts: Facts | None = None,
        skipped: bool = False,
    ) -> None: ...


class Outcome(Struct, frozen=True, kw_only=True):
    """How a run ended: with a student, or at a gate that none passes (`why` says what would)."""

    student: str = ""
    chosen: str = ""
    passes: bool = False
    why: str = ""
    manifests: Mapping[str, Manifest] = {}


def steps(work: Work) -> list[Step]:
    """Those that this run has: no pruning where all layers are kept, and no model where none is to be trained."""
    without = set() if work.recipe.keep_layers else {"prune"}
    if work.recipe.method == "none":
        without |= {"base", "distil", "prune", "quantise"}
    return [step for step in STEPS if step.name not in without]


def run(work: Work, hear: Hear, only: Sequence[Step] | None = None) -> Outcome:
    """Run what is not done. Raises what stages raise; Problem (409) where another process is at this run, and
    (`disk_full`) where the disk is; the run can go on after all of them, and after Ctrl-C."""
    done: dict[str, Manifest] = {}
    with _alone(work.root):
        for step in only or steps(work):
            found = _finished(work, step, done)
            if found is not None:
                hear(step.name, 1.0, "done before", {}, found.facts, True)
            else:
                found = _run(work, step, done, hear)
            done[step.name] = found
            if step.name == "evaluate" and not found.facts["passes"]:
                return Outcome(why=str(found.facts["why"]), manifests=done)
    told = done["evaluate"].facts if "evaluate" in done else {}
    student = str(done["publish"].facts.get("student", "")) if "publish" in done else ""
    return Outcome(
        student=student, chosen=told.get("chosen", ""), passes=bool(student), why=told.get("why", ""), manifests=done
    )


def manifest(folder: Path) -> Manifest | None:
    """Of a stage's directory; None where it is not finished."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with (root / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say = f"the run {root.name} is under way in another process: wait for it, or end that one"
            raise Problem("client", say, 409, code="run_busy") from None
        yield


def _finished(work: Work, step: Step, done: Mapping[str, Manifest]) -> Manifest | None:
    found = manifest(work.of(step.name))
    if found is None or found.inputs != _inputs(work, step, done):
        return None
    at = partial(_place, work, work.of(step.name))
    whole = all(at(name).is_file() and _sha256(at(name)) == sha256 for name, sha256 in found.outputs.items())
    if step.name == "publish":  # what it made lies elsewhere
        whole = whole and (work.students / str(found.facts.get("student", "")) / "student.json").is_file()
    return found if whole else None


def _run(work: Work, step: Step, done: Mapping[str, Manifest], hear: Hear) -> Manifest:
    inputs = _inputs(work, step, done)
    part, place = work.root / f"{step.name}.part", work.of(step.name)
    mark = _hash(inputs)
    try:
        if not (part / BEGUN).is_file() or (part / BEGUN).read_text() != mark:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            (part / BEGUN).write_text(mark)
        shutil.rmtree(place, ignore_errors=True)
        before, began = _predicted(work), time.monotonic()
        hear(step.name, 0.0, "begins", {})

        def tell(done: float, say: str, **figures: float) -> None:
            hear(step.name, done, say, figures)

        facts = _stage(step)(work, part, tell)
        (part / BEGUN).unlink()
        wrote = [p for p, state in _predicted(work).items() if before.get(p) != state]
        paths = [*(p for p in sorted(part.rglob("*")) if p.is_file()), *sorted(wrote)]
        outputs = {_name(work, part, p): _sha256(p) for p in paths}
        found = Manifest(
            stage=step.name,
            inputs=inputs,
            recipe={name: getattr(work.recipe, name) for name in step.recipe},
            versions=_versions(step),
            seed=work.recipe.seed,
            seconds=round(time.monotonic() - began, 2),
            facts=dict(facts),
            outputs=outputs,
            content_sha256=_hash({k: v for k, v in outputs.items() if k in step.passes_on or not step.passes_on}),
        )
        with (part / MANIFEST).open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(found, order="deterministic"), indent=1))
            file.flush()
            os.fsync(file.fileno())
        part.rename(place)
    except OSError as e:
        if e.errno not in FULL:
            raise
        say = f"the disk is full at the stage {step.name} of {work.root}: free some space and give the same command"
        raise Problem("server", f"{say}; it goes on there", code="disk_full") from e
    hear(step.name, 1.0, "done", {"seconds": found.seconds}, found.facts)
    return found


def _stage(step: Step) -> Stage:
    module, _, name = step.run.partition(":")
    stage: Stage = getattr(import_module(module if "." in module else f"lilliput.studio.{module}"), name)
    return stage


def _inputs(work: Work, step: Step, done: Mapping[str, Manifest]) -> dict[str, str]:
    """The hash of each thing that the stage's result depends on."""
    found = {name: done[name].content_sha256 for name in step.after if name in done}
    found["recipe"] = _hash({name: getattr(work.recipe, name) for name in step.recipe})
    found["task"] = _hash({name: getattr(work.task, name) for name in step.task})
    found["versions"] = _hash(_versions(step))
    if step.name == "collect" and (work.root / ROWS).is_file():
        found["rows"] = _sha256(work.root / ROWS)
    if step.reads_weights and work.weights is not None:
        found["weights"] = _weights(str(work.weights), work.weights.stat().st_size)
    return found


_known: dict[tuple[str, int], str] = {}


def _weights(path: str, size: int) -> str:
    """Hashed once a process, where it is a file; a folder counts by its name."""
    if (path, size) not in _known:
        place = Path(path)
        _known[path, size] = _sha256(place) if place.is_file() else _hash(path)
    return _known[path, size]


def _versions(step: Step) -> dict[str, str]:
    return {"lilliput": lilliput.__version__, **{name: metadata.version(name) for name in step.libraries}}


def _predicted(work: Work) -> dict[Path, tuple[int, int]]:
    found = {p: p.stat() for p in work.of(PREDICT).glob("*") if p.is_file()}
    return {p: (stat.st_mtime_ns, stat.st_size) for p, stat in found.items()}


def _name(work: Work, part: Path, path: Path) -> str:
    return str(path.relative_to(part if path.is_relative_to(part) else work.root))


def _place(work: Work, folder: Path, name: str) -> Path:
    return work.root / name if name.startswith(f"{PREDICT}/") else folder / name


def _sha256(path: Path) -> str:
    """Of predictions without their times, which no two runs share."""
    if path.suffix == ".jsonl" and path.parent.name == PREDICT:
        return _hash([structs.replace(p, ms=0.0) for p in read(path, Prediction)])
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
