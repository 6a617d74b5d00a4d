"""What a task is, and what the parts that run it say to each other: its rows, its students, their guesses.

Values and protocols, no I/O. A task is the route `task/NAME`: a teacher answers it until a student of our own has
earned its place. Stores implement `TaskStore`, the studio makes students, the gateway serves them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from msgspec import Raw, Struct, structs

Kind = Literal["label", "extract", "text"]
"""What an answer is: one of a fixed list, JSON of a schema, or any text."""
State = Literal["off", "capturing", "training", "shadow", "live", "paused"]
"""`off`: the teacher answers, nothing is kept. `capturing`: its answers become rows. `training`: so they do, and a run
of the studio is under way. `shadow`: the student answers too, in silence. `live`: the student answers where it is
sure. `paused`: as `off`, by a person's order or by the audit's."""
Terms = Literal["allowed", "forbidden", "unknown"]
"""What the teacher's terms say of training from its answers."""
PREFIX = "task/"
if TYPE_CHECKING:
    Json = Raw | None
else:
    Json = Any  # msgspec decodes no Raw that may be missing; `_compact` makes it one


class Scorer(Struct, frozen=True, kw_only=True):
    """When two answers count as the same. `fields` compares JSON field by field, `pattern` what a regular expression
    finds, `embedding` by cosine of `model`'s vectors from `least` on, `judge` asks `model`."""

    by: Literal["exact", "fields", "pattern", "schema", "embedding", "judge", "f1"] = "exact"
    pattern: str = ""
    model: str = ""
    least: float = 1.0


class Task(Struct, frozen=True, kw_only=True):
    """A task as it stands. `teacher` is any model's name behind the gateway; `labels` and `schema` belong to the kinds.

    Among the answers that the student gives, disagreement with the teacher is at most `alpha`, with confidence
    1 - `delta`. Captured are the calls of `keys` alone, with the consent text that a person gave; `override` is the
    written word of whoever trains although the teacher's terms forbid it. Shares are of requests, 0 to 1.
    """

    name: str
    teacher: str
    kind: Kind
    state: State = "off"
    scorer: Scorer = Scorer()
    labels: tuple[str, ...] = ()
    schema: Json = None
    alpha: float = 0.05
    delta: float = 0.1
    keys: tuple[str, ...] = ()
    consent: str = ""
    terms: Terms = "unknown"
    override: str = ""
    sample: float = 1.0
    retention_days: int = 30
    audit_share: float = 0.05
    offline: Literal["refuse", "degraded"] = "refuse"
    """What is answered while the teacher is out of reach and the student unsure."""
    student: str | None = None
    """Id of the bundle in place; `before` are those it replaced, newest first."""
    before: tuple[str, ...] = ()
    why: str = ""
    """Why it is in its state, for people: "demoted: 9 of 41 audited answers differ"."""
    revision: int = 0
    made_at: float = 0.0

    def __post_init__(self) -> None:
        _compact(self, "schema")


class Row(Struct, frozen=True, kw_only=True):
    """One captured (or imported) call: what was asked, and what the teacher said. Redacted before it was stored.

    `messages` is a JSON array in OpenAI's form; `logprobs` is OpenAI's `choices[0].logprobs`, where the teacher gave
    it. `feedback` is -1 to 1 as somebody judged the answer, `correction` the right one. `group` and `subject` name what
    belongs together (a conversation, a person); rows of one group never stand on both sides of a split.
    """

    id: str
    task: str
    at: float
    key: str
    messages: Raw
    answer: str
    teacher: str
    source: Literal["capture", "import", "label"] = "capture"
    consent: str = ""
    terms: Terms = "unknown"
    logprobs: Json = None
    group: str = ""
    subject: str = ""
    redacted: int = 0
    feedback: float | None = None
    correction: str | None = None
    gold: str | None = None
    """A human's answer, where an import has one: never learned from, only scored against."""

    def __post_init__(self) -> None:
        _compact(self, "logprobs")


class Guess(Struct, frozen=True, kw_only=True):
    """What a student would answer, and how sure it is: the recalibrated probability that the teacher agrees."""

    answer: str
    confidence: float
    scores: Mapping[str, float] = {}
    """Of a label task: each label's probability."""
    ms: float = 0.0
    tokens: tuple[int, int] = (0, 0)
    """Of the prompt and of the answer, as far as a model was run."""


class Threshold(Struct, frozen=True, kw_only=True):
    """From which confidence on the student answers: chosen on `items` held-out ones, with `bound` the upper bound at
    confidence 1 - `delta` on the share of disagreement there, and `coverage` the share it would have answered. 2 is a
    threshold that nothing passes: no student of this task is sure enough."""

    confidence: float
    alpha: float
    delta: float
    items: int
    coverage: float
    bound: float
    method: str


class File(Struct, frozen=True):
    """A file of a bundle: its path in it, its size and SHA-256."""

    path: str
    bytes: int
    sha256: str


class Student(Struct, frozen=True, kw_only=True):
    """The manifest of a bundle: everything that is needed to serve it, and where it comes from. `id` is the hash over
    all the rest: a bundle that differs anywhere is another one."""

    id: str = ""
    task: str
    kind: Kind
    form: Literal["baseline", "model", "ensemble"]
    labels: tuple[str, ...] = ()
    schema: Json = None
    files: tuple[File, ...] = ()
    base: str = ""
    """Name of the weights below the adapter, as `lilliput pull` knows them; empty where the bundle has its own."""
    base_sha256: str = ""
    frame: Frame
    calibration: tuple[float, float] = (1.0, 0.0)
    """Slope and intercept of the logit of the raw confidence (Platt)."""
    threshold: Threshold
    max_text_tokens: int = 192
    max_answer_tokens: int = 128
    """How much of a text it reads, from the beginning, and how much it writes at most: as it was trained."""
    scores: Mapping[str, float] = {}
    run: str = ""
    data_sha256: str = ""
    rows: int = 0
    keys: tuple[str, ...] = ()
    """Whose rows it learned from: erasing one of them blocks the student until it is trained anew."""
    subjects_sha256: tuple[str, ...] = ()
    made_at: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        _compact(self, "schema")


class Frame(Struct, frozen=True, kw_only=True):
    """What all requests of a task have in common, and what is left of one when that is taken away: the student reads
    the rest alone. A request that does not fit the frame is the teacher's.

    `system_sha256` is the hash of the system text ("" where there is none); `head` and `tail` are what every last user
    message begins and ends with. Only requests of one user message (after the system's) fit.
    """

    system_sha256: str = ""
    head: str = ""
    tail: str = ""


class Audited(Struct, frozen=True, kw_only=True):
    """One answer of the student that was held against the teacher's."""

    id: str
    task: str
    student: str
    at: float
    mode: Literal["shadow", "audit", "deferred"]
    confidence: float
    agrees: bool
    served: bool
    student_ms: float = 0.0
    teacher_ms: float = 0.0


def _compact(of: Struct, name: str) -> None:
    """Have the field's JSON as Raw, spelt in one way whether it was given or decoded."""
    value = getattr(of, name)
    if value is not None:
        plain = msgspec.json.decode(value) if isinstance(value, Raw) else value
        structs.force_setattr(of, name, Raw(msgspec.json.encode(plain)))


def identity(student: Student) -> str:
    """The id of a manifest: the SHA-256 of its JSON without the id, keys in order; the first 16 hex digits."""
    return hashlib.sha256(msgspec.json.encode(structs.replace(student, id=""), order="deterministic")).hexdigest()[:16]


def served_by(task: str, student: str) -> str:
    """What stands in the ledger and the metrics, in a deployment's place, for answers of this student."""
    return f"lilliput/{task}@{student[:8]}"


class TaskStore(Protocol):
    """Every method raises `Problem("server", ...)` with status 503 when the database cannot answer."""

    async def put(self, task: Task) -> Task:
        """Store it with its revision raised by one; Problem (409) when the revision stored is another than its own."""

    async def task(self, name: str) -> Task | None: ...

    async def tasks(self) -> list[Task]: ...

    async def drop(self, name: str) -> bool:
        """Forget a task and all of its rows and audits."""

    async def add(self, rows: Sequence[Row]) -> int:
        """Keep rows (messages once by content hash); how many were new."""

    async def row(self, id: str) -> Row | None: ...

    async def rows(self, task: str, *, since: float | None = None, limit: int = 0, offset: int = 0) -> list[Row]:
        """Oldest first; 0 is no limit."""

    async def count(self, task: str) -> int: ...

    async def judge(self, row: str, feedback: float | None, correction: str | None) -> bool:
        """Attach feedback to a row; False where there is none of this id."""

    async def erase(self, *, key: str | None = None, subject: str | None = None) -> dict[str, int]:
        """Forget all rows of a key or subject in every task, and messages that nothing uses any more: rows erased by
        task. Durable on return, and gone from the file's free pages (secure_delete)."""

    async def expire(self, now: float) -> int:
        """Forget rows past their task's retention, but no imported ones; how many."""

    async def note(self, audits: Sequence[Audited]) -> None: ...

    async def audits(self, task: str, student: str | None = None, *, limit: int = 0) -> list[Audited]:
        """Oldest first; the newest `limit` of them where it is not 0."""
