"""Numbered SQL files, each applied once, in order, in one transaction, with its checksum on record."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from lilliput.neutral import Problem
from lilliput.store import faults

RECORDS = """
CREATE TABLE schema_version (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  checksum TEXT NOT NULL,
  applied_at REAL NOT NULL
)
"""


class Step(Struct, frozen=True):
    """One file: NNNN_name.sql. `checksum` is the SHA-256 of its text, whatever the line ends."""

    version: int
    name: str
    text: str
    checksum: str


def steps(folder: Path) -> list[Step]:
    """The migrations in `folder`, numbered 1, 2, 3 ... without a gap."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        number = int(path.name[:4]) if path.name[:4].isdecimal() and path.name[4:5] == "_" else 0
        found.append(Step(number, path.name, text, hashlib.sha256(text.encode()).hexdigest()))
    if not found or [s.version for s in found] != list(range(1, len(found) + 1)):
        names = [s.name for s in found]
        raise Problem("server", f"{folder} holds {names!r}; migrations are named 0001_x.sql, 0002_y.sql ... each once")
    return found


def upgrade(db: sqlite3.Connection, path: Path, folder: Path, now: float) -> int:
    """Bring the database at `path` to the newest version, and that version; nothing is written when it is there.

    `db` is in autocommit, and the caller keeps other processes from doing the same. Raises Problem when the database
    is not ours, is newer than this code, or was made by other migrations than those in `folder`; and when a migration
    fails, which leaves the version before it.
    """
    known = steps(folder)
    done = _done(db, path, known)
    for step in known[done:]:
        try:
            with _transaction(db):
                _apply(db, step, now)
        except sqlite3.Error as e:
            cause = faults.problem(e, path)
            say = f"migration {step.name} did not go through and left version {step.version - 1}; {cause.say}"
            raise Problem("server", say, code=cause.code) from None
    return len(known)


def _done(db: sqlite3.Connection, path: Path, known: list[Step]) -> int:
    """The version that the database is at; 0 for an empty one."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return 0
    if "schema_version" not in tables:
        say = f"{path} is a database of something else (it has tables, no schema_version): name another file"
        raise Problem("server", say, code="store_foreign")
    rows = list(db.execute("SELECT version, name, checksum FROM schema_version ORDER BY version"))
    if len(rows) > len(known):
        say = f"{path} is at version {len(rows)}, this lilliput knows up to {len(known)}: upgrade lilliput"
        raise Problem("server", say, code="store_newer")
    for step, (version, name, checksum) in zip(known, rows, strict=False):
        if (version, checksum) != (step.version, step.checksum):
            say = (
                f"{path} was made by another text of migration {version} ({name!r}, here {step.name!r}): "
                "install the lilliput that made it, or restore the file; an applied migration is never edited"
            )
            raise Problem("server", say, code="store_changed")
    return len(rows)


def _apply(db: sqlite3.Connection, step: Step, now: float) -> None:
    if step.version == 1:
        db.execute(RECORDS)
    for statement in statements(step.text):
        db.execute(statement)
    db.execute("INSERT INTO schema_version VALUES (?, ?, ?, ?)", (step.version, step.name, step.checksum, now))


def statements(text: str) -> Iterator[str]:
    """The statements of a script, each ending at the end of a line.

    `executescript` is no choice here: it commits what is open before it starts.
    """
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        lines.append(line)
        statement = "".join(lines)
        if sqlite3.complete_statement(statement):
            yield statement
            lines.clear()
    rest = [line for line in lines if line.strip() and not line.lstrip().startswith("--")]
    if rest:
        raise sqlite3.OperationalError("the last statement lacks its semicolon")


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
