"""Which requests mean the same: their last words as vectors, all else equal. Nothing is kept here."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal

import msgspec
from msgspec import Raw, Struct, structs

from lilliput.gateway.convert import Convert
from lilliput.gateway.exchange import Operation, exchange
from lilliput.gateway.gates import Gate
from lilliput.gateway.inside import Inside
from lilliput.neutral import Key

WAIT_S = 2.0
"""For a vector; after that the request is simply a miss."""
PAUSE_S = 5.0
"""After a failure no vector is asked for, for so long."""
_TOOLS = ("tools", "functions", "tool_choice", "function_call")
_CALLS = ("tool_calls", "function_call", "tool_call_id")
_EMBED = Convert("embeddings")


class Semantic:
    """Vectors from `model`, by `embed`. Two texts mean the same from a cosine of `threshold` on; `most` of a group are
    looked at."""

    def __init__(
        self,
        embed: Callable[[Key, str, str], Awaitable[list[float] | None]],
        *,
        model: str,
        threshold: float,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model, self.threshold, self.most = model, threshold, most
        self._embed, self._clock, self._away_until = embed, clock, 0.0

    async def vector(self, key: Key, text: str) -> array[float] | None:
        """Of length 1; None when none could be had."""
        if self._clock() < self._away_until:
            return None
        numbers = None
        try:
            async with asyncio.timeout(WAIT_S):
                numbers = await self._embed(key, self.model, text)
        except TimeoutError:
            pass
        length = math.sqrt(sum(x * x for x in numbers or ()))
        if numbers is None or not 0 < length < math.inf:
            self._away_until = self._clock() + PAUSE_S
            return None
        return array("f", [x / length for x in numbers])


def nearest(vector: array[float], kept: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, float] | None:
    """Of digests with their vectors the one nearest to `vector`, and the cosine between them; all have length 1.

    Between such the distance tells the cosine, and it takes a third of the time that a sum of products does here.
    """
    here = tuple(vector)
    best: tuple[bytes, float] | None = None
    for digest, packed in kept:
        other = tuple(array("f", packed))
        if len(other) == len(here):
            score = 1 - math.dist(here, other) ** 2 / 2
            if best is None or score > best[1]:
                best = (digest, score)
    return best


class _Part(Struct, forbid_unknown_fields=True):
    type: Literal["text"]
    text: str


_turns = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_content = msgspec.json.Decoder(str | list[_Part]).decode


def turns(op: Operation, fields: Mapping[str, Raw]) -> tuple[object, str] | None:
    """A chat's messages without their last text, and that text; None where there is more than text, or tools."""
    if op.name not in ("chat", "messages") or any(name in fields for name in _TOOLS):
        return None
    try:
        said = [{name: bytes(raw) for name, raw in turn.items()} for turn in _turns(fields["messages"])]
        contents = [_content(turn["content"]) for turn in said if turn.keys().isdisjoint(_CALLS)]
    except (msgspec.MsgspecError, KeyError):
        return None
    if not contents or len(contents) < len(said) or said[-1]["role"] != b'"user"':
        return None
    last = contents[-1]
    if isinstance(last, str):
        said[-1]["content"], text = b"text", last
    elif len(last) == 1:
        said[-1]["content"], text = b"part", last[0].text
    else:
        return None
    return ([sorted(turn.items()) for turn in said], text) if text else None


class _Embedding(Struct):
    embedding: list[float]


class _Embedded(Struct):
    data: list[_Embedding]


_embedded = msgspec.json.Decoder(_Embedded).decode
_encode = msgspec.json.Encoder().encode


async def embed(gate: Gate, key: Key, model: str, text: str) -> list[float] | None:
    """The vector of a text, asked for through the gateway itself: `key` pays for it, whatever models it may call."""
    body = _encode({"model": model, "input": text, "encoding_format": "float"})
    visit = Inside(structs.replace(key, models=()), body, gate.request_id(), b"/v1/embeddings")
    await exchange(gate, _EMBED, visit)
    try:
        return _embedded(visit.answer).data[0].embedding if visit.status == 200 else None
    except (msgspec.MsgspecError, IndexError):
        return None
