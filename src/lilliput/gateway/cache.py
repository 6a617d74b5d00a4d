"""The response cache: whole answers, each tenant's apart, given again to the same request or one that means the same.

Where answers are kept is not this file's business, nor what makes requests the same (`cache_key`, `semantic`). A store
that cannot answer is an empty cache.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from lilliput.gateway.cache_key import Share, asked, digest, read, tenant
from lilliput.gateway.exchange import Ask, Operation, Visit
from lilliput.gateway.kept import Kept, Recorder, replay, unpacked
from lilliput.gateway.observe import Record
from lilliput.gateway.semantic import Semantic, nearest, turns
from lilliput.neutral import Problem

OPERATIONS = frozenset(
    ("chat", "responses", "messages", "generate", "completions", "embeddings", "rerank", "moderation")
)
"""What may be cached: images, sound and files are large, and are asked for anew to be other ones."""
_MAX_AGE = re.compile(r"max-age=\"?(\d{1,9})\"?")
_TRUE, _FALSE = b"true", b"false"


class Answers(Protocol):
    """Where answers are kept, packed. Every method raises `Problem("server", ...)` when it cannot answer."""

    async def find(self, tenant: str, digest: bytes) -> bytes | None:
        """What this tenant keeps under `digest`, unless it has expired."""

    async def keep(
        self, tenant: str, digest: bytes, answer: bytes, ttl_s: float, group: bytes = b"", vector: bytes = b""
    ) -> None:
        """Keep an answer, perhaps among a `group`; what was used longest ago goes where there is no more room."""

    async def near(self, tenant: str, group: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """Digests and vectors of this tenant's group, those kept last first."""


class Asking(Struct, frozen=True):
    """What a caller's `cache-control` asks for (RFC 9111, 5.2.1); what is not known is not looked at."""

    stores: bool = True
    looks: bool = True
    max_age_s: float = float("inf")


class Spot(Struct):
    """Where an answer belongs."""

    tenant: str
    digest: bytes
    group: bytes = b""
    vector: bytes = b""


class Cache:
    """The cache over `answers`: each for `ttl_s`, of `most_bytes` at most. `share` says who shares one."""

    def __init__(
        self,
        answers: Answers,
        *,
        ttl_s: float,
        most_bytes: int,
        share: Share,
        clock: Callable[[], float],
        semantic: Semantic | None = None,
    ) -> None:
        self.most_bytes = most_bytes
        self._answers, self._ttl_s, self._share, self._clock = answers, ttl_s, share, clock
        self._semantic = semantic

    async def recall(self, seat: Recorder, op: Operation, ask: Ask, record: Record) -> bool:
        """True when the request was answered from here; else what comes of it is kept, where it may be."""
        if op.name not in OPERATIONS:
            return False
        asking, fields = read_control(seat.header(b"cache-control")), read(seat.body)
        if not asking.stores or leaves_traces(op, fields):
            return _say(record, "bypass")
        who = tenant(seat.key, self._share)
        spot = Spot(who, digest("exact", *asked(who, seat, op, ask, fields)))
        if not asking.looks:
            seat.ends.append(partial(self._close, spot, op))
            return _say(record, "bypass")
        oldest = self._clock() - min(asking.max_age_s, self._ttl_s)
        kept = await self._find(spot.tenant, spot.digest, oldest)
        if kept is not None:
            await self._give(seat, kept, record, b"hit", b"hit")
            return True
        if self._semantic is not None:
            near = await self._near(self._semantic, seat, op, ask, fields, spot, oldest)
            if near is not None:
                kept, score = near
                await self._give(seat, kept, record, b"semantic", b"semantic; score=%.4f" % score)
                return True
        seat.ends.append(partial(self._close, spot, op))
        return _say(record, "miss")

    async def _give(self, visit: Visit, kept: Kept, record: Record, why: bytes, say: bytes) -> None:
        age_s = max(0, int(self._clock() - kept.made_at))
        await replay(visit, kept, record, why, b"x-lilliput-cache: %b\r\nage: %d\r\n" % (say, age_s))

    async def _find(self, tenant: str, digest: bytes, oldest: float) -> Kept | None:
        try:
            packed = await self._answers.find(tenant, digest)
        except Problem:
            return None
        kept = None if packed is None else unpacked(packed)
        return None if kept is None or kept.made_at < oldest else kept

    async def _near(
        self,
        semantic: Semantic,
        visit: Visit,
        op: Operation,
        ask: Ask,
        fields: Mapping[str, Raw],
        spot: Spot,
        oldest: float,
    ) -> tuple[Kept, float] | None:
        """The answer to the request that is nearest in meaning, if near enough, with its likeness; where this one
        would be found so is noted in `spot`."""
        found = turns(op, fields)
        if found is None:
            return None
        before, text = found
        rest = asked(spot.tenant, visit, op, ask, {n: raw for n, raw in fields.items() if n != "messages"})
        vector = await semantic.vector(visit.key, text)
        if vector is None:
            return None
        spot.vector = vector.tobytes()
        spot.group = digest("semantic", semantic.model, before, *rest)
        try:
            kept = await self._answers.near(spot.tenant, spot.group, semantic.most)
        except Problem:
            return None
        best = await asyncio.to_thread(nearest, vector, kept)  # it may take milliseconds
        if best is None or best[1] < semantic.threshold:
            return None
        answer = await self._find(spot.tenant, best[0], oldest)
        return None if answer is None else (answer, best[1])

    async def _close(self, spot: Spot, op: Operation, record: Record, seat: Recorder) -> None:
        """Keeps the answer if it is a whole and good one."""
        if seat.status != 200 or not seat.has_ended or record.problem is not None or record.left_early:
            return
        kept = seat.kept(record, self.most_bytes)
        if not kept.status or not is_complete(op, kept):
            return
        try:
            await self._answers.keep(spot.tenant, spot.digest, kept.packed, self._ttl_s, spot.group, spot.vector)
        except Problem:
            pass  # it is asked for again


def _say(record: Record, what: str) -> bool:
    record.cache = what
    record.lines += b"x-lilliput-cache: %b\r\n" % what.encode()
    return False


def read_control(value: bytes | None) -> Asking:
    if value is None:
        return Asking()
    said = [part.strip().lower() for part in value.decode("latin-1").split(",")]
    ages = [int(found[1]) for part in said if (found := _MAX_AGE.fullmatch(part))]
    return Asking("no-store" not in said, "no-cache" not in said, min(ages, default=float("inf")))


def leaves_traces(op: Operation, fields: Mapping[str, Raw]) -> bool:
    """Whether a request does more than answer: a response that is kept to be continued, or that goes on by itself."""
    store = bytes(fields.get("store", b""))
    if op.dialect == "openai_responses":
        is_alone = not any(_is_given(fields, name) for name in ("previous_response_id", "conversation", "background"))
        return store != _FALSE or not is_alone
    return store == _TRUE


def _is_given(fields: Mapping[str, Raw], name: str) -> bool:
    return bytes(fields.get(name, b"null")) not in (b"null", _FALSE)


class _Ended(Struct):
    status: str = ""


_ended = msgspec.json.Decoder(_Ended).decode


def is_complete(op: Operation, kept: Kept) -> bool:
    """Whether the answer says of itself that it is whole: a Response may also have failed, or be cut short."""
    if op.dialect != "openai_responses":
        return True
    body = b"".join(kept.pieces)
    if kept.is_stream:
        return b'"type":"response.completed"' in body or b"event: response.completed" in body
    return _ended(body).status == "completed"
