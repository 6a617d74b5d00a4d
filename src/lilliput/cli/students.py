"""The tasks of one worker of the gateway, made from the configuration, and this home's students that serve them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec

from lilliput.config import Config, Home
from lilliput.gateway.gates import Gate
from lilliput.gateway.tasks import Tasks
from lilliput.local.student import Runner
from lilliput.loop.drift import Reference
from lilliput.neutral import Problem
from lilliput.store.erasing import blocked
from lilliput.store.open import Opened

REFERENCE = "reference.json"
"""What requests were like when a student was measured; of the bundles that have one."""


class Bundles:
    """`task_students.Bundles`: the directories of this home."""

    def __init__(self, place: Home, config: Config) -> None:
        self._place, self._config = place, config

    def runner(self, id: str) -> Runner:
        folder = self._place.students / id
        mark = blocked(folder)
        if mark is not None:
            raise Problem("server", f"student {id!r} is blocked: {mark.why}", code="student_blocked")
        return Runner(folder, self._place.weights, threads=self._config.tasks.threads)

    def may_serve(self, id: str) -> bool:
        return blocked(self._place.students / id) is None

    def reference(self, id: str) -> Reference | None:
        try:
            return msgspec.json.decode((self._place.students / id / REFERENCE).read_bytes(), type=Reference)
        except (OSError, msgspec.DecodeError):
            return None


@contextlib.asynccontextmanager
async def tasked(place: Home, config: Config, opened: Opened, gate: Gate) -> AsyncIterator[None]:
    """Has `gate` serve tasks while it is open, as far as the configuration says so."""
    table = config.tasks
    if not table.on:
        yield
        return
    tasks = gate.tasks = Tasks(
        gate,
        opened.tasks,
        Bundles(place, config),
        aliases=config.aliases,
        deadline_s=table.deadline_s,
        most=table.max_students,
    )
    if gate.desk is not None:
        gate.desk.changed = tasks.changed
    try:
        await tasks.start()
        yield
    finally:
        await tasks.close()
