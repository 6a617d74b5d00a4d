"""`lilliput cache`: whose answers are kept, and how to be rid of them, whether or not the gateway runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from lilliput import config as configuration
from lilliput.cli.output import one_line, show_json, show_table
from lilliput.cli.replaying import places
from lilliput.neutral import Problem
from lilliput.store.open import Answers, Claims, open_store, store_url

T = TypeVar("T")


def show(env: Mapping[str, str], key: str | None, team: str | None, as_json: bool) -> None:
    """Answers and their size by whom they may be given to, the largest first."""
    tenant = _tenant(key, team)
    rows = [row for row in _ask(env, lambda answers, _: answers.shelves()) if tenant in (None, row[0])]
    if as_json:
        show_json([{"tenant": name, "entries": n, "bytes": size} for name, n, size in rows], sys.stdout)
    else:
        show_table(["tenant", "entries", "bytes"], [[name, str(n), str(size)] for name, n, size in rows], sys.stdout)


def clear(env: Mapping[str, str], key: str | None, team: str | None, as_json: bool) -> None:
    """Remove the answers kept for a key (also those of its idempotency keys) or a team, or the whole cache."""
    tenant = _tenant(key, team)

    async def work(answers: Answers, claims: Claims) -> tuple[int, int]:
        return await answers.clear(tenant), 0 if key is None else await claims.forget(key)

    cached, idempotent = _ask(env, work)
    if as_json:
        show_json({"tenant": tenant, "entries": cached, "idempotency_keys": idempotent}, sys.stdout)
        return
    of = f" of {one_line(tenant)}" if tenant else ""
    also = f", and {idempotent} of its idempotency keys" if key is not None else ""
    print(f"removed {cached} answers{of}{also}")


def _tenant(key: str | None, team: str | None) -> str | None:
    if key is not None and team is not None:
        raise Problem("client", "--key or --team, not both", code="usage")
    return f"key:{key}" if key is not None else f"team:{team}" if team is not None else None


def _ask(env: Mapping[str, str], job: Callable[[Answers, Claims], Awaitable[T]]) -> T:
    """What `job` makes of the answers and idempotency keys of this home."""
    home = configuration.home(env)
    config = configuration.read(home.config_file if home.config_file.is_file() else None)

    async def run() -> T:
        opened = await open_store(store_url(env, config.store.url), home.database)
        try:
            async with places(config, env, opened) as (answers, claims):
                return await job(answers, claims)
        finally:
            await opened.close()

    return asyncio.run(run())
