"""What the lying provider says is good in each dialect: our own reader of answers finds all of it."""

from __future__ import annotations

import json

import pytest

from lilliput.chaos.client import Seen
from lilliput.chaos.kinds import FIVE, TEXT
from lilliput.chaos.reading import read
from lilliput.chaos.rows import HOSTILE
from lilliput.chaos.speech import FINISHES, PATHS, Aside, Dialect, Error, Finish, Mark, Piece, Role, Say, Speech, Whole

EVENTS, JSON = {"content-type": "text/event-stream"}, {"content-type": "application/json"}
BY_DIALECT = pytest.mark.parametrize("dialect", PATHS)


def told(dialect: Dialect, *pieces: Piece | bytes | float, stream: bool = True) -> bytes:
    speech = Speech(dialect, stream)
    return b"".join(speech.bytes_of(p) for p in pieces if not isinstance(p, bytes | float))


@BY_DIALECT
@pytest.mark.parametrize("reason", ["stop", "length", "filter"])
@pytest.mark.parametrize("text", [TEXT, HOSTILE])
def test_a_stream_and_a_whole_answer_say_the_same(dialect: Dialect, reason: str, text: str) -> None:
    streamed = told(dialect, Aside(), Role(), Say(text), Finish(reason), Mark())
    whole = told(dialect, Whole(text, reason, more=True), stream=False)
    for stream, seen in ((True, Seen(200, EVENTS, streamed, True)), (False, Seen(200, JSON, whole, True))):
        found = read(dialect, stream, seen)
        assert (found.text, found.finish, found.ended) == (text, FINISHES[dialect][reason], True)
        assert not found.junk
        assert not found.is_error


@BY_DIALECT
def test_a_stream_cut_short_has_no_finish(dialect: Dialect) -> None:
    found = read(dialect, True, Seen(200, EVENTS, told(dialect, *FIVE), True))
    assert (found.text, found.finish, found.ended) == (TEXT, None, False)


@BY_DIALECT
def test_errors_are_read_in_a_stream_and_alone(dialect: Dialect) -> None:
    error = Error(429, "rate_limit_exceeded", "slow down")
    found = read(dialect, True, Seen(200, EVENTS, told(dialect, *FIVE, error), True))
    assert (found.message, found.text) == ("slow down", TEXT)
    alone = read(dialect, False, Seen(429, JSON, told(dialect, error, stream=False), True))
    assert alone.message == "slow down"
    for said in (found, alone):
        word = said.kind if dialect == "messages" else said.code
        assert word == ("rate_limit_error" if dialect == "messages" else "rate_limit_exceeded")


@BY_DIALECT
def test_each_event_is_one_json_object(dialect: Dialect) -> None:
    data = told(dialect, Role(), Say(HOSTILE), Finish())
    for block in data.decode().split("\n\n")[:-1]:
        line = block.split("\n")[-1]
        assert isinstance(json.loads(line.removeprefix("data: ")), dict)


JUNK = [
    b"data: garbage\n\n",
    b"data: [1]\n\n",
    b"data: null\n\n",
    b'data: {"half\n\n',
    b"\x00no field at all\n\n",
    b'data: {"x":"\xff"}\n\n',
]


@BY_DIALECT
@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_seen(dialect: Dialect, junk: bytes) -> None:
    assert read(dialect, True, Seen(200, EVENTS, told(dialect, *FIVE) + junk, True)).junk


@BY_DIALECT
def test_what_follows_the_end_is_junk(dialect: Dialect) -> None:
    for end in (told(dialect, *FIVE, Finish(), Mark()), told(dialect, *FIVE, Error(500))):
        late = end + told(dialect, Say("LATE"))
        assert "after the end" in read(dialect, True, Seen(200, EVENTS, late, True)).junk[0]


def test_comments_and_crlf_are_no_junk() -> None:
    data = b": ping\n\n" + told("chat", *FIVE, Finish(), Mark()).replace(b"\n", b"\r\n") + b":\n\n"
    found = read("chat", True, Seen(200, EVENTS, data, True))
    assert (found.text, found.ended, found.junk) == (TEXT, True, [])
