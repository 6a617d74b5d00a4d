"""What one worker gives again, made from the configuration: its cache, and its idempotency keys."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial

from lilliput.config import Config
from lilliput.gateway.cache import Cache
from lilliput.gateway.gates import Gate
from lilliput.gateway.idempotency import Idempotency
from lilliput.gateway.replays import Replays
from lilliput.gateway.semantic import Semantic, embed
from lilliput.store.open import Answers, Claims, Opened
from lilliput.store.open import replays as opened_replays
from lilliput.store.replays import Room


@contextlib.asynccontextmanager
async def replaying(config: Config, env: Mapping[str, str], opened: Opened, gate: Gate) -> AsyncIterator[None]:
    """Has `gate` give answers again while it is open, as far as the configuration says so."""
    if not config.cache.on and not config.idempotency.on:
        yield
        return
    async with places(config, env, opened) as (answers, claims):
        idempotency = None
        if config.idempotency.on:
            table = config.idempotency
            idempotency = Idempotency(claims, keep_s=table.keep_s, most_bytes=table.max_bytes)
        gate.replays = Replays(idempotency, _cache(config, answers, gate) if config.cache.on else None, time.time)
        try:
            yield
        finally:
            if idempotency is not None:
                await idempotency.close()


@contextlib.asynccontextmanager
async def places(config: Config, env: Mapping[str, str], opened: Opened) -> AsyncIterator[tuple[Answers, Claims]]:
    """Where answers are kept, and where idempotency keys are: those always in the database, which forgets nothing."""
    room = Room(config.cache.max_entries, config.cache.max_total_bytes)
    answers, claims = opened_replays(opened, room)
    url = env.get(config.shared.url_env, "").strip()
    if not url:
        yield answers, claims
        return
    from lilliput.store.shared import Shared
    from lilliput.store.shared_replays import SharedAnswers

    shared = Shared(url, timeout_s=config.shared.timeout_s)
    try:
        yield SharedAnswers(shared, room), claims
    finally:
        await shared.close()


def _cache(config: Config, answers: Answers, gate: Gate) -> Cache:
    table, semantic = config.cache, None
    if table.semantic.on:
        assert table.semantic.threshold is not None
        semantic = Semantic(
            partial(embed, gate),
            model=table.semantic.model,
            threshold=table.semantic.threshold,
            most=table.semantic.max_candidates,
        )
    return Cache(
        answers,
        ttl_s=table.ttl_s,
        most_bytes=table.max_bytes,
        share=table.share,
        clock=time.time,
        semantic=semantic,
    )
