"""The numbered files of `schema_postgres`, each applied once, in order, in one transaction, its checksum on record.

Processes that start together take turns; the numbering and the checksums are those of `store.migrate`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg

from lilliput.neutral import Problem
from lilliput.store.migrate import Step, steps
from lilliput.store.postgres_pool import Connection, Pool

SCHEMA = Path(__file__).with_name("schema_postgres")

TAKE_TURNS = "SELECT pg_advisory_xact_lock(1726, hashtext(current_schema()))"
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
RECORDS = """
CREATE TABLE schema_version (
  version integer PRIMARY KEY,
  name text NOT NULL,
  checksum text NOT NULL,
  applied_at double precision NOT NULL
)
"""
APPLIED = "SELECT version, name, checksum FROM schema_version ORDER BY version"
RECORD = "INSERT INTO schema_version VALUES (%s, %s, %s, extract(epoch FROM clock_timestamp()))"


async def upgrade(pool: Pool, folder: Path = SCHEMA, tell: Callable[[str], None] = lambda name: None) -> list[str]:
    """Bring the database to the newest version; the names of the files that were applied, each told when it is in.

    Raises Problem when the database is not ours, is newer than this code, or was made by other files than those in
    `folder`; and when a file fails, which leaves the version before it.
    """
    known, applied = steps(folder), []
    while (step := await _one(pool, known)) is not None:
        applied.append(step.name)
        tell(step.name)
    return applied


async def missing(pool: Pool, folder: Path = SCHEMA) -> list[str]:
    """The files that `upgrade` would apply; raises the same Problems."""
    known = steps(folder)
    async with pool.borrow() as db:
        return [step.name for step in known[await _done(db, pool.where, known) :]]


async def _one(pool: Pool, known: list[Step]) -> Step | None:
    """Apply the next file, alone or not at all; None when there is none."""
    async with pool.borrow(slow=True) as db, db.transaction():
        done = await _done(db, pool.where, known)
        if done == len(known):
            return None
        await db.execute(TAKE_TURNS)
        done = await _done(db, pool.where, known)
        if done == len(known):
            return None
        step = known[done]
        try:
            await _apply(db, step)
        except psycopg.Error as e:
            cause = pool.problem(e)
            say = f"migration {step.name} did not go through and left version {done}; {cause.say}"
            raise Problem("server", say, code=cause.code, retry_after_s=cause.retry_after_s) from None
        return step


async def _apply(db: Connection, step: Step) -> None:
    if step.version == 1:
        await db.execute(RECORDS)
    statement = step.text.encode()
    await db.execute(statement)
    await db.execute(RECORD, (step.version, step.name, step.checksum))


async def _done(db: Connection, where: str, known: list[Step]) -> int:
    """The version that the database is at; 0 for an empty one."""
    tables = {name for (name,) in await (await db.execute(TABLES)).fetchall()}
    if not tables:
        return 0
    if "schema_version" not in tables:
        say = f"{where} is a database of something else (it has tables, no schema_version): name another database"
        raise Problem("server", say, code="store_foreign")
    rows = await (await db.execute(APPLIED)).fetchall()
    if len(rows) > len(known):
        say = f"{where} is at version {len(rows)}, this lilliput knows up to {len(known)}: upgrade lilliput"
        raise Problem("server", say, code="store_newer")
    for step, (version, name, checksum) in zip(known, rows, strict=False):
        if (version, checksum) != (step.version, step.checksum):
            say = (
                f"{where} was made by another text of migration {version} ({name!r}, here {step.name!r}): "
                "install the lilliput that made it, or restore the database; an applied migration is never edited"
            )
            raise Problem("server", say, code="store_changed")
    return len(rows)
