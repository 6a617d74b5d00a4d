"""`Idempotency-Key`: a request that is sent again under the same key is served once, and answered alike each time.

The rules are Stripe's (https://docs.stripe.com/api/idempotent_requests, checked 2026-11-23): the first status and body
are given again, errors too, once the request had gone out; what was refused before that may be tried again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from msgspec import Struct

from lilliput.gateway.cache_key import digest, fingerprint
from lilliput.gateway.exchange import Operation, Visit
from lilliput.gateway.kept import End, Kept, Recorder, unpacked
from lilliput.gateway.observe import Record
from lilliput.neutral import Problem

HEADER = b"idempotency-key"
MOST_CHARACTERS = 255
LEASE_S = 30.0
"""How long a key stays taken after the process that served it died."""
RETRY_S = 1.0
_OUT = ("provider", "timeout")
"""Faults of a request that had gone out."""
_NOT_OUT = ("upstream_unreachable", "bad_base", "self_call", "bad_header")
"""But for these of them."""

log = logging.getLogger("lilliput")
Name = tuple[str, bytes]
"""Whose key, by the id of its API key, and its digest."""


class Claims(Protocol):
    """Where keys are kept, durable on return; every method raises `Problem("server", ...)` when it cannot answer."""

    async def claim(self, name: Name, body: bytes, by: str, lease_s: float) -> tuple[bytes, bytes | None] | None:
        """Take the key for the process `by`; None when it is taken. Else the body that has it and its answer, None
        while it is under way. What `by` itself left unanswered, or whose lease ran out, may be taken."""

    async def renew(self, names: Sequence[Name], by: str, lease_s: float) -> None:
        """Keep what `by` is at work on."""

    async def finish(self, name: Name, by: str, answer: bytes, keep_s: float) -> None:
        """Keep the answer of a key that `by` has taken."""

    async def drop(self, name: Name, by: str) -> None:
        """Let go of a key that `by` has taken: it came to nothing."""


class Running(Struct, eq=False):
    """A request under way in this process; `done` is its answer, None where it may be tried again."""

    body: bytes
    done: asyncio.Future[Kept | None]


class Idempotency:
    """The keys of one process. Each is kept for `keep_s`, with an answer of `most_bytes` at most."""

    def __init__(self, claims: Claims, *, keep_s: float, most_bytes: int, lease_s: float = LEASE_S) -> None:
        self.most_bytes = most_bytes
        self._claims, self._keep_s, self._lease_s = claims, keep_s, lease_s
        self._me = os.urandom(9).hex()
        self._running: dict[Name, Running] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def enter(self, visit: Visit, op: Operation, key: bytes) -> Kept | End:
        """The answer that was given before, perhaps just now; or what to tell of the end of this one, which goes on.

        Raises Problem: 400 for a key that is none, 422 for one that another body has, 409 for one under way elsewhere.
        """
        if not 0 < len(key) <= MOST_CHARACTERS:
            say = f"the Idempotency-Key has {len(key)} characters; send 1 to {MOST_CHARACTERS}, such as a UUID"
            raise Problem("client", say, code="idempotency_key_invalid", param="Idempotency-Key")
        name = (visit.key.id, digest("idempotency key", visit.key.id, key))
        body = fingerprint(visit, op)
        while (running := self._running.get(name)) is not None:
            if running.body != body:
                raise _reused()
            kept = await asyncio.shield(running.done)
            if kept is not None:
                return _whole(kept)
        self._running[name] = Running(body, asyncio.get_running_loop().create_future())
        kept, is_mine = None, False
        try:
            row = await self._claims.claim(name, body, self._me, self._lease_s)
            is_mine = row is None
            if row is not None:
                kept = _given(row, body)
        finally:
            if not is_mine:
                self._end(name, kept)
        if kept is not None:
            return _whole(kept)
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
        return partial(self._close, name)

    async def close(self) -> None:
        """Stop renewing; what is still under way may be tried again when its lease runs out."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})

    async def _close(self, name: Name, record: Record, seat: Recorder) -> None:
        kept = seat.kept(record, self.most_bytes) if _has_begun(record, seat) else None
        try:
            if kept is None:
                await self._claims.drop(name, self._me)
            else:
                await self._claims.finish(name, self._me, kept.packed, self._keep_s)
        except Problem as problem:
            log.warning(
                "the answer of %s could not be kept for its Idempotency-Key: %s", record.request_id, problem.say
            )
        finally:
            self._end(name, kept)

    def _end(self, name: Name, kept: Kept | None) -> None:
        self._running.pop(name).done.set_result(kept)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            if self._running:
                try:
                    await self._claims.renew(list(self._running), self._me, self._lease_s)
                except Problem as problem:
                    log.warning("idempotency keys could not be renewed: %s", problem.say)


def _has_begun(record: Record, seat: Recorder) -> bool:
    """Whether there is an answer that stands: a whole one, or an error after the request had gone out."""
    if record.left_early or not seat.has_ended:
        return False
    problem = record.problem
    if problem is None or seat.status == 200:
        return True
    return record.tries > 0 and problem.fault in _OUT and problem.code not in _NOT_OUT


def _given(row: tuple[bytes, bytes | None], body: bytes) -> Kept | None:
    if row[0] != body:
        raise _reused()
    if row[1] is None:
        say = "a request with this Idempotency-Key is under way: wait for its answer, or ask again in a second"
        raise Problem("client", say, 409, code="idempotency_in_progress", retry_after_s=RETRY_S)
    return unpacked(row[1]) or Kept(0, b"", [], False, "", 0.0)


def _whole(kept: Kept) -> Kept:
    if kept.status:
        return kept
    say = "the request with this Idempotency-Key was answered, with more than is kept: send a new key to ask once more"
    raise Problem("client", say, 409, code="idempotency_answer_not_kept")


def _reused() -> Problem:
    say = "this Idempotency-Key came with another request before: send each key with one request only"
    return Problem("client", say, 422, code="idempotency_key_reused", param="Idempotency-Key")
