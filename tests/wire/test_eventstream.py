"""AWS's event stream: whole messages out, however they are cut; damage is told."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from tests.wire import bedrock_recordings as rec
from tests.wire.bedrock_recordings import frame, frames

from lilliput.neutral import Problem
from lilliput.wire.bedrock import eventstream

TWO = frame(b'{"a":1}', message_type="event", event_type="x") + frame(b"", message_type="event", event_type="ü")


def _all(raw: bytes, cuts: list[int]) -> list[tuple[dict[str, str], bytes]]:
    splitter = eventstream.Splitter()
    out = []
    for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        out += [(dict(m.headers), m.payload) for m in splitter.feed(raw[a:b])]
    assert splitter.is_between
    return out


def test_messages_come_whole_however_they_are_cut() -> None:
    want = [
        ({":message-type": "event", ":event-type": "x"}, b'{"a":1}'),
        ({":message-type": "event", ":event-type": "ü"}, b""),
    ]
    assert _all(TWO, []) == want
    assert _all(TWO, list(range(1, len(TWO)))) == want
    for cut in range(1, len(TWO)):
        assert _all(TWO, [cut]) == want


def test_messages_are_what_the_recordings_hold() -> None:
    dice = random.Random(2)
    for i in rec.answers("bedrock.converse", "stream"):
        raw = rec.body(i)
        want = rec.kit().expect.eventstream(raw)
        assert _all(raw, sorted(dice.sample(range(1, len(raw)), 30))) == want


def test_a_flipped_bit_anywhere_is_found() -> None:
    for at in range(len(TWO)):
        bad = bytearray(TWO)
        bad[at] ^= 1 << at % 8
        with pytest.raises(Problem) as caught:
            list(eventstream.Splitter().feed(bytes(bad)))
        assert caught.value.code == "upstream_invalid", at


def test_what_came_before_the_damage_is_given() -> None:
    first, second = frames(TWO)
    messages = eventstream.Splitter().feed(first + second[:-1] + b"\0")
    assert next(messages).payload == b'{"a":1}'
    with pytest.raises(Problem, match="checksum"):
        next(messages)


def _signed(total: int, header_bytes: int, rest: bytes = b"") -> bytes:
    prelude = struct.pack(">II", total, header_bytes)
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + rest
    return message + struct.pack(">I", zlib.crc32(message))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(_signed(2**25, 0), id="over 16 MiB"),
        pytest.param(_signed(15, 0), id="shorter than itself"),
        pytest.param(_signed(16, 1), id="headers past the end"),
        pytest.param(_signed(17, 1, b"\xff"), id="a name past the end"),
        pytest.param(_signed(20, 4, b"\1a\7\0"), id="a cut length"),
        pytest.param(_signed(19, 3, b"\1a\x63"), id="an unknown type"),
        pytest.param(_signed(22, 6, b"\1a\7\0\1\xff"), id="no UTF-8"),
        pytest.param(_signed(20, 4, b"\1a\4\0"), id="a cut number"),
    ],
)
def test_nonsense_is_a_problem(raw: bytes) -> None:
    with pytest.raises(Problem) as caught:
        list(eventstream.Splitter().feed(raw))
    assert caught.value.code == "upstream_invalid"


def test_headers_that_are_no_text_are_stepped_over() -> None:
    head = b"\1a\0" + b"\1b\2x" + b"\1c\6\0\2xy" + b"\1d\x08" + b"t" * 8 + b"\1e\7\0\1z"
    (message,) = eventstream.Splitter().feed(_signed(16 + len(head), len(head), head))
    assert message.headers == {"e": "z"}
