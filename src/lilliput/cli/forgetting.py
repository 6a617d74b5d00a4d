"""Erasing all that is kept of a key or of a subject, wherever it is kept, and the account of what was erased.

What was sent to providers, their own records, and backups of the database are out of reach, and the account says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from msgspec import Struct

from lilliput.cli.replaying import places
from lilliput.config import Config, Home
from lilliput.loop import lifecycle
from lilliput.neutral import Problem
from lilliput.store import erasing
from lilliput.store.keys import chosen
from lilliput.store.open import Opened
from lilliput.tasks import Task

PAGE = 500
KEPT = (
    "what was sent to providers, and what they keep",
    "backups and archived logs of the database",
    "the ledger's and the audits' figures, which hold no text",
)


class Report(Struct, frozen=True, kw_only=True):
    """What was erased, in counts and hashes; nothing of its content."""

    of: str
    sha256: str
    """Of the key's id, or of the subject."""
    at: float
    rows: dict[str, int] = {}
    """Captured and imported rows, by task."""
    rows_sha256: str = ""
    """Of their ids, in order, a line each."""
    responses: int = 0
    cached: int = 0
    idempotent: int = 0
    files: list[erasing.Cleaned] = []
    students: list[erasing.Blocked] = []
    """Not to be served until they are trained anew."""
    unread: list[str] = []
    """Students whose manifest cannot be read, so that nobody knows: delete them."""
    tasks: dict[str, str] = {}
    """Tasks that changed for it, and the state that they are in now."""
    not_erased: tuple[str, ...] = KEPT


async def key_id(opened: Opened, who: str) -> str:
    """The id of the key with this id or name; raises Problem (404, 409)."""
    return chosen(await opened.store.keys(), who).id


async def forget(
    opened: Opened,
    place: Home,
    config: Config,
    env: Mapping[str, str],
    key: str | None,
    subject: str | None,
    now: float,
) -> Report:
    """Erase it, durably on return; calling it again erases what came since. Raises Problem (400, 503).

    The students are blocked first, the database's rows erased last: whatever fails on the way, no student that learned
    from them is served, and the next call does the rest. A subject has no cache of its own: those of the keys that its
    rows came by are emptied.
    """
    if (key is None) == (subject is None) or "" in (key, subject):
        raise Problem("client", "name a key or a subject to forget, one of the two", code="usage")
    if key is not None:
        try:
            key = await key_id(opened, key)
        except Problem as problem:
            if problem.fault != "missing":  # rows may have another's name for a key: "import", or one of another home
                raise
    of, digest = ("key", _sha256(key)) if key is not None else ("subject", _sha256(subject or ""))
    why = f"rows of {of} sha256:{digest[:16]} that it learned from were erased: train it anew"
    students, unread = erasing.block(place.students, key, subject, why, now)
    tasks = await _withdraw(opened, key, frozenset(s.student for s in students), why)
    ids, keys = await _found(opened, key, subject)
    files = erasing.clean(place.runs, key, subject)
    cached = idempotent = responses = 0
    teams = {k.id: k.team for k in await opened.store.keys()}
    async with places(config, env, opened) as (answers, claims):
        tenants = {f"key:{k}" for k in keys} | {f"team:{teams[k]}" for k in keys if teams.get(k)}
        for tenant in sorted(tenants):
            cached += await answers.clear(tenant)
        if key is not None:
            idempotent = await claims.forget(key)
            responses = await opened.responses.forget(key)
    return Report(
        of=of,
        sha256=digest,
        at=now,
        rows=await opened.tasks.erase(key=key, subject=subject),
        rows_sha256=_sha256("".join(f"{id}\n" for id in sorted(ids))),
        responses=responses,
        cached=cached,
        idempotent=idempotent,
        files=files,
        students=students,
        unread=unread,
        tasks=tasks,
    )


async def _withdraw(opened: Opened, key: str | None, students: frozenset[str], why: str) -> dict[str, str]:
    """Takes the key and the students out of every task that has them; those tasks with their states."""
    changed: dict[str, str] = {}
    for task in await opened.tasks.tasks():
        new: Task | None = lifecycle.withdraw(task, why, key=key, students=students)
        while new is not None and new != task:
            try:
                changed[task.name] = (await opened.tasks.put(new)).state
                break
            except Problem as problem:
                if problem.code != "task_changed":
                    raise
            again = await opened.tasks.task(task.name)
            task = task if again is None else again
            new = None if again is None else lifecycle.withdraw(again, why, key=key, students=students)
    return changed


async def _found(opened: Opened, key: str | None, subject: str | None) -> tuple[list[str], set[str]]:
    """The ids of the rows that are to go, and the keys that they came by."""
    ids, keys = [], set() if key is None else {key}
    for task in await opened.tasks.tasks():
        offset = 0
        while rows := await opened.tasks.rows(task.name, limit=PAGE, offset=offset):
            offset += len(rows)
            for row in rows:
                if row.key == key if key is not None else row.subject == subject:
                    ids.append(row.id)
                    keys.add(row.key)
    return ids, keys


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
