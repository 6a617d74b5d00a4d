"""A gateway of `rig` that gives answers again, over a real SQLite store; two keys, `KEY` and `OTHER`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.gateway.rig import AUTH, KEY, Rig, Script, by_wish, rig

from lilliput.gateway.cache import Answers, Cache
from lilliput.gateway.cache_key import Share
from lilliput.gateway.idempotency import LEASE_S, Idempotency
from lilliput.gateway.replays import Replays
from lilliput.gateway.semantic import Semantic
from lilliput.neutral import Key
from lilliput.store.replays import Room, SqliteAnswers, SqliteClaims
from lilliput.store.sqlite import SqliteStore

OTHER = {"Authorization": "Bearer lil_other"}
MATE = {"Authorization": "Bearer lil_mate"}
NARROW = {"Authorization": "Bearer lil_narrow"}
KEYS = {
    KEY: Key(id="k1", team="t"),
    "lil_other": Key(id="k2", team="u"),
    "lil_mate": Key(id="k3", team="t"),
    "lil_narrow": Key(id="k4", team="t", models=("p/m",)),
}
MINE = AUTH


class Clock:
    """Real time, and what a test adds to it."""

    more = 0.0

    def __call__(self) -> float:
        return time.time() + self.more


@contextlib.asynccontextmanager
async def replaying(
    place: Path,
    script: Script = by_wish,
    *,
    cache: bool = True,
    share: Share = "key",
    most_bytes: int = 1 << 20,
    semantic: Semantic | None = None,
    answers: Answers | None = None,
    lease_s: float = LEASE_S,
    **more: Any,
) -> AsyncIterator[tuple[Rig, Clock]]:
    clock = Clock()
    store = SqliteStore(place / "l.db", clock=clock)
    kept = SqliteAnswers(store, Room(1000, 1 << 20), clock=clock)
    claims = SqliteClaims(store, clock=clock)
    idempotency = Idempotency(claims, keep_s=86_400, most_bytes=most_bytes, lease_s=lease_s)
    cached = Cache(answers or kept, ttl_s=60, most_bytes=most_bytes, share=share, clock=clock, semantic=semantic)
    try:
        async with rig(script, **more) as r:
            r.gate.find_key = KEYS.get
            r.gate.replays = Replays(idempotency, cached if cache else None, clock)
            yield r, clock
    finally:
        await idempotency.close()
        kept.close()
        await store.close()
