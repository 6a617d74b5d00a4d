"""Connections to Postgres: made when asked for, kept for the next, dropped when they fail; errors as Problems.

Which statements are run is the business of whoever borrows one.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from lilliput.neutral import Problem

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Cursor = psycopg.AsyncCursor[tuple[Any, ...]]

PAUSE_S = 0.5
"""After a connection could not be made, callers are told so at once for this long, and then one of them tries again."""

SETTINGS = """
SELECT set_config('statement_timeout', %(ms)s, false), set_config('lock_timeout', %(ms)s, false),
       set_config('idle_in_transaction_session_timeout', %(ms)s, false), set_config('synchronous_commit', 'on', false)
"""
SLOW = "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)"

# By SQLSTATE, the longest prefix that fits (https://www.postgresql.org/docs/15/errcodes-appendix.html, checked
# 2026-11-22): a stable word, the fix, and when to try again.
_AWAY = ("store_unreachable", "start it, or check [store] url and the network", 1.0)
_BUSY = ("store_locked", "another transaction holds what is needed: call again", 1.0)
_KNOWN: dict[str, tuple[str, str, float | None]] = {
    "": ("store_failed", "see the database's log", None),
    "08": _AWAY,
    "25006": ("store_unwritable", "it is read-only, perhaps a standby: name the primary in [store] url", None),
    "28": ("store_denied", "it refuses this user: check [store] url, PGPASSWORD or ~/.pgpass, and pg_hba.conf", None),
    "3D": ("store_missing", "that database does not exist: make it with createdb", None),
    "40": _BUSY,
    "42501": ("store_denied", "this user lacks a right that it needs: make it the owner of the tables", None),
    "53": ("store_busy", "it has no memory or connections left: raise max_connections, or lower the workers", 1.0),
    "53100": ("store_full", "its disk is full: make room, then call again", 30.0),
    "55P03": _BUSY,
    "57": _AWAY,
    "57014": _BUSY,
    "58": ("store_io", "reading or writing failed: check its disk and its log", None),
    "XX001": ("store_corrupt", "its data is damaged: restore it from a backup", None),
    "XX002": ("store_corrupt", "an index is damaged: REINDEX it, or restore it from a backup", None),
}


class Pool:
    """Up to `size` connections to the database at `url`. Opened on first use, in the process that uses them.

    A connection takes at most `connect_s` to make, a statement `wait_s`, what it is borrowed for a second more; what
    is slower is a Problem.
    """

    def __init__(self, url: str, *, size: int = 8, connect_s: float = 2.0, wait_s: float = 5.0) -> None:
        given = _read(url)
        self.where = (
            f"postgresql://{given.get('host') or 'localhost'}:{given.get('port') or 5432}/{given.get('dbname') or ''}"
        )
        self._info = make_conninfo(
            **{
                "application_name": "lilliput",
                "connect_timeout": max(2, round(connect_s)),
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": int(2000 * wait_s),
                **given,
            }
        )
        self.password: str | None = given.pop("password", None)
        self.public = make_conninfo(**given)
        """Where it is and who we are, without the password."""
        self.wait_s = wait_s
        self._ms = str(int(wait_s * 1000))
        self._connect_s = connect_s
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(size)
        self._away: tuple[float, Problem] | None = None
        self._open = True

    @asynccontextmanager
    async def borrow(self, *, slow: bool = False) -> AsyncIterator[Connection]:
        """A connection in autocommit; one that is left inside a transaction is closed. `slow` sets no time limits.

        psycopg's errors come out as Problem (server, 503).
        """
        async with self._turn():
            db = await self._kept() or await self.connect()
            # Cancelling would ask the server, which may be what is silent; a closed socket is an error at once.
            alarm = None if slow else asyncio.get_running_loop().call_later(self.wait_s + 1, _hang_up, db)
            try:
                if slow:
                    await db.execute(SLOW)
                yield db
                if slow:
                    await db.execute(SETTINGS, {"ms": self._ms})
            except psycopg.Error as e:
                raise self.problem(e) from None
            finally:
                if alarm is not None:
                    alarm.cancel()
                if db.closed:
                    await self._drop()  # the others were made for the same server
                if self._open and db.pgconn.transaction_status == TransactionStatus.IDLE:
                    self._idle.append(db)
                else:
                    await db.close()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of the `size` places, waited for no longer than for a statement."""
        try:
            await asyncio.wait_for(self._free.acquire(), self.wait_s)
        except TimeoutError as e:
            raise self.problem(e) from None
        try:
            yield
        finally:
            self._free.release()

    async def connect(self) -> Connection:
        """A new connection in autocommit, which the caller closes."""
        if not self._open:
            raise Problem("server", f"the database {self.where} is closed: start lilliput again", code="store_closed")
        if self._away is not None and time.monotonic() < self._away[0]:
            raise self._away[1]
        db: Connection | None = None
        is_set = False
        try:
            async with asyncio.timeout(self._connect_s):
                db = await psycopg.AsyncConnection.connect(self._info, autocommit=True)
                await db.execute(SETTINGS, {"ms": self._ms})
            is_set = True
        except (psycopg.Error, TimeoutError) as e:
            problem = self.problem(e)
            self._away = (time.monotonic() + PAUSE_S, problem)
            raise problem from None
        finally:
            if db is not None and not is_set:
                await db.close()
        self._away = None
        return db

    async def close(self) -> None:
        """Close what is idle now, and the rest as it comes back."""
        self._open = False
        await self._drop()

    def problem(self, error: Exception) -> Problem:
        """The Problem (server, 503) for an error met while using this database; its text holds no bound value."""
        state = getattr(error, "sqlstate", None) or ("08" if isinstance(error, _LOST) else "")
        code, fix, again_s = _KNOWN[max((k for k in _KNOWN if state.startswith(k)), key=len)]
        primary = error.diag.message_primary if isinstance(error, psycopg.Error) else "it did not answer in time"
        said = primary or " ".join(str(error).split())
        return Problem("server", f"the database {self.where} failed ({said}): {fix}", code=code, retry_after_s=again_s)

    async def _drop(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def _kept(self) -> Connection | None:
        """An idle connection that nothing came in on: the server says something there only to end it."""
        while self._idle:
            db = self._idle.pop()
            poll = select.poll()
            poll.register(db.fileno(), select.POLLIN)
            if not poll.poll(0):
                return db
            await db.close()
        return None


_LOST = (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError)


def _hang_up(db: Connection) -> None:
    if not db.closed:
        with suppress(OSError), socket.socket(fileno=os.dup(db.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)


def _read(url: str) -> dict[str, Any]:
    """The parts of `url` as libpq names them; Problem (client) when it is no such thing."""
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        say = "[store] url is not a Postgres URL: write postgresql://USER@HOST:5432/DATABASE"
        raise Problem("client", say, code="store_url") from None
