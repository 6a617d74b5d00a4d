"""A published student, served: its bundle opened and checked, its guesses calibrated.

A bundle is a directory: `student.json` (`tasks.Student`) and the files it names: `baseline.bin`, and one GGUF, which
is the model itself, or an adapter where the manifest names a base.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec
from msgspec import structs

from lilliput.local import weights as places
from lilliput.local.engine import COMMAND
from lilliput.local.model import Model
from lilliput.local.settings import Adapter
from lilliput.loop import confidence, linear
from lilliput.loop.form import form
from lilliput.neutral import Problem
from lilliput.tasks import File, Guess, Student, identity

MANIFEST = "student.json"
BASELINE = "baseline.bin"
MAX_MANIFEST_BYTES = 16 << 20


def opened(bundle: Path) -> Student:
    """The manifest of a bundle, once its files are found whole; raises Problem (503, `student_broken`)."""
    try:
        if (bundle / MANIFEST).stat().st_size > MAX_MANIFEST_BYTES:
            raise _broken(bundle, f"has a manifest of more than {MAX_MANIFEST_BYTES >> 20} MiB")
        student = msgspec.json.decode((bundle / MANIFEST).read_bytes(), type=Student)
        if student.id != identity(student):
            raise _broken(bundle, f"calls itself {student.id!r} and is {identity(student)!r}: its manifest was changed")
        for file in student.files:
            _check(bundle, file)
    except OSError as e:
        raise _broken(bundle, f"cannot be read: {Path(e.filename or MANIFEST).name}: {e.strerror or e}") from None
    except msgspec.DecodeError as e:
        raise _broken(bundle, f"has a manifest that cannot be read: {e}") from None
    return student


def _check(bundle: Path, file: File) -> None:
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts or "\\" in file.path:
        raise _broken(bundle, f"names the file {file.path!r} outside of itself")
    with (bundle / path).open("rb") as held:
        size = held.seek(0, 2)
        held.seek(0)
        if size != file.bytes or hashlib.file_digest(held, "sha256").hexdigest() != file.sha256:
            raise _broken(bundle, f"holds another {file.path} than its manifest says")


class Runner:
    """The student of the bundle, not yet started. Belongs to one event loop.

    `weights` is the base's GGUF, or the directory where `lilliput pull` puts weights; of use to bundles with an
    adapter alone. Several may run side by side: start the new one, then stop the old one.
    """

    def __init__(
        self,
        bundle: Path,
        weights: Path | None = None,
        *,
        threads: int = 0,
        parallel: int = 4,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._bundle, self._weights = bundle, weights
        self._threads, self._parallel, self._command = threads, parallel, command
        self._student: Student | None = None
        self._linear: linear.Linear | None = None
        self._model: Model | None = None

    @property
    def student(self) -> Student:
        """What the bundle says of itself; raises Problem (503) before it is started."""
        if self._student is None:
            raise Problem("server", f"the student {self._bundle.name} was not started", code="student_stopped")
        return self._student

    async def start(self) -> None:
        """Check the bundle and warm it up; raises Problem, and leaves nothing running, when it cannot serve."""
        student = await asyncio.to_thread(opened, self._bundle)
        if student.form != "model":
            self._linear = await asyncio.to_thread(linear.load, self._bundle / BASELINE)
        if student.form != "baseline":
            self._model = self._made(student)
            try:
                await self._model.start()
            except (Problem, asyncio.CancelledError):
                await self._model.stop()
                raise
        self._student = student

    async def stop(self) -> None:
        """End it. Guesses under way fail with a Problem; no later one is answered."""
        self._student = None
        if self._model is not None:
            await self._model.stop()

    async def guess(self, text: str) -> Guess:
        """What the student answers to the text, and the probability that its teacher agrees.

        Raises Problem (503, `engine_unavailable`) at once while its engine is down, which is then started again.
        """
        found = await self.read(text)
        if not found.answer:
            return found
        return structs.replace(found, confidence=confidence.calibrated(found.confidence, self.student.calibration))

    async def read(self, text: str) -> Guess:
        """As `guess`, with the confidence as the student itself has it, before calibration."""
        student, model = self.student, self._model
        if model is None:
            assert self._linear is not None
            began = time.perf_counter()
            return _told(self._linear.scores(text), (time.perf_counter() - began) * 1e3)
        model.refuse_dead()
        found = await model.read(text)
        if self._linear is None:
            return found
        other = self._linear.scores(text)
        scores = {label: (found.scores[label] + other.get(label, 0.0)) / 2 for label in student.labels}
        return structs.replace(_told(scores, found.ms), tokens=found.tokens)

    def _made(self, student: Student) -> Model:
        own = [f for f in student.files if f.path.endswith(".gguf")]
        if len(own) != 1:
            raise _broken(self._bundle, f"holds {len(own)} GGUF files where one belongs")
        path, sha256 = self._bundle / own[0].path, own[0].sha256
        adapters: tuple[Adapter, ...] = ()
        if student.base:
            adapters = (Adapter(str(path), sha256),)
            path, sha256 = self._base(student.base), student.base_sha256
        return Model(
            path,
            form(student.kind, student.labels, student.schema),
            alias=f"{student.task} {student.id}",
            sha256=sha256 or None,
            adapters=adapters,
            text_tokens=student.max_text_tokens,
            answer_tokens=student.max_answer_tokens,
            threads=self._threads,
            parallel=self._parallel,
            command=self._command,
        )

    def _base(self, name: str) -> Path:
        given = self._weights
        found = given if given is None or given.is_file() else places.find(name, given)
        if found is None:
            say = (
                f"the student {self._bundle.name} needs the weights of {name!r}; fetch them with `lilliput pull {name}`"
            )
            raise Problem("server", say, code="weights_missing")
        return found


def _told(scores: dict[str, float], ms: float) -> Guess:
    answer = max(scores, key=scores.__getitem__)
    return Guess(answer=answer, confidence=scores[answer], scores=scores, ms=ms)


def _broken(bundle: Path, why: str) -> Problem:
    return Problem("server", f"the student {bundle.name} {why}; publish it again", code="student_broken")
