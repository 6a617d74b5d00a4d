"""Damaged answers of every provider dialect: whatever a provider sends, its reader raises only Problem."""

from __future__ import annotations

import base64
import itertools
import json
import random
import struct
import zlib
from functools import cache
from typing import Any

import pytest
from tests.conformance.cases import WAYS, way
from tests.conformance.kit import Kit
from tests.conformance.need import recordings

from lilliput.neutral import Event, Problem, fold
from lilliput.wire import dialects
from lilliput.wire.port import Provider

QUICK = 300
MUCH = 10_000
LARGEST_BYTES = 40_000
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**9,
    2**70,
    -(2**63),
    1e300,
    "",
    "x",
    "\ud800",
    [],
    {},
    [{}],
    [[]],
    ["x"],
]
VALUES += [{"a": [None]}, {"type": "x"}, {"text": 1}, {"text": None}, "data:x", "9" * 400]
SPLINTERS = [b"null", b"-1", b"1e999", b'""', b"[]", b"{}", b'"\\ud800"', b"\xff", b"\0", b"[" * 2000, b"\n\n", b"\r"]
SPLINTERS += [
    b"data: ",
    b"data: [DONE]\n\n",
    b"event: error\n",
    b'{"error":',
    b"\0\0\0\x10",
    b"\xff\xff\xff\xff",
    b"9" * 500,
]

Sample = tuple[bool, bytes]
"""An answer: whether it is a stream, and its bytes."""


@cache
def _kit() -> Kit:
    return Kit(recordings())


@cache
def _samples(dialect: str) -> tuple[Sample, ...]:
    """The recorded answers of one dialect."""
    found = [i for i in _kit().interactions if i["api"] in WAYS and way(i["api"], i["provider"]).dialect == dialect]
    told = [(i["kind"] == "stream", _kit().body(i)) for i in found]
    return tuple(s for s in told if 0 < len(s[1]) <= LARGEST_BYTES)


# -- damage ------------------------------------------------------------------------------------------------------


def _wounded(raw: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut out, doubled, or splinters driven in, wherever they fall."""
    out = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice([1, 1, 2, 8, 64, 1024]))
        match rng.randrange(5):
            case 0:
                out[at:end] = rng.randbytes(min(8, end - at))
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end]
            case 3:
                out[at:at] = rng.choice(SPLINTERS)
            case _:
                del out[at:]
    return bytes(out)


def _shuffled(raw: bytes, rng: random.Random) -> bytes:
    """Whole events left out, doubled, or in another order."""
    events = list(_kit().replay.events(raw, ""))
    for _ in range(rng.randint(1, 3)):
        if not events:
            break
        at = rng.randrange(len(events))
        match rng.randrange(4):
            case 0:
                del events[at]
            case 1:
                events.insert(rng.randrange(len(events) + 1), events[at])
            case 2:
                events.append(events.pop(at))
            case _:
                del events[at:]
    return b"".join(events)


def _twisted(raw: bytes, rng: random.Random) -> bytes:
    """One value in one of the JSON documents replaced, taken out or put elsewhere; the framing stays right."""
    events = list(_kit().replay.events(raw, "")) if raw[:1] != b"{" or b"\n{" in raw else [raw]
    if not events:
        return raw
    at = rng.randrange(len(events))
    if raw[:2] == b"\0\0":
        events[at] = _frame(events[at], rng)
    else:
        start, end = events[at].find(b"{"), events[at].rfind(b"}") + 1
        if 0 <= start < end:
            events[at] = events[at][:start] + _document(events[at][start:end], rng) + events[at][end:]
    return b"".join(events)


def _document(raw: bytes, rng: random.Random) -> bytes:
    try:
        document = json.loads(raw)
    except ValueError:
        return raw
    place = document
    while isinstance(place, dict | list) and place:
        keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = rng.choice(keys)
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            match rng.randrange(5):
                case 0:
                    del place[key]
                case 1 if isinstance(place, list):
                    place.append(inner)
                case 1:
                    place[rng.choice(keys)] = inner
                case _:
                    place[key] = rng.choice(VALUES)
            break
        place = inner
    return json.dumps(document, separators=(",", ":")).encode("utf-8", "replace")


def _frame(frame: bytes, rng: random.Random) -> bytes:
    """An AWS event-stream frame with its payload twisted and its checksums made anew (mostly)."""
    try:
        (head,) = struct.unpack(">I", frame[4:8])
        payload = frame[12 + head : -4]
        inner = json.loads(payload)
        if isinstance(inner.get("bytes"), str) and rng.random() < 0.8:
            twisted = _document(base64.b64decode(inner["bytes"]), rng)
            payload = json.dumps({**inner, "bytes": base64.b64encode(twisted).decode()}).encode()
        else:
            payload = _document(payload, rng)
    except (ValueError, AttributeError, struct.error):
        return frame
    start = struct.pack(">II", 16 + head + len(payload), head)
    body = start + struct.pack(">I", zlib.crc32(start)) + frame[12 : 12 + head] + payload
    return body + struct.pack(">I", zlib.crc32(body) ^ (rng.random() < 0.05))


def _reframed(raw: bytes, rng: random.Random) -> bytes:
    """The right documents in the framing of another dialect."""
    documents = _kit().expect.sse_json(raw) or _kit().expect.ndjson(raw) or [{"text": "x"}]
    packed = [json.dumps(d).encode("utf-8", "replace") for d in documents]
    match rng.randrange(5):
        case 0:
            return b"".join(b"data: %b\r\n\r\n" % p for p in packed)
        case 1:
            return b"\n".join(packed)
        case 2:
            return b"[" + b",\n".join(packed) + b"]"
        case 3:
            return b"".join(struct.pack(">II", len(p), 0) + p for p in packed)
        case _:
            return b"".join(b"event: x\ndata: %b\n\n" % p for p in packed)


HARMS = [_wounded, _wounded, _shuffled, _twisted, _twisted, _twisted, _reframed]


# -- the check ---------------------------------------------------------------------------------------------------


def _read(module: Provider, stream: bool, raw: bytes, rng: random.Random) -> list[Event]:
    """The events of an answer fed in a few pieces, up to the Problem that ends it, if one does."""
    read = module.reader(stream)
    edges = sorted({0, len(raw), *(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(5)))})
    events: list[Event] = []
    try:
        for a, b in itertools.pairwise(edges):
            events += read(raw[a:b])
            if read.trouble is not None:
                assert isinstance(read.trouble, Problem)
                return events
        events += read(b"")
    except Problem:
        pass
    return events


def _fuzz(dialect: str, times: int, seed: int) -> None:
    module = dialects.provider(dialect)
    rng = random.Random(f"{dialect} {seed}")
    samples = _samples(dialect)
    assert samples, f"no recordings of {dialect}"
    for n in range(times):
        stream, raw = rng.choice(samples)
        harmed = rng.choice(HARMS)(raw, rng)
        asked = stream if rng.random() < 0.9 else not stream
        try:
            fold(_read(module, asked, harmed, rng))
            p = module.read_problem(rng.choice([200, 400, 401, 404, 429, 500, 529, 599]), harmed)
        except Exception as e:
            e.add_note(f"{dialect}, number {n} of seed {seed}, stream={asked}: {harmed[:2000]!r}")
            raise
        assert 400 <= p.status <= 599
        assert p.say
        assert len(p.say) <= 4000


@pytest.mark.parametrize("dialect", sorted(dialects.PROVIDERS))
def test_only_problems_come_of_damage(dialect: str) -> None:
    _fuzz(dialect, QUICK, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", sorted(dialects.PROVIDERS))
def test_only_problems_come_of_much_damage(dialect: str) -> None:
    _fuzz(dialect, MUCH, seed=1)
