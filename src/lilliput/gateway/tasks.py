"""Tasks as the gateway runs them: `task/NAME` is its teacher until a student answers in its place.

Kept here is a copy of the store's tasks, read anew each second; what comes of requests afterwards (rows, comparisons,
audits) is done beside them, never in a caller's way. One request is `task_turn`'s, the test that demotes is
`task_audit`'s.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec

from lilliput.catalogue.rows import Model
from lilliput.catalogue.strict import nearest
from lilliput.gateway.chat import Ask, Chat
from lilliput.gateway.exchange import Operation, Visit
from lilliput.gateway.gates import Gate
from lilliput.gateway.metrics import add
from lilliput.gateway.observe import Record
from lilliput.gateway.task_audit import Auditor, asked, same
from lilliput.gateway.task_students import Bundles, Students
from lilliput.gateway.task_turn import MOST_KEPT, Turn
from lilliput.loop import lifecycle
from lilliput.neutral import Key, Problem
from lilliput.router.routes import meant
from lilliput.tasks import PREFIX, Audited, Guess, Task, TaskStore

POLL_S = 1.0
"""How old the copy of the tasks may be."""
SOONEST_S = 0.1
"""A name that is not known has the tasks read anew, but no oftener than this."""
MOST_JOBS = 256
"""Answers that wait to be kept or compared; further ones are dropped, and counted."""
AT_ONCE = 8
SHADOW_S = 10.0
"""What a student may take where nobody waits for it."""
CLOSE_S = 5.0
TRIES = 5

log = logging.getLogger("lilliput")


class Tasks:
    """`exchange.Tasks`. `deadline_s` is what a live student may take before its teacher is asked; at most `most`
    students hold a model in memory."""

    def __init__(
        self,
        gate: Gate,
        store: TaskStore,
        bundles: Bundles,
        *,
        aliases: Mapping[str, str] | None = None,
        deadline_s: float = 2.0,
        most: int = 4,
        clock: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._gate, self._store, self._bundles = gate, store, bundles
        self._aliases = {a: n for a in aliases or {} if (n := meant(a, {}, aliases or {})).startswith(PREFIX)}
        self._deadline_s, self._clock, self._dice = deadline_s, clock, dice
        self.students, self.auditor = Students(bundles, most), Auditor(store)
        self._known: dict[str, Task] = {}
        self._read_at = -POLL_S
        self._changes, self._seen = 1, 0
        self._stir = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._learning, self._asking = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(AT_ONCE)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._tend()
        self._watching = asyncio.create_task(self._watch(), name="tasks")

    async def close(self) -> None:
        """Ends what runs; what is under way may end by itself for a little."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=CLOSE_S)
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await self.auditor.flush()
        await self.students.close()

    def changed(self, name: str) -> None:
        """A task is not as it was: it is read before the next request to it."""
        self._changes += 1
        self._stir.set()

    def has(self, model: str) -> bool:
        return model.startswith(PREFIX) or model in self._aliases

    async def models(self) -> list[Model]:
        """The tasks as models, for listings."""
        if self._is_stale:
            await self._refresh()
        return [self._shown(task) for task in self._known.values()]

    async def model(self, key: Key, name: str) -> Model:
        """Raises Problem (403, 404)."""
        task = await self._named(name)
        may_call(self._gate, key, name, PREFIX + task.name)
        return self._shown(task)

    async def open(self, gate: Gate, visit: Visit, op: Operation, ask: Any, record: Record) -> Turn:
        task = await self._named(ask.model)
        name = PREFIX + task.name
        may_call(gate, visit.key, ask.model, name)
        if not isinstance(ask, Ask):
            say = f"{name!r} answers chats alone; for {op.name} ask another model"
            raise Problem("client", say, code="task_operation", param="model")
        turn = Turn(visit, op, task, self.students, self._deadline_s, self._ended)
        record.model, ask.model, turn.ask = name, task.teacher, ask
        record.task = b"%b; by=teacher; why=%b" % (name.encode(), task.state.encode())
        captures = task.state in lifecycle.CAPTURES and visit.key.id in task.keys and bool(task.consent.strip())
        fits = isinstance(op, Chat) and len(visit.body) <= MOST_KEPT
        turn.is_captured = fits and captures and self._dice() < task.sample
        turn.is_kept = turn.is_captured or (fits and task.state in lifecycle.SERVES)
        return turn

    # -- the copy ------------------------------------------------------------------------------------------------

    async def _named(self, model: str) -> Task:
        """The task of a name or alias; raises Problem (404) with the nearest name."""
        name = self._aliases.get(model, model).removeprefix(PREFIX)
        if self._is_stale or (name not in self._known and time.monotonic() - self._read_at > SOONEST_S):
            await self._refresh()
        task = self._known.get(name)
        if task is None:
            near = nearest(name, list(self._known), 1)
            hint = f"; the nearest is {PREFIX + near[0]!r}" if near else "; make it with `lilliput task create`"
            say = f"there is no task {PREFIX + name[:80]!r}{hint}"
            raise Problem("missing", say, code="model_not_found", param="model")
        return task

    @property
    def _is_stale(self) -> bool:
        """Whether something changed that the copy may not have."""
        return self._seen != self._changes

    async def _refresh(self) -> None:
        """The copy as the store has it; of many that wait one reads."""
        for _ in range(2):  # one that began before the change does not count
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
            await asyncio.shield(self._reading)
            if not self._is_stale:
                return

    async def _read(self) -> None:
        changes = self._changes
        try:
            tasks = await self._store.tasks()
        except (Problem, msgspec.MsgspecError) as fault:
            log.warning("tasks stand as they were read before: %s", fault)
            return
        finally:
            self._seen = changes
        self._read_at = time.monotonic()
        self._known = {t.name: self._demoted(t) if self.auditor.is_broken(t) else t for t in tasks}
        self.auditor.keep(tasks)
        wants = [t for t in self._known.values() if t.state in lifecycle.SERVES]
        self.students.want({t.name: t.student for t in wants if t.student is not None})

    async def _watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._stir.wait()
            except TimeoutError:
                pass
            self._stir.clear()
            await self._tend()

    async def _tend(self) -> None:
        """All that is done each second."""
        await self._refresh()
        await self.auditor.flush()
        for task in list(self._known.values()):
            if task.student is not None and (task.state == "live" or self.auditor.is_broken(task)):
                await self._look(task)

    # -- afterwards ----------------------------------------------------------------------------------------------

    def _ended(self, turn: Turn, record: Record) -> None:
        """A request is over: what is to come of it is begun."""
        task, book = turn.task, self._gate.meter.book
        if record.problem is not None or record.left_early or not isinstance(turn.op, Chat):
            return
        add(book.tasks, (task.name, "student" if turn.is_served else "teacher", turn.why))
        if turn.is_served:
            assert turn.slot is not None
            if turn.is_sure and self._dice() < task.audit_share * turn.slot.factor:
                self._begin(task, self._asking, lambda: self._audit(turn, record))
        elif turn.is_captured or turn.guess is not None or task.state == "shadow":
            self._begin(task, self._learning, lambda: self._learn(turn, record))

    def _begin(self, task: Task, among: asyncio.Semaphore, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if len(self._jobs) >= MOST_JOBS:
            self._count(task, "dropped")
            return

        async def run() -> None:
            async with among:
                try:
                    await job()
                except Problem as problem:
                    self._count(task, "dropped")
                    log.warning("task %s: what came of an answer is lost: %s", task.name, problem.say)

        running = asyncio.create_task(run(), name=f"task {task.name}")
        self._jobs.add(running)
        running.add_done_callback(self._done)

    def _done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (fault := job.exception()) is not None:
            log.error("%s failed", job.get_name(), exc_info=fault)

    async def _learn(self, turn: Turn, record: Record) -> None:
        """Keeps what the teacher answered, and holds the student's guess against it."""
        task, teacher_ms = turn.task, (record.ended_at - record.began_at) * 1e3
        answer = await asyncio.to_thread(turn.told, record)
        if answer is None:
            return
        if turn.is_captured:
            row = await asyncio.to_thread(turn.row, record, answer)
            now = await self._still(task)
            if row is not None and now is not None and row.key in now.keys:
                await self._store.add([row])
                self._count(task, "row")
        if turn.guess is not None:
            await self._compare(turn, turn.guess, "deferred", answer, record, teacher_ms - turn.guess.ms)
        elif task.state == "shadow":
            await self._shadow(turn, answer, record, teacher_ms)

    async def _still(self, task: Task) -> Task | None:
        """The task as it stands now: a key that was forgotten meanwhile is not kept again."""
        if self._is_stale:
            await self._refresh()
        return self._known.get(task.name)

    async def _shadow(self, turn: Turn, answer: str, record: Record, teacher_ms: float) -> None:
        turn.slot = slot = self.students.slot(turn.task.name, turn.task.student)
        text = None if slot is None or slot.is_busy else turn.fit(slot)
        if slot is None or text is None:
            return
        guess = await turn.guessed(slot, text, SHADOW_S)
        if guess is not None:
            slot.see(text, guess.confidence >= slot.student.threshold.confidence)
            await self._compare(turn, guess, "shadow", answer, record, teacher_ms)

    async def _audit(self, turn: Turn, record: Record) -> None:
        """Asks the teacher too, on the task's own account."""
        began = time.perf_counter()
        answer = await asked(self._gate, turn.task.name, turn.asks(turn.task.teacher))
        if answer is None or turn.guess is None:
            self._count(turn.task, "unaudited")
            return
        await self._compare(turn, turn.guess, "audit", answer, record, (time.perf_counter() - began) * 1e3)
        await self._look(turn.task)

    async def _compare(
        self, turn: Turn, guess: Guess, mode: Any, answer: str, record: Record, teacher_ms: float
    ) -> None:
        assert turn.slot is not None
        agrees = await same(self._gate, turn.task, turn.answer, answer)
        if agrees is None:
            self._count(turn.task, "unjudged")
            return
        self._count(turn.task, f"{mode} {'agrees' if agrees else 'differs'}")
        await self.auditor.note(
            Audited(
                id=record.request_id.decode(),
                task=turn.task.name,
                student=turn.slot.student.id,
                at=record.began_at,
                mode=mode,
                confidence=guess.confidence,
                agrees=agrees,
                served=mode == "audit",
                student_ms=guess.ms,
                teacher_ms=max(0.0, teacher_ms),
            )
        )

    async def _look(self, task: Task) -> None:
        """Demotes the student whose bound is broken, here at once and in the store for all."""
        try:
            if await self.auditor.look(task):
                await self._demote(task)
        except Problem as problem:
            log.warning("task %s: its audits cannot be read: %s", task.name, problem.say)

    def _demoted(self, task: Task) -> Task:
        return lifecycle.move(task, "shadow", f"demoted: {self.auditor.why(task)}") if task.state == "live" else task

    async def _demote(self, broken: Task) -> None:
        name = broken.name
        for _ in range(TRIES):
            task = await self._store.task(name)
            if task is None or task.state != "live" or task.student != broken.student:
                return
            task = self._known[name] = self._demoted(task)
            try:
                self._known[name] = await self._store.put(task)
            except Problem as problem:
                if problem.code != "task_changed":
                    raise
                continue
            self._count(task, "demotion")
            log.warning("task %s: student %s is %s", name, task.student, task.why)
            return

    def _count(self, task: Task, event: str) -> None:
        add(self._gate.meter.book.task_events, (task.name, event))

    def _shown(self, task: Task) -> Model:
        title = f"{task.name}: {task.teacher}, and what it taught" if task.student else f"{task.name}: {task.teacher}"
        return Model(id=PREFIX + task.name, title=title, maker="task")


def may_call(gate: Gate, key: Key, asked: str, name: str) -> None:
    """Raises Problem (403) where neither the task nor the alias that was asked for is in the key's scope; the teacher
    need not be."""
    if key.models and not (gate.allows(key, name) or gate.allows(key, asked)):
        say = f"this key may not call {name!r}; it may call {', '.join(key.models)}"
        raise Problem("permission", say, code="model_not_allowed", param="model")
