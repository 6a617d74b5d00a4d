"""Which database a URL names, and the store, the responses and the ledger in it, opened together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from lilliput.money import Ledger
from lilliput.neutral import Problem
from lilliput.store.ledger import SqliteLedger
from lilliput.store.port import Store
from lilliput.store.responses import ResponseStore
from lilliput.store.sqlite import SqliteStore


class Responses(Protocol):
    """`gateway.threads.Threads`, which this part may not name."""

    async def find(self, owner: str, id: str) -> bytes | None: ...
    async def find_item(self, owner: str, id: str) -> bytes | None: ...
    async def keep(self, owner: str, id: str, turn: bytes, items: Sequence[str]) -> None: ...
    async def drop(self, owner: str, id: str) -> bool: ...


class Opened(Struct):
    """One process's hold on a database. `where` may be shown: it has no password. `first` is closed before `store`."""

    where: str
    store: Store
    responses: Responses
    ledger: Ledger
    first: list[Callable[[], None]]

    async def close(self) -> None:
        """Finish what is queued and let go; calling it again does nothing."""
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
        return await _postgres(url)
    store, first = SqliteStore(path), list[Callable[[], None]]()
    try:
        responses = ResponseStore(store)
        first.append(responses.close)
        ledger = SqliteLedger(store)
        first.append(ledger.close)
    except Problem:
        for close in first:
            close()
        await store.close()
        raise
    return Opened(str(path), store, responses, ledger, first)


async def _postgres(url: str) -> Opened:
    try:
        from lilliput.store.postgres import open_postgres  # noqa: PLC0415  (an optional extra)
        from lilliput.store.postgres_ledger import PostgresLedger  # noqa: PLC0415
        from lilliput.store.postgres_responses import PostgresResponses  # noqa: PLC0415
    except ImportError as e:
        raise no_driver(e) from None
    store = await open_postgres(url)
    return Opened(store.pool.where, store, PostgresResponses(store.pool), PostgresLedger(store.pool), [])


def no_driver(error: ImportError) -> Problem:
    say = f"[store] url names Postgres, whose driver cannot be used ({error}): pip install 'lilliput[postgres]'"
    return Problem("client", say, code="store_driver")
