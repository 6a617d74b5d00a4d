"""A student's answers held against its teacher's: compared, noted, and tested until it has to step down.

The test runs over all answers that any process audited, in the order of the store, so that every process comes to the
same verdict and the chance of a false one is `delta` for all of them together.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from operator import mul

import msgspec
from msgspec import Struct

from lilliput.gateway.chat import Chat
from lilliput.gateway.exchange import exchange
from lilliput.gateway.gates import Gate
from lilliput.gateway.inside import Inside
from lilliput.gateway.semantic import embed
from lilliput.loop.audit import Audit
from lilliput.loop.score import agrees
from lilliput.neutral import Key, Problem, fold
from lilliput.tasks import PREFIX, Audited, Task, TaskStore
from lilliput.wire import dialects

NEWEST = 256
"""Audits read at a look; where more came since the last one, all are read."""
MOST_UNNOTED = 10_000
"""Kept while the store cannot take them."""
AUDIT = Chat("audit", "openai_chat")
FRESH = {b"cache-control": b"no-store", b"content-type": b"application/json"}
JUDGE = (
    "Do these two answers to the same question say the same? Reply with yes or no alone.\n\n"
    "First answer:\n{}\n\nSecond answer:\n{}"
)
log = logging.getLogger("lilliput")


class Trail(Struct):
    """The test of one student, and the audit that it has seen last."""

    audit: Audit
    last: str = ""


class Auditor:
    """What is noted of students, and how each one's test stands."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._trails: dict[tuple[str, str | None], Trail] = {}
        self._unnoted: list[Audited] = []
        self._one = asyncio.Lock()

    def is_broken(self, task: Task) -> bool:
        """Whether the student in place has broken its bound, by what was read so far."""
        trail = self._trails.get((task.name, task.student))
        return trail is not None and _is_of(trail, task) and trail.audit.broken

    def why(self, task: Task) -> str:
        return self._trails[task.name, task.student].audit.why()

    async def note(self, audited: Audited) -> None:
        """Keeps it, now or as soon as the store can."""
        self._unnoted.append(audited)
        if len(self._unnoted) > MOST_UNNOTED:
            del self._unnoted[0]
        await self.flush()

    async def flush(self) -> None:
        async with self._one:
            some, self._unnoted = self._unnoted, []
            if not some:
                return
            try:
                await self._store.note(some)
            except Problem as problem:
                self._unnoted = some + self._unnoted
                log.warning("%d audits wait to be noted: %s", len(self._unnoted), problem.say)
            except asyncio.CancelledError:
                self._unnoted = some + self._unnoted
                raise

    async def look(self, task: Task) -> bool:
        """Whether the student in place has broken its bound; raises Problem (503)."""
        async with self._one:
            at = (task.name, task.student)
            trail = self._trails.get(at)
            if trail is None or not _is_of(trail, task):
                trail = Trail(Audit(task.alpha, task.delta))
            found = await self._store.audits(task.name, task.student, limit=NEWEST if trail.last else 0)
            new = _after(found, trail.last)
            if new is None:
                trail = Trail(Audit(task.alpha, task.delta))
                new = await self._store.audits(task.name, task.student)
            for audited in new:
                if audited.mode == "audit" and audited.served:
                    trail.audit.see(audited.agrees)
            if new:
                trail.last = new[-1].id
            self._trails[at] = trail
            return trail.audit.broken

    def keep(self, tasks: Sequence[Task]) -> None:
        """Forgets the tests of students that are in place no more."""
        there = {(task.name, task.student) for task in tasks}
        self._trails = {at: trail for at, trail in self._trails.items() if at in there}


def _is_of(trail: Trail, task: Task) -> bool:
    return (trail.audit.alpha, trail.audit.delta) == (task.alpha, task.delta)


def _after(found: Sequence[Audited], last: str) -> Sequence[Audited] | None:
    """Those after the last one seen; None where it is not among them."""
    if not last:
        return found
    at = next((i for i in range(len(found) - 1, -1, -1) if found[i].id == last), None)
    return None if at is None else found[at + 1 :]


def payer(task: str) -> Key:
    """The account that audits and judges are put on: a task's own, `task/NAME`, so that they take nothing of their
    callers' limits and budgets."""
    return Key(id=PREFIX + task, name=PREFIX + task)


async def asked(gate: Gate, task: str, body: bytes) -> str | None:
    """The text that a model answers to this body, asked through the gateway itself; None when it gives none."""
    visit = Inside(payer(task), body, gate.request_id(), b"/v1/chat/completions", FRESH)
    await exchange(gate, AUDIT, visit)
    return None if visit.status != 200 else said("openai_chat", False, visit.answer)


def said(dialect: str, stream: bool, data: bytes) -> str | None:
    """The text of an answer as a caller got it; None for one that is cut, refused, or more than one text."""
    reader = dialects.provider(dialect).reader(stream)
    try:
        events = [*reader(data), *reader(b"")]
    except Problem:
        return None
    if reader.trouble is not None:
        return None
    choices = fold(events).choices
    if len(choices) != 1:
        return None
    (c,) = choices
    if c.reason != "stop" or c.refusal or c.calls or c.media or not c.text:
        return None
    return c.text


async def same(gate: Gate, task: Task, mine: str, teachers: str) -> bool | None:
    """Whether both answers say the same by the task's scorer; None where the model that is to tell does not."""
    scorer = task.scorer
    value: float | None = 0.0
    if scorer.by == "embedding":
        value = await _cosine(gate, task, mine, teachers)
    elif scorer.by == "judge":
        body = {"model": scorer.model, "messages": [{"role": "user", "content": JUDGE.format(mine, teachers)}]}
        word = await asked(gate, task.name, msgspec.json.encode(body))
        value = None if word is None else float(word.strip().lower().startswith("yes"))
    if value is None:
        return None
    known = value
    return agrees(scorer, mine, teachers, schema=task.schema, ask=lambda a, b: known)


async def _cosine(gate: Gate, task: Task, a: str, b: str) -> float | None:
    x = await embed(gate, payer(task.name), task.scorer.model, a)
    y = await embed(gate, payer(task.name), task.scorer.model, b)
    if x is None or y is None or len(x) != len(y):
        return None
    lengths = math.hypot(*x) * math.hypot(*y)
    return sum(map(mul, x, y)) / lengths if lengths else None
