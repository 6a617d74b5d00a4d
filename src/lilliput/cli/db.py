"""`lilliput db`: bring the database to this version, copy it, check it; which database is for `store.open` to say.

What is particular to SQLite is here; Postgres has its own tools, which are called or named.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lilliput import config as configuration
from lilliput.cli.checks import Finding
from lilliput.cli.output import one_line, show_json
from lilliput.neutral import Problem
from lilliput.store import faults, migrate, sqlite
from lilliput.store.open import no_driver, open_store, sqlite_path, store_url

if TYPE_CHECKING:
    from lilliput.store.postgres_pool import Pool

_UPGRADE = "lilliput db upgrade"
_PAGES = 1024
"""Pages of SQLite that are copied at once; writers go on between."""
_OLDEST = 150_000

CONDITION = """
SELECT current_setting('server_version'), current_setting('server_version_num')::integer,
  current_setting('fsync')::boolean AND current_setting('full_page_writes')::boolean,
  pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean
"""


def upgrade(env: Mapping[str, str], as_json: bool) -> None:
    """Apply what is missing, each file as it is done; nothing when the database is new enough."""
    url, path = _which(env)

    def tell(name: str) -> None:
        print(f"applied {name}", file=sys.stderr)

    async def run() -> list[str]:
        if path is not None:
            applied = _missing(path)
            store = sqlite.SqliteStore(path)
            await store.close()
            for name in applied:
                tell(name)
            return applied
        async with _pool(url) as pool:
            from lilliput.store.postgres_migrate import upgrade

            return await upgrade(pool, tell=tell)

    applied = asyncio.run(run())
    if as_json:
        show_json({"applied": applied}, sys.stdout)
    else:
        print(f"{len(applied)} migrations applied" if applied else "the database is at the newest version")


def backup(env: Mapping[str, str], file: Path, as_json: bool) -> None:
    """Copy the database, as it is at one moment, while it is used; the file is its owner's alone and must not be there.

    The pepper is not in it, and keys are worth nothing without: keep both.
    """
    url, path = _which(env)
    _make(file)
    with ExitStack() as undo:
        undo.callback(file.unlink)
        if path is not None:
            _copy(path, file)
        else:
            asyncio.run(_dump(url, file))
        undo.pop_all()
    pepper = configuration.home(env).pepper_file
    if as_json:
        show_json({"file": str(file), "bytes": file.stat().st_size, "pepper": str(pepper)}, sys.stdout)
    else:
        print(f"{file}: {file.stat().st_size} bytes; keep {pepper} with it, no key works without")


def check(env: Mapping[str, str], as_json: bool) -> int:
    """Print what was found; 1 when the database is not sound."""
    url, path = _which(env)
    findings = asyncio.run(_findings(url, path, configuration.home(env).database))
    failed = any(f.state == "fail" for f in findings)
    if as_json:
        show_json({"ok": not failed, "findings": findings}, sys.stdout)
        return int(failed)
    for f in findings:
        print(f"{f.state:<5} {f.check:<11} {one_line(f.say)}")
        if f.fix:
            print(f"{'':<17} -> {one_line(f.fix)}")
    return int(failed)


def _which(env: Mapping[str, str]) -> tuple[str, Path | None]:
    """The URL in force, and the file when it names SQLite."""
    url = store_url(env)
    return url, sqlite_path(url, configuration.home(env).database)


@asynccontextmanager
async def _pool(url: str) -> AsyncIterator[Pool]:
    try:
        from lilliput.store.postgres_pool import Pool
    except ImportError as e:
        raise no_driver(e) from None
    pool = Pool(url)
    try:
        yield pool
    finally:
        await pool.close()


# -- check -------------------------------------------------------------------------------------------------------------


async def _findings(url: str, path: Path | None, database: Path) -> list[Finding]:
    """Nothing is changed: a database that needs an upgrade is not read further."""
    try:
        found = _sqlite(path) if path is not None else await _postgres(url)
        if any(f.state == "fail" for f in found):
            return found
        opened = await open_store(url, database)
        try:
            wrong = await opened.ledger.check()
        finally:
            await opened.close()
    except Problem as problem:
        return [Finding("database", "fail", problem.say)]
    return [
        *found,
        *([Finding("ledger", "fail", say) for say in wrong] or [Finding("ledger", "ok", "every sum is right")]),
    ]


def _sqlite(path: Path) -> list[Finding]:
    if not path.is_file():
        return [Finding("database", "fail", f"{path} is not there", f"make it: {_UPGRADE}")]
    missing = _missing(path)
    with _reading(path) as db:
        wrong = [str(say) for (say,) in db.execute("PRAGMA integrity_check(20)") if say != "ok"]
        wrong += [
            f"a row of {row[0]} names a {row[2]} that is not there" for row in db.execute("PRAGMA foreign_key_check")
        ]
    return [
        Finding("database", "ok", str(path)),
        _migrations(missing),
        *[Finding("integrity", "fail", say, "restore it from a backup") for say in wrong[:20]],
        *([] if wrong else [Finding("integrity", "ok", "every page and index is right")]),
    ]


async def _postgres(url: str) -> list[Finding]:
    async with _pool(url) as pool:
        from lilliput.store.postgres_migrate import missing

        async with pool.borrow() as db:
            ((version, number, is_durable, is_read_only),) = await (await db.execute(CONDITION)).fetchall()
        found = [Finding("database", "ok", f"{pool.where}, Postgres {version}")]
        if number < _OLDEST:
            found.append(Finding("version", "fail", f"Postgres {version} is older than 15", "upgrade the server"))
        if not is_durable:
            say = "fsync or full_page_writes is off: what was answered can be lost in a crash"
            found.append(Finding("durability", "fail", say, "turn them on in postgresql.conf"))
        if is_read_only:
            found.append(Finding("primary", "fail", "it is read-only, perhaps a standby", "name the primary"))
        return [*found, _migrations(await missing(pool))]


def _migrations(missing: list[str]) -> Finding:
    if missing:
        return Finding("migrations", "fail", f"not applied: {', '.join(missing)}", _UPGRADE)
    return Finding("migrations", "ok", "all applied, none changed")


def _missing(path: Path) -> list[str]:
    """The migrations that the file lacks; whether those it has are ours is seen when it is opened."""
    names = [step.name for step in migrate.steps(sqlite.SCHEMA)]
    if not path.is_file():
        return names
    with _reading(path) as db:
        (begun,) = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'schema_version'").fetchone()
        return names[db.execute("SELECT count(*) FROM schema_version").fetchone()[0] :] if begun else names


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            yield db
    except sqlite3.Error as e:
        raise faults.problem(e, path) from None


# -- backup ------------------------------------------------------------------------------------------------------------


def _make(file: Path) -> None:
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise Problem("client", f"{file} is there already: name a file that is not", code="usage") from None
    except OSError as e:
        raise faults.no_access(e, file) from None


def _copy(path: Path, file: Path) -> None:
    """SQLite's own online backup: one state of the database, whoever writes meanwhile."""
    if not path.is_file():
        raise Problem("missing", f"there is no database at {path} to copy")
    with _reading(path) as db, closing(sqlite3.connect(file, isolation_level=None)) as copy:
        db.backup(copy, pages=_PAGES, progress=_progress)
        copy.execute("PRAGMA journal_mode = DELETE")


def _progress(status: int, remaining: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\rcopied {total - remaining} of {total} pages", end="\n" if not remaining else "", file=sys.stderr)


async def _dump(url: str, file: Path) -> None:
    """pg_dump's custom format, which pg_restore reads; the password goes by the environment, unseen by others."""
    async with _pool(url) as pool:
        public, password = pool.public, pool.password
        async with pool.borrow():
            pass  # it is there: what fails below is pg_dump's
    command = ["pg_dump", "--format=custom", f"--file={file}", f"--dbname={public}"]
    if shutil.which(command[0]) is None:
        raise Problem("missing", f"pg_dump is not installed here; run this where it is: {shlex.join(command)}")
    env = {**os.environ, **({"PGPASSWORD": password} if password else {})}
    done = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise Problem("server", f"pg_dump failed ({one_line(done.stderr)[:300]}): it must be as new as the server")
