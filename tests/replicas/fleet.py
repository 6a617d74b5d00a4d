"""Real gateways on one database: two workers over a SQLite file, or two replicas, each in its own home, on Postgres."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path

from tests.live import Live
from tests.replicas.upstream import ENV
from tests.store.ledger_kill import empty

STORES = ("sqlite", "postgres")
LANDED_S = 5.0


class Place:
    """Where the gateways of one fleet keep their things: homes in one folder, one database."""

    def __init__(self, store: str, root: Path, where: str) -> None:
        self.store, self.root, self.where = store, root, where
        self.env = dict(ENV) if store == "sqlite" else {**ENV, "LILLIPUT_STORE_URL": where}

    async def start(self, stack: AsyncExitStack, config: str, number: int = 0, **env: str) -> Live:
        """A gateway in home `number` until the stack is unwound; all homes have the first one's keys."""
        home = self.root / f"home{number}"
        if number and not home.exists():
            shutil.copytree(self.root / "home0" / "keys", home / "keys")
        if self.store == "sqlite":
            config = f"[server]\nworkers = 2\n{config}"
        live = Live(config, env={**self.env, **env}, home=home)
        await asyncio.to_thread(live.__enter__)
        stack.push_async_callback(asyncio.to_thread, live.__exit__, None, None, None)
        return live

    async def fleet(self, stack: AsyncExitStack, config: str, **env: str) -> list[Live]:
        """Two workers or two replicas."""
        return [await self.start(stack, config, n, **env) for n in range(1 if self.store == "sqlite" else 2)]


@asynccontextmanager
async def place(store: str) -> AsyncIterator[Place]:
    with empty(store) as where, tempfile.TemporaryDirectory(prefix="lilliput-fleet-") as folder:
        root = Path(folder)
        yield Place(store, root, str(root / "home0" / "data" / "lilliput.db") if store == "sqlite" else where)


async def told(live: Live, *args: str) -> str:
    return await asyncio.to_thread(live.lilliput, *args)


async def new_key(live: Live, team: str) -> str:
    """The token of a new key of this team."""
    return (await told(live, "key", "create", "--team", team)).strip()


async def landed(check: Callable[[], Awaitable[None]]) -> None:
    """`check` holds, at the latest once what ended has had time to reach the database."""
    until = time.monotonic() + LANDED_S
    while True:
        try:
            return await check()
        except AssertionError:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(0.2)


async def usage(live: Live, by: str) -> Mapping[str, tuple[int, int, int]]:
    """Requests, how many of them came to nothing, and the cost in nano-dollars, by model or key."""
    rows = json.loads(await told(live, "usage", "--by", by, "--limit", "1000000", "--json"))
    return {row[by]: (row["requests"], row["problems"], int(Decimal(row["cost_usd"]) * 10**9)) for row in rows}
