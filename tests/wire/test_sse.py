"""Server-sent events: the same events however the bytes are cut, and nothing that data can do about it."""

from __future__ import annotations

import random

import pytest

from lilliput.neutral import Problem
from lilliput.wire import sse

A, B = b'{"a":1}', b'{"b":2}'
HOSTILE = [
    rb'{"content":"\n\ndata: [DONE]\n\n"}',
    '{"content":"a\u2028b\u2029c\u0085d"}'.encode(),
    b'{"content":"\x1b[31mred\x1b[0m"}',
    b'{"content":"data: x"}',
    b'{"content":"\xf0\x9f\xa6\x93"}',
    b": not a comment",
    b"event: not an event",
    b"[DONE]",
    b"x" * 100_000,
]

TABLE: list[tuple[str, bytes, list[bytes]]] = [
    ("LF", b"data: %b\n\ndata: %b\n\n" % (A, B), [A, B]),
    ("CRLF", b"data: %b\r\n\r\ndata: %b\r\n\r\n" % (A, B), [A, B]),
    ("CR", b"data: %b\r\rdata: %b\r\r" % (A, B), [A, B]),
    ("mixed ends", b"data: %b\r\n\ndata: %b\n\r\n" % (A, B), [A, B]),
    ("no space after the colon", b"data:%b\n\n" % A, [A]),
    ("only one space is taken", b"data:  x\n\n", [b" x"]),
    ("a comment", b": ping\n\ndata: %b\n\n: pong\n\n" % A, [A]),
    ("a comment inside an event", b": ping\ndata: %b\n\n" % A, [A]),
    ("OpenRouter's comments", b": OPENROUTER PROCESSING\n\n" * 3 + b"data: %b\n\n" % A, [A]),
    ("other fields", b"event: x\nid: 7\nretry: 10\ndata: %b\n\n" % A, [A]),
    ("other fields after", b"data: %b\nevent: x\n\n" % A, [A]),
    ("lines are joined", b"data: a\ndata: b\ndata:\ndata: c\n\n", [b"a\nb\n\nc"]),
    ("lines of CRLF are joined", b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
    ("an event without data", b"event: ping\n\ndata: %b\n\n" % A, [A]),
    ("empty data", b"data:\n\ndata: %b\n\n" % A, [b"", A]),
    ("blank lines", b"\n\n\n\ndata: %b\n\n\n\n\ndata: %b\n\n\n" % (A, B), [A, B]),
    ("blank CRLF lines", b"\r\n\r\ndata: %b\r\n\r\n\r\ndata: %b\r\n\r\n" % (A, B), [A, B]),
    ("no line end before the first", b"data: %b\n\n" % A, [A]),
    ("a byte order mark", b"\xef\xbb\xbfdata: %b\n\n" % A, [A]),
    ("a field that begins alike", b"database: x\n\ndata: %b\n\n" % A, [A]),
    ("the mark", b"data: %b\n\ndata: [DONE]\n\n" % A, [A, sse.DONE]),
    ("nothing", b"", []),
    ("an event that is not whole", b"data: %b\n\ndata: %b\n" % (A, B), [A]),
    *((f"hostile {i}", b"".join(map(sse.event, (A, h, B))), [A, h, B]) for i, h in enumerate(HOSTILE)),
]


def split(*pieces: bytes) -> list[bytes]:
    splitter = sse.Splitter()
    return [data for piece in pieces for data in splitter.feed(piece)]


@pytest.mark.parametrize(("name", "stream", "events"), TABLE, ids=[row[0] for row in TABLE])
def test_table(name: str, stream: bytes, events: list[bytes]) -> None:
    assert split(stream) == events


@pytest.mark.parametrize(("name", "stream", "events"), TABLE, ids=[row[0] for row in TABLE])
def test_same_events_cut_anywhere(name: str, stream: bytes, events: list[bytes]) -> None:
    cuts = range(len(stream) + 1) if len(stream) < 2000 else range(0, len(stream), 997)
    for at in cuts:
        assert split(stream[:at], stream[at:]) == events, at
    if len(stream) < 2000:
        assert split(*(stream[i : i + 1] for i in range(len(stream)))) == events


def test_same_events_cut_at_random() -> None:
    dice = random.Random(1)
    for _ in range(300):
        end = dice.choice([b"\n", b"\r\n", b"\r"])
        rows = dice.choices(
            [r for r in TABLE if len(r[1]) < 2000 and r[1].endswith(b"\n\n") and b"\r" not in r[1]], k=8
        )
        stream = b"".join(stream for _, stream, _ in rows if not stream.startswith(b"\xef")).replace(b"\n", end)
        events = [e for _, stream, events in rows for e in events if not stream.startswith(b"\xef")]
        at, pieces = 0, []
        while at < len(stream):
            size = dice.choice([1, 2, 3, 7, 40, 300])
            pieces.append(stream[at : at + size])
            at += size
        assert split(*pieces) == events


@pytest.mark.parametrize(
    ("name", "stream", "last"),
    [
        ("whole", b"data: %b\n\n" % A, []),
        ("no blank line", b"data: %b\n\ndata: %b" % (A, B), [B]),
        ("one line end", b"data: %b\n\ndata: %b\n" % (A, B), [B]),
        ("one CR", b"data: %b\r\rdata: %b\r" % (A, B), [B]),
        ("a comment only", b"data: %b\n\n: bye" % A, []),
        ("blank lines only", b"data: %b\n\n\n" % A, []),
    ],
)
def test_the_end_gives_an_event_that_lacks_its_blank_line(name: str, stream: bytes, last: list[bytes]) -> None:
    splitter = sse.Splitter()
    splitter.feed(stream)
    assert splitter.end() == last
    assert splitter.end() == []
    assert splitter.feed(b"data: x\n\n") == [b"x"]


@pytest.mark.parametrize("opening", [b"data: ", b": comment ", b"", b"data: x\r"])
def test_an_endless_event_is_refused(opening: bytes) -> None:
    splitter = sse.Splitter()
    piece = b"x" * (1024 * 1024)
    splitter.feed(opening)
    for _ in range(15):
        splitter.feed(piece)
    with pytest.raises(Problem, match=r"over 16777216 bytes") as caught:
        splitter.feed(piece + piece)
    assert caught.value.code == "upstream_invalid"


def test_an_event_of_just_the_limit_passes() -> None:
    data = b"x" * (sse.MAX_EVENT_BYTES - 10)
    whole = sse.event(data)
    assert split(whole[:9_000_000], whole[9_000_000:]) == [data]
