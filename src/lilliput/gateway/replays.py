"""Answers that were given before and are given again: by an `Idempotency-Key`, or from the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lilliput.gateway.cache import OPERATIONS, Cache
from lilliput.gateway.exchange import Ask, Operation, Visit
from lilliput.gateway.idempotency import HEADER, Idempotency
from lilliput.gateway.kept import Kept, Recorder, replay
from lilliput.gateway.observe import Record


class Replays:
    """`exchange.Replays`; either part may be missing."""

    def __init__(self, idempotency: Idempotency | None, cache: Cache | None, clock: Callable[[], float]) -> None:
        self._idempotency, self._cache, self._clock = idempotency, cache, clock
        self._most = max(0 if part is None else part.most_bytes for part in (idempotency, cache))

    def wants(self, visit: Visit, op: Operation) -> bool:
        if self._cache is not None and op.name in OPERATIONS:
            return True
        return self._idempotency is not None and visit.header(HEADER) is not None

    async def open(self, visit: Visit, op: Operation, ask: Ask, record: Record) -> Recorder | None:
        seat = Recorder(visit, self._most, self._clock)
        key = None if self._idempotency is None else visit.header(HEADER)
        if key is not None and self._idempotency is not None:
            found = await self._idempotency.enter(visit, op, key)
            if isinstance(found, Kept):
                await replay(visit, found, record, b"idempotent", b"idempotent-replayed: true\r\n")
                return None
            seat.ends.append(found)
        try:
            is_answered = self._cache is not None and await self._cache.recall(seat, op, ask, record)
        except BaseException:
            await asyncio.shield(seat.closed(record))
            raise
        if not is_answered:
            return seat
        record.left_early = False
        await asyncio.shield(seat.closed(record))
        return None
