"""Newline-delimited JSON however it is cut, and the reader around an answer."""

from __future__ import annotations

import msgspec
import pytest

from lilliput.neutral import Event, Problem, Said
from lilliput.wire import ndjson, reading
from lilliput.wire.openai.chunk import Call, Function

CUTS = [
    ("lines", [b'{"a":1}\n{"b":2}\n'], [b'{"a":1}', b'{"b":2}']),
    ("pieces", [b'{"a"', b":1}", b'\n{"b":2}', b"\n"], [b'{"a":1}', b'{"b":2}']),
    ("CRLF and blank lines", [b"1\r\n\r\n", b"\n \n2\n"], [b"1\r", b"\r", b" ", b"2"]),
    ("no last line break", [b"1\n2"], [b"1", b"2"]),
]


@pytest.mark.parametrize(("name", "chunks", "want"), CUTS)
def test_lines(name: str, chunks: list[bytes], want: list[bytes]) -> None:
    splitter = ndjson.Splitter()
    assert [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.end() == want
    assert splitter.rest == b""


def test_a_line_without_end_is_refused() -> None:
    splitter = ndjson.Splitter()
    for _ in range(16):
        assert splitter.feed(b"x" * 1024 * 1024) == []
    with pytest.raises(Problem) as p:
        splitter.feed(b"x")
    assert p.value.code == "upstream_invalid"


class Echo:
    """Says each document; `.` ends the answer, `!` is trouble."""

    def __init__(self) -> None:
        self.over = False

    def event(self, data: bytes, out: list[Event]) -> None:
        if data == b"!":
            raise Problem("provider", "no", code="upstream_invalid")
        self.over = data == b"."
        out.append(Said(data.decode()))

    def whole(self, data: bytes, out: list[Event]) -> None:
        out.append(Said(f"whole {data.decode()}"))

    def end(self, marked: bool, out: list[Event]) -> None:
        if not marked:
            raise Problem("provider", "cut", code="upstream_truncated")


def told(chunks: list[bytes], stream: bool = True, lines: bool = False) -> tuple[list[str], str | None]:
    read = ndjson.Reader(Echo(), stream, lines)
    out: list[Event] = []
    try:
        for chunk in (*chunks, b""):
            out += read(chunk)
    except Problem as p:
        return [e.text for e in out if isinstance(e, Said)], p.code
    assert read.trouble is None
    return [e.text for e in out if isinstance(e, Said)], None


ANSWERS = [
    ("a stream", [b"data: a\n\ndata: .\n\n"], True, False, ["a", "."], None),
    ("nothing is read after the end", [b"data: .\n\ndata: !\n\n"], True, False, ["."], None),
    ("nor after the mark", [b"data: a\n\ndata: [DONE]\n\ndata: !\n\n"], True, False, ["a"], None),
    ("the end of the bytes alone is a cut", [b"data: a\n\n"], True, False, ["a"], "upstream_truncated"),
    ("so is half a last event", [b"data: a\n\ndata: !"], True, False, ["a"], "upstream_truncated"),
    ("and half a field", [b"data: a\n\ndata: [DONE]\n\n", b"da"], True, False, ["a"], None),
    ("a last event may lack its blank line", [b"data: a\n\ndata: .\n"], True, False, ["a", "."], None),
    ("trouble after what was said", [b"data: a\n\ndata: !\n\n"], True, False, ["a"], "upstream_invalid"),
    ("an object instead of a stream", [b' {"a"', b":1}"], True, False, ['whole  {"a":1}'], None),
    ("a stream of events where lines may be too", [b": hi\n\ndata: a\n\ndata: .\n\n"], True, True, ["a", "."], None),
    ("blank lines are nothing", [b'{"a":1}\r\n\r\n \n.\n'], True, True, ['{"a":1}\r', "."], None),
    ("objects on lines", [b'{"a"', b":1}\n.\n"], True, True, ['{"a":1}', "."], None),
    ("a whole answer", [b'{"a"', b":1}"], False, True, ['whole {"a":1}'], None),
    ("an empty one", [b" "], False, False, [], "upstream_truncated"),
    ("an empty stream", [], True, False, [], "upstream_truncated"),
]


@pytest.mark.parametrize(("name", "chunks", "stream", "lines", "said", "code"), ANSWERS)
def test_the_reader(name: str, chunks: list[bytes], stream: bool, lines: bool, said: list[str], code: str) -> None:
    assert told(chunks, stream, lines) == (said, code)


def test_trouble_waits_for_the_next_call_when_something_was_said_before() -> None:
    read = ndjson.Reader(Echo(), True)
    assert read(b"data: a\n\ndata: !\n\n") == [Said("a")]
    assert read.trouble is not None
    for _ in range(2):
        with pytest.raises(Problem):
            read(b"data: b\n\n")


def test_a_whole_answer_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 10)
    assert told([b"{" * 11], stream=False)[1] == "upstream_invalid"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"name":1}', "upstream_invalid"),
        (b"nonsense", "upstream_invalid"),
        (b'{"name":"\xff"}', "upstream_invalid"),
        (b'{"name":"a', "upstream_truncated"),
        (b'{"name":"\xe2\x82', "upstream_truncated"),
        (b'{"arguments":' + b"[" * 5000, "upstream_invalid"),
    ],
)
def test_bad_json_is_told(data: bytes, code: str) -> None:
    with pytest.raises(Problem) as p:
        ndjson.decoded(msgspec.json.Decoder(Function).decode, data)
    assert p.value.code == code


def test_every_call_has_an_id_of_its_own() -> None:
    calls = ndjson.Calls()
    out: list[Event] = []
    for given in ("a", "a", None, "call_xyz_3", "call_xyz_4"):
        calls.open(Call(id=given, function=Function("f", "")), "x-y-z", out)
    ids = [e.id for e in out]  # type: ignore[union-attr]
    assert ids == ["a", "call_xyz_1", "call_xyz_2", "call_xyz_3", "call_xyz_4"]
    calls.open(Call(id="call_xyz_6", function=Function("f")), "xyz", out)
    calls.open(Call(function=Function("f")), "xyz", out)
    assert len({e.id for e in out}) == 7  # type: ignore[union-attr]
    with pytest.raises(Problem, match="without a name"):
        calls.open(Call(), "xyz", out)


def test_calls_have_a_limit() -> None:
    calls = ndjson.Calls()
    call = Call(function=Function("f"))
    assert [calls.open(call, None, []) for _ in range(1024)] == list(range(1024))
    with pytest.raises(Problem, match="over 1024 tool calls"):
        calls.open(call, None, [])
