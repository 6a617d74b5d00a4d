"""The students that run in this process: started beside the one they take over from, and stopped when nobody waits.

Which student a task has is decided elsewhere; what a student is made of is handed in (`Bundles`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from lilliput.loop.drift import Drift, Reference
from lilliput.neutral import Problem
from lilliput.tasks import Guess, Student

RETRY_S = 30.0
"""Before a student that would not start is tried again."""
IDLE_S = 60.0
"""A student that was asked within it is not stopped to make room for another."""
MOST_GUESSES = 64
"""Of one student at a time; further requests are its teacher's."""
FAILURES = (Problem, OSError, EOFError)
"""What a student may raise that dies or is broken."""

log = logging.getLogger("lilliput")


class Runner(Protocol):
    """A student that can be asked: `local.student.Runner`."""

    @property
    def student(self) -> Student: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def guess(self, text: str) -> Guess: ...


class Bundles(Protocol):
    """Where students lie."""

    def runner(self, id: str) -> Runner:
        """Not yet started; raises Problem where there is none, or it may not be served."""
        ...

    def may_serve(self, id: str) -> bool:
        """Whether it has not been blocked."""
        ...

    def reference(self, id: str) -> Reference | None:
        """What requests were like when it was measured, where that is known."""
        ...


class Slot:
    """A student that runs for a task. `factor` is by how much drift raises the share of its answers that is audited."""

    def __init__(self, runner: Runner, reference: Reference | None, now: float) -> None:
        self.runner, self.student, self.used_at = runner, runner.student, now
        self.users, self.is_leaving, self.factor = 0, False, 1.0
        self._drift = None if reference is None else Drift(reference)

    @property
    def is_busy(self) -> bool:
        return self.users >= MOST_GUESSES

    def see(self, text: str, served: bool) -> None:
        """A request that fits the frame was answered, by the student or not."""
        if self._drift is not None:
            self.factor = self._drift.see(text, served)


class Students:
    """At most `most` of those that hold a model in memory; one takes over from another beside it."""

    def __init__(self, bundles: Bundles, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bundles, self._most, self._clock = bundles, most, clock
        self._wanted: Mapping[str, str] = {}
        self._slots: dict[str, Slot] = {}
        self._starts: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[tuple[str, str], float] = {}
        self._ends: set[asyncio.Task[None]] = set()

    def want(self, wanted: Mapping[str, str]) -> None:
        """Which student each task has from now on: those are started, others end."""
        self._wanted = wanted
        self._failed = {at: until for at, until in self._failed.items() if wanted.get(at[0]) == at[1]}
        for name, slot in list(self._slots.items()):
            if name not in wanted or not self._bundles.may_serve(slot.student.id):
                self._leave(name)
        for name in wanted:
            self._begin(name)

    def slot(self, name: str, id: str | None) -> Slot | None:
        """The student of a task, where this very one runs; if not, it may soon."""
        slot = self._slots.get(name)
        if slot is not None and slot.student.id == id:
            return slot
        if self._wanted.get(name) == id:
            self._begin(name, evicts=True)
        return None

    async def guess(self, slot: Slot, text: str, limit_s: float) -> Guess:
        """Raises TimeoutError, and `FAILURES`."""
        slot.users, slot.used_at = slot.users + 1, self._clock()
        try:
            async with asyncio.timeout(limit_s):
                return await slot.runner.guess(text)
        finally:
            slot.users -= 1
            self._end_if_done(slot)

    async def close(self) -> None:
        self._wanted = {}
        starts = list(self._starts.values())
        for task in starts:
            task.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        for name in list(self._slots):
            slot = self._slots[name]
            self._leave(name)
            slot.users = 0
            self._end_if_done(slot)
        await asyncio.gather(*self._ends, return_exceptions=True)

    def _begin(self, name: str, *, evicts: bool = False) -> None:
        """Starts the task's student, unless it runs, is starting, has just failed, or there is no room."""
        id, slot = self._wanted[name], self._slots.get(name)
        if name in self._starts or (slot is not None and slot.student.id == id):
            return
        if self._failed.get((name, id), 0.0) > self._clock():
            return
        if slot is None and not self._has_room(evicts):
            return
        self._starts[name] = asyncio.create_task(self._start(name, id), name=f"start {name} {id}")

    def _has_room(self, evicts: bool) -> bool:
        held = [n for n, s in self._slots.items() if s.student.form != "baseline"]
        if len(held) + len(self._starts) < self._most:
            return True
        idle = [n for n in held if not self._slots[n].users and self._clock() - self._slots[n].used_at > IDLE_S]
        if not evicts or not idle:
            return False
        self._leave(min(idle, key=lambda n: self._slots[n].used_at))
        return True

    async def _start(self, name: str, id: str) -> None:
        runner = None
        try:
            runner = await asyncio.to_thread(self._bundles.runner, id)
            await runner.start()
            if runner.student.id != id or runner.student.task != name:
                found = f"{runner.student.id} of task {runner.student.task!r}"
                raise Problem("server", f"the bundle {id} is {found}", code="student_broken")
            reference = await asyncio.to_thread(self._bundles.reference, id)
            if self._wanted.get(name) != id:
                raise Problem("server", "another student has its place by now")
            self._leave(name)
            self._slots[name], runner = Slot(runner, reference, self._clock()), None
            log.info("task %s: student %s is in place", name, id)
        except FAILURES as e:
            self._failed[name, id] = self._clock() + RETRY_S
            log.warning("task %s: student %s does not start: %s", name, id, e)
        finally:
            if runner is not None:
                await runner.stop()
            del self._starts[name]
            if self._wanted.get(name, id) != id:
                self._begin(name)

    def _leave(self, name: str) -> None:
        """The student gets no more requests, and ends with its last guess."""
        slot = self._slots.pop(name, None)
        if slot is not None:
            slot.is_leaving = True
            self._end_if_done(slot)

    def _end_if_done(self, slot: Slot) -> None:
        if slot.is_leaving and not slot.users:
            slot.is_leaving = False
            task = asyncio.create_task(slot.runner.stop())
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)

    def running(self) -> Iterator[tuple[str, str]]:
        """The tasks and the students that they have here."""
        return ((name, slot.student.id) for name, slot in self._slots.items())
