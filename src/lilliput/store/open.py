"""Which database a URL names, and the store, the responses and the ledger in it, opened together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from lilliput.money import Ledger
from lilliput.neutral import Problem
from lilliput.store.journal_ledger import JournalLedger
from lilliput.store.ledger import SqliteBooks
from lilliput.store.port import Store
from lilliput.store.replays import Room, SqliteAnswers, SqliteClaims
from lilliput.store.responses import ResponseStore
from lilliput.store.sqlite import SqliteStore
from lilliput.store.tasks import SqliteTasks
from lilliput.tasks import TaskStore


class Responses(Protocol):
    """`gateway.threads.Threads`, which this part may not name."""

    async def find(self, owner: str, id: str) -> bytes | None: ...
    async def find_item(self, owner: str, id: str) -> bytes | None: ...
    async def keep(self, owner: str, id: str, turn: bytes, items: Sequence[str]) -> None: ...
    async def drop(self, owner: str, id: str) -> bool: ...
    async def forget(self, owner: str) -> int: ...


class Answers(Protocol):
    """`gateway.cache.Answers`, and what operators ask of it."""

    async def find(self, tenant: str, digest: bytes) -> bytes | None: ...
    async def keep(
        self, tenant: str, digest: bytes, answer: bytes, ttl_s: float, group: bytes = b"", vector: bytes = b""
    ) -> None: ...
    async def near(self, tenant: str, group: bytes, most: int) -> list[tuple[bytes, bytes]]: ...
    async def shelves(self) -> list[tuple[str, int, int]]: ...
    async def clear(self, tenant: str | None = None) -> int: ...


class Claims(Protocol):
    """`gateway.idempotency.Claims`, and what operators ask of it."""

    async def claim(
        self, name: tuple[str, bytes], body: bytes, by: str, lease_s: float
    ) -> tuple[bytes, bytes | None] | None: ...
    async def renew(self, names: Sequence[tuple[str, bytes]], by: str, lease_s: float) -> None: ...
    async def finish(self, name: tuple[str, bytes], by: str, answer: bytes, keep_s: float) -> None: ...
    async def drop(self, name: tuple[str, bytes], by: str) -> None: ...
    async def forget(self, owner: str) -> int: ...


class Opened(Struct):
    """One process's hold on a database. `where` may be shown: it has no password. `first` is closed before `store`."""

    where: str
    store: Store
    responses: Responses
    ledger: Ledger
    tasks: TaskStore
    first: list[Callable[[], None]]

    async def close(self) -> None:
        """Finish what is queued and let go; calling it again does nothing."""
        await self.ledger.close()
        for close in self.first:
            close()
        await self.store.close()


def store_url(env: Mapping[str, str], configured: str = "") -> str:
    """LILLIPUT_STORE_URL when it is set, else the configuration's `[store] url`; "" is this home's own file."""
    return env.get("LILLIPUT_STORE_URL", "").strip() or configured


def sqlite_path(url: str, database: Path) -> Path | None:
    """The file that `url` names, `database` when it is empty; None when it names a Postgres database."""
    scheme, mark, rest = url.partition("://")
    if scheme in ("postgresql", "postgres") and mark:
        return None
    if scheme == "sqlite" and rest.startswith("/"):
        return Path(unquote(urlsplit(url).path))
    if mark or "=" in url:
        say = "[store] url is neither postgresql://USER@HOST:5432/DATABASE nor sqlite:///PATH nor a path"
        raise Problem("client", say, code="store_url")
    return Path(url).expanduser().absolute() if url else database


async def open_store(url: str, database: Path) -> Opened:
    """What `url` names, brought to the newest version: `postgresql://...`, `sqlite:///PATH` or a path; `database` when
    it is empty. Opened in the process and on the loop that use it.

    Raises Problem: 400 for a URL that names no store, 503 for a database that cannot be used.
    """
    path = sqlite_path(url, database)
    if path is None:
        return await _postgres(url, database)
    store, first = SqliteStore(path), list[Callable[[], None]]()
    try:
        responses = ResponseStore(store)
        first.append(responses.close)
        books = SqliteBooks(store)
        first.append(books.close)
    except Problem:
        for close in first:
            close()
        await store.close()
        raise
    ledger = JournalLedger(books, path.with_name(f"{path.name}-journals"))
    return Opened(str(path), store, responses, ledger, SqliteTasks(store), first)


def replays(opened: Opened, room: Room) -> tuple[Answers, Claims]:
    """Where answers and idempotency keys are kept in the same database; both are closed with it."""
    if isinstance(opened.store, SqliteStore):
        answers = SqliteAnswers(opened.store, room)
        opened.first.append(answers.close)
        return answers, SqliteClaims(opened.store)
    from lilliput.store.postgres import PostgresStore  # noqa: PLC0415  (an optional extra)
    from lilliput.store.postgres_replays import PostgresAnswers, PostgresClaims  # noqa: PLC0415

    assert isinstance(opened.store, PostgresStore)
    return PostgresAnswers(opened.store.pool, room), PostgresClaims(opened.store.pool)


async def _postgres(url: str, database: Path) -> Opened:
    try:
        from lilliput.store.postgres import open_postgres  # noqa: PLC0415  (an optional extra)
        from lilliput.store.postgres_ledger import PostgresBooks  # noqa: PLC0415
        from lilliput.store.postgres_responses import PostgresResponses  # noqa: PLC0415
        from lilliput.store.postgres_tasks import PostgresTasks  # noqa: PLC0415
    except ImportError as e:
        raise no_driver(e) from None
    store = await open_postgres(url)
    one = sha256(store.pool.public.encode()).hexdigest()[:16]  # a home may have named other databases before
    ledger = JournalLedger(PostgresBooks(store.pool), database.with_name(f"postgres-{one}-journals"), clock=None)
    return Opened(store.pool.where, store, PostgresResponses(store.pool), ledger, PostgresTasks(store.pool), [])


def no_driver(error: ImportError) -> Problem:
    say = f"[store] url names Postgres, whose driver cannot be used ({error}): pip install 'lilliput[postgres]'"
    return Problem("client", say, code="store_driver")
