"""What people order about a task, by the command line or over HTTP: made, moved on, judged, reckoned up.

Which moves there are is `loop.lifecycle`'s to say; who may order is `task_routes`'s.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from lilliput.catalogue.rows import Price
from lilliput.gateway.task_savings import Savings, savings
from lilliput.loop import lifecycle
from lilliput.loop.declare import Declared, declared
from lilliput.loop.redact import Redactor
from lilliput.money import Ledger
from lilliput.neutral import Problem
from lilliput.tasks import Row, Student, Task, TaskStore, Terms

TRIES = 5
"""How often a change is made again that another got ahead of."""
MOST_CORRECTION = 65_536
IMPORTED = "import"
"""The key of rows that came from a file, unless it says another."""


class Given(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row as somebody brings it."""

    messages: Raw
    answer: str
    group: str = ""
    subject: str = ""
    at: float | None = None


class Desk(Struct, kw_only=True):
    """The tasks of one gateway. `student` finds a bundle that may be served, `forget` erases a key's or a subject's
    traces everywhere, `key` is the id of a key by its id or name; `changed` hears the name of each task that is not as
    it was."""

    store: TaskStore
    student: Callable[[str], Student]
    forget: Callable[[str | None, str | None], Awaitable[Any]]
    key: Callable[[str], Awaitable[str]]
    clock: Callable[[], float]
    ledger: Ledger | None = None
    price: Callable[[str], Price | None] = lambda id: None
    changed: Callable[[str], object] = lambda name: None

    async def create(self, asked: Declared) -> Task:
        task = await self.store.put(declared(asked, self.clock()))
        self.changed(task.name)
        return task

    async def named(self, name: str) -> Task:
        """Raises Problem (404) for a task that there is not."""
        task = await self.store.task(name)
        if task is None:
            say = f"task {name[:80]!r} is not known; list them with `lilliput task list` or GET /v1/tasks"
            raise Problem("missing", say, code="task_not_found")
        return task

    async def change(self, name: str, step: Callable[[Task], Task]) -> Task:
        """The task after this step, which is taken anew where somebody else was quicker; raises what the step does."""
        for _ in range(TRIES - 1):
            try:
                return await self._change(name, step)
            except Problem as problem:
                if problem.code != "task_changed":
                    raise
        return await self._change(name, step)

    async def _change(self, name: str, step: Callable[[Task], Task]) -> Task:
        old = await self.named(name)
        new = step(old)
        if new != old:
            new = await self.store.put(new)
            self.changed(name)
        return new

    async def drop(self, name: str) -> None:
        if not await self.store.drop(name):
            await self.named(name)
        self.changed(name)

    async def capture(
        self, name: str, key: str | None, consent: str | None, terms: Terms | None, override: str | None
    ) -> Task:
        id = None if key is None else await self.key(key)
        return await self.change(name, lambda t: lifecycle.capture(t, id, consent, terms, override))

    async def promote(self, name: str, id: str, *, live: bool = False) -> Task:
        """Puts a student in place; raises Problem (400, 404, 409) for one of another task, or that is blocked."""
        task = await self.named(name)
        student = self.student(id)
        if (student.task, student.kind) != (task.name, task.kind):
            say = f"student {id!r} was made for task {student.task!r} ({student.kind}), not for {name!r} ({task.kind})"
            raise Problem("client", say, code="student_mismatch", param="student")
        return await self.change(name, lambda t: lifecycle.promote(t, id, live=live))

    async def rollback(self, name: str) -> Task:
        """The student before this one, past those that are blocked or gone."""

        def step(task: Task) -> Task:
            while True:
                task = lifecycle.rollback(task)
                try:
                    if task.student is not None:
                        self.student(task.student)
                    return task
                except Problem:
                    continue

        return await self.change(name, step)

    async def feedback(
        self, name: str, row: str, score: float | None, correction: str | None, key: str | None = None
    ) -> Row:
        """Attaches what somebody thinks of an answer, by its row or its request id; `key` may judge its own alone.
        Raises Problem (400, 404)."""
        task = await self.named(name)
        if score is not None and not (math.isfinite(score) and -1 <= score <= 1):
            raise _bad("score", f"score is {score!r}; send -1 (wrong) to 1 (right)")
        if score is None and correction is None:
            raise _bad("score", "say something of the answer: a score from -1 to 1, a correction, or both")
        if correction is not None:
            _may_correct(task, correction)
        found = await self.store.row(row)
        if found is None or found.task != name or (key is not None and found.key != key):
            say = (
                f"row {row[:80]!r} is not known to task {name!r}; it is the request id (`x-request-id`) of an answer "
                "that was captured"
            )
            raise Problem("missing", say, code="row_not_found", param="row")
        hidden = None if correction is None else Redactor().redact(correction)[0]
        score = found.feedback if score is None else score
        hidden = found.correction if hidden is None else hidden
        await self.store.judge(row, score, hidden)
        return structs.replace(found, feedback=score, correction=hidden)

    async def bring(
        self, name: str, given: Sequence[Given], consent: str, terms: Terms | None, teacher: str = ""
    ) -> tuple[int, int]:
        """Adds rows from elsewhere; how many were new, of how many. Raises Problem (400)."""
        task = await self.named(name)
        now = self.clock()
        rows = [
            Row(
                id="",
                task=name,
                at=now if g.at is None else g.at,
                key=IMPORTED,
                messages=g.messages,
                answer=g.answer,
                teacher=teacher or task.teacher,
                source="import",
                consent=consent,
                terms=terms or task.terms,
                group=g.group,
                subject=g.subject,
            )
            for g in given
        ]
        return await self.keep(name, rows)

    async def keep(self, name: str, rows: Iterable[Row]) -> tuple[int, int]:
        """Adds imported rows, redacted first; raises Problem (400) for those without consent or messages."""
        kept = []
        for number, row in enumerate(rows):
            if not row.consent.strip():
                raise _bad("consent", "rows come with the consent text of the people concerned: say by which these do")
            try:
                kept.append(_redacted(row))
            except Problem as problem:
                raise _bad(f"rows.{number}.messages", f"row {number}: {problem.say}") from None
        return await self.store.add(kept), len(kept)

    async def savings(self, name: str) -> Savings:
        task = await self.named(name)
        audits = await self.store.audits(name)
        return await savings(task, self.ledger, audits, self.price(task.teacher), self.clock())


def _redacted(row: Row) -> Row:
    redactor = Redactor()
    messages, one = redactor.redact_messages(row.messages)
    answer, two = redactor.redact(row.answer)
    whole = (row.task, messages, answer, row.group, row.subject)
    id = row.id or "imp_" + hashlib.sha256(msgspec.json.encode(whole)).hexdigest()[:24]
    return structs.replace(row, id=id, messages=messages, answer=answer, redacted=one + two)


def _may_correct(task: Task, correction: str) -> None:
    """Raises Problem (400) for a correction that the task's student could never give."""
    if len(correction) > MOST_CORRECTION or "\0" in correction:
        raise _bad("correction", f"the correction is over {MOST_CORRECTION} characters, or has a null character")
    if task.kind == "label" and correction not in task.labels:
        say = f"correction {correction[:80]!r} is no label of {task.name!r}; its labels are {', '.join(task.labels)}"
        raise _bad("correction", say)
    if task.kind == "extract":
        try:
            is_object = isinstance(msgspec.json.decode(correction), dict)
        except msgspec.DecodeError:
            is_object = False
        if not is_object:
            raise _bad("correction", "the correction is no JSON object; send the whole answer as it should have been")


def _bad(field: str, say: str) -> Problem:
    return Problem("client", say, code="invalid_value", param=field)
