"""`lilliput key`: make, list and revoke API keys in this home's store, whether or not the gateway runs."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from lilliput import config as configuration
from lilliput.cli.credits import with_ledger
from lilliput.cli.output import one_line, show_json, show_table
from lilliput.config import Home
from lilliput.gateway.usage_table import lifetime_s
from lilliput.money import Account, Ledger
from lilliput.neutral import Key, Problem
from lilliput.store.keys import KeyRing, local_key, open_ring
from lilliput.store.open import open_store, store_url

T = TypeVar("T")


def create(env: Mapping[str, str], name: str, team: str, models: str, expires: str, as_json: bool) -> None:
    """Make a key; stdout gets the token alone, so that a script can take it, stderr what it is."""
    expires_at = time.time() + lifetime_s(expires) if expires else None
    wanted = tuple(dict.fromkeys(m.strip() for m in models.split(",") if m.strip()))
    key, token = _with_ring(configuration.home(env), lambda ring: ring.create(name, wanted, expires_at, team=team))
    if team:
        with_ledger(env, lambda ledger: _join(ledger, key))
    if as_json:
        show_json({"key": token.reveal(), **_shown(key, time.time())}, sys.stdout)
        return
    named = f" named {one_line(key.name)!r}" if key.name else ""
    named += f" of team {one_line(key.team)!r}" if key.team else ""
    until = f", until {_time(key.expires_at)}" if key.expires_at is not None else ""
    print(f"key {key.id}{named}, for {_models(key)}{until}; it is shown this once:", file=sys.stderr)
    print(token.reveal())


async def _join(ledger: Ledger, key: Key) -> None:
    """The key's account under its team's, which is made when it is not there."""
    if await ledger.account(key.team) is None:
        await ledger.put_account(Account(id=key.team, kind="team", name=key.team))
    await ledger.put_account(Account(id=key.id, kind="key", parent=key.team, name=key.name))


def listing(env: Mapping[str, str], as_json: bool) -> None:
    """Every key, oldest first, with its state."""
    keys = _with_ring(configuration.home(env), lambda ring: ring.listing())
    now = time.time()
    if as_json:
        show_json([_shown(key, now) for key in keys], sys.stdout)
        return
    head = ["id", "name", "team", "state", "models", "created (UTC)", "expires (UTC)"]
    cells = [
        [
            key.id,
            key.name or "-",
            key.team or "-",
            _state(key, now),
            _models(key),
            _minute(key.created_at),
            _minute(key.expires_at),
        ]
        for key in keys
    ]
    show_table(head, cells, sys.stdout)


def revoke(env: Mapping[str, str], which: str, as_json: bool) -> None:
    """Revoke the key with this id or name; a running gateway refuses it from the next request on."""
    key = _with_ring(configuration.home(env), lambda ring: ring.revoke(which))
    if as_json:
        show_json(_shown(key, time.time()), sys.stdout)
    else:
        print(f"key {key.id} ({one_line(key.name) or 'no name'}) is revoked")


def dev(env: Mapping[str, str]) -> None:
    """Print the local key and nothing else."""
    home = configuration.home(env)
    local = _with_ring(home, lambda ring: local_key(ring, home.local_key_file))
    if local.token is None:
        raise Problem("auth", local.say)
    print(local.token.reveal())


def _with_ring(home: Home, job: Callable[[KeyRing], Awaitable[T]]) -> T:
    async def run() -> T:
        opened = await open_store(store_url(os.environ), home.database)
        try:
            return await job(await open_ring(opened.store, home.pepper_file))
        finally:
            await opened.close()

    return asyncio.run(run())


def _shown(key: Key, now: float) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "team": key.team,
        "state": _state(key, now),
        "models": key.models,
        "local": key.local,
        "created_at": _time(key.created_at),
        "expires_at": None if key.expires_at is None else _time(key.expires_at),
        "revoked_at": None if key.revoked_at is None else _time(key.revoked_at),
    }


def _state(key: Key, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and now >= key.expires_at:
        return "expired"
    return "local" if key.local else "live"


def _models(key: Key) -> str:
    return ", ".join(key.models) if key.models else "all models"


def _time(at: float | None) -> str:
    return "never" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _minute(at: float | None) -> str:
    return "never" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
