"""The desk of a home's tasks, made from what is opened there: for the command line, and for a worker of the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

from lilliput.catalogue.find import Catalogue
from lilliput.catalogue.rows import Price
from lilliput.cli.forgetting import Report, forget, key_id
from lilliput.config import Config, Home
from lilliput.gateway.task_desk import Desk
from lilliput.neutral import Problem
from lilliput.store.erasing import blocked
from lilliput.store.open import Opened, open_store, store_url
from lilliput.tasks import Student, TaskStore

EXPIRE_S = 3600.0
log = logging.getLogger("lilliput")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def desk(
    opened: Opened,
    place: Home,
    config: Config,
    env: Mapping[str, str],
    catalogue: Catalogue,
    clock: Callable[[], float] = time.time,
) -> Desk:
    async def erase(key: str | None, subject: str | None) -> Report:
        report = await forget(opened, place, config, env, key, subject, clock())
        for name in report.tasks:
            made.changed(name)
        return report

    made = Desk(
        store=opened.tasks,
        student=partial(servable, place.students),
        forget=erase,
        key=partial(key_id, opened),
        clock=clock,
        ledger=opened.ledger if config.ledger.on else None,
        price=partial(_price, catalogue),
    )
    return made


@contextlib.asynccontextmanager
async def expiring(store: TaskStore, clock: Callable[[], float] = time.time) -> AsyncIterator[None]:
    """While it is open, rows past their task's retention are forgotten, at once and then hour by hour."""

    async def sweep() -> None:
        while True:
            try:
                await store.expire(clock())
            except Problem as problem:
                log.warning("rows past their retention are still kept: %s", problem.say)
            await asyncio.sleep(EXPIRE_S)

    sweeping = asyncio.create_task(sweep())
    try:
        yield
    finally:
        sweeping.cancel()
        await asyncio.wait({sweeping})


@contextlib.asynccontextmanager
async def home_desk(env: Mapping[str, str]) -> AsyncIterator[Desk]:
    """The desk of this home, whether or not the gateway runs."""
    from lilliput.cli import here

    place, config = here.settings(env, None)
    opened = await open_store(store_url(env, config.store.url), place.database)
    try:
        yield desk(opened, place, config, env, here.catalogue(env, place, config))
    finally:
        await opened.close()


def servable(students: Path, id: str) -> Student:
    """The student with this id, its files whole; raises Problem: 404 where there is none, 409 where it is blocked."""
    folder = students / id
    if not _ID.fullmatch(id) or not (folder / "student.json").is_file():
        there = ", ".join(sorted(p.parent.name for p in students.glob("*/student.json"))[:10]) or "none yet"
        say = f"no student {id[:80]!r} is published here; there are: {there}"
        raise Problem("missing", say, code="student_not_found", param="student")
    mark = blocked(folder)
    if mark is not None:
        raise Problem("client", f"student {id!r} is blocked: {mark.why}", 409, code="student_blocked", param="student")
    from lilliput.studio.publish import verify

    student: Student = verify(folder)
    return student


def _price(catalogue: Catalogue, teacher: str) -> Price | None:
    """What the teacher costs, whose name may be bare; None for a route, whose calls differ."""
    try:
        return catalogue.price(catalogue.target(teacher).id)
    except Problem:
        return None
