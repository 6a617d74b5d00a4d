"""The recordings of Amazon Bedrock's two dialects, and frames of its event stream to build others."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import struct
import zlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from tests.conformance.kit import Interaction
from tests.wire import chat_recordings as chat

from lilliput.neutral import Event, Problem, fold
from lilliput.wire import bedrock
from lilliput.wire.bedrock import invoke as bedrock_invoke

MODULES: dict[str, ModuleType] = {"bedrock.converse": bedrock, "bedrock.invoke": bedrock_invoke}

kit, body = chat.kit, chat.body


@functools.cache
def recorded(api: str) -> tuple[Interaction, ...]:
    """Every chat interaction of one of the two dialects."""
    return tuple(i for i in kit().interactions if i["api"] == api)


def answers(api: str, kind: str | None = None) -> list[Interaction]:
    return [i for i in recorded(api) if i["response"]["status"] == 200 and kind in (None, i["kind"])]


def feed(api: str, raw: bytes, stream: bool, cuts: Iterable[int] = ()) -> tuple[list[Event], Problem | None]:
    """The events of an answer fed in pieces that end at `cuts`, and the trouble that ended them."""
    reader = MODULES[api].reader(stream)
    events: list[Event] = []
    pieces = [raw[a:b] for a, b in itertools.pairwise([0, *cuts, len(raw)]) if b > a]
    try:
        for piece in (*pieces, b""):
            events += reader(piece)
            if reader.trouble:
                return events, reader.trouble
    except Problem as trouble:
        return events, trouble
    return events, None


def facts(events: list[Event]) -> dict[str, Any]:
    """What events say in the terms of `expect.py`."""
    reply = fold(events)
    return {**chat.facts_of(reply), "usage": chat.usage_facts(reply.usage)}


def frame(payload: object, /, **headers: str) -> bytes:
    """One message of an event stream; `event_type` is ":event-type"."""
    named = {":" + name.replace("_", "-"): value for name, value in headers.items()}
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\7" + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in named.items()
    )
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(data), len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + data
    return message + struct.pack(">I", zlib.crc32(message))


def stream(*events: tuple[str, object]) -> bytes:
    """Events of Converse by name."""
    return b"".join(frame(payload, message_type="event", event_type=name) for name, payload in events)


def chunks(*pieces: object) -> bytes:
    """Pieces of InvokeModel's stream."""
    packed = [{"bytes": base64.b64encode(json.dumps(piece).encode()).decode()} for piece in pieces]
    return b"".join(frame(piece, message_type="event", event_type="chunk") for piece in packed)


def frames(raw: bytes) -> list[bytes]:
    """A stream's messages, whole."""
    out = []
    while raw:
        size = struct.unpack(">I", raw[:4])[0]
        out.append(raw[:size])
        raw = raw[size:]
    return out
