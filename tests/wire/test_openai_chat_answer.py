"""A provider's chat answer as events, oddity by oddity."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from tests.wire.chat_recordings import feed

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Counted,
    Ended,
    Event,
    Media,
    Problem,
    Refused,
    Request,
    Said,
    Scored,
    Shown,
    Thought,
    fold,
)
from lilliput.wire import openai as chat

ASKED = Request(model="asked", messages=())
DONE = b"data: [DONE]\n\n"


def _sse(*chunks: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(c).encode() for c in chunks)


def _delta(finish: str | None = None, /, index: int | None = 0, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def _piece(
    index: int | None = None, id: str | None = None, name: str | None = None, args: Any = None
) -> dict[str, Any]:
    call = {"index": index, "id": id, "function": {"name": name, "arguments": args}}
    return _delta(tool_calls=[{k: v for k, v in call.items() if v is not None}])


def _events(*chunks: Any, finish: str | None = "stop") -> list[Event]:
    """What comes of these chunks, but for the end that is added to them."""
    events, trouble = feed(_sse(*chunks, *([_delta(finish)] if finish else [])) + DONE, True)
    assert trouble is None, trouble.say
    return [e for e in events if not isinstance(e, Ended)]


STREAMS: list[tuple[str, list[Any], list[Event]]] = [
    ("text", [_delta(content="a"), _delta(content="b")], [Said("a"), Said("b")]),
    ("a role alone", [_delta(role="assistant", content="")], []),
    (
        "who answers, once",
        [{"id": "x", "model": "m", "created": 5, **_delta(content="a")}] * 2,
        [Began("x", "m", 5), Said("a"), Said("a")],
    ),
    (
        "who answers, late",
        [
            {"id": "", "model": "", "created": 0, "choices": []},
            {"id": "x", "model": "m", "created": "7", "choices": []},
        ],
        [Began("x", "m", 7)],
    ),
    ("no choices at all", [{"choices": [], "prompt_filter_results": [{}]}, {}, {"choices": None}], []),
    ("refusal", [_delta(refusal="no")], [Refused("no")]),
    ("several choices", [_delta(index=1, content="b"), _delta(index=0, content="a")], [Said("b", 1), Said("a")]),
    (
        "reasoning under two names",
        [_delta(reasoning="r", reasoning_content="r", reasoning_details=[{"text": "r"}])],
        [Thought("r")],
    ),
    (
        "reasoning in details alone",
        [_delta(reasoning_details=[{"text": "r"}, {"summary": "s"}])],
        [Thought("r"), Thought("s")],
    ),
    (
        "a signature",
        [_delta(reasoning="r", reasoning_details=[{"text": "r", "signature": "s"}])],
        [Thought("r"), Thought("", 0, "s")],
    ),
    (
        "a sealed block",
        [_delta(reasoning_details=[{"type": "reasoning.encrypted", "data": "d"}])],
        [Thought("", 0, None, "d")],
    ),
    (
        "Mistral's content list",
        [
            _delta(
                content=[
                    {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                    {"type": "text", "text": "a"},
                ]
            )
        ],
        [Thought("t"), Said("a")],
    ),
    ("message for delta", [{"choices": [{"index": 0, "message": {"content": "a"}}]}], [Said("a")]),
    (
        "message beside delta",
        [{"choices": [{"index": 0, "message": {"content": "all of it"}, "delta": {"content": "it"}}]}],
        [Said("it")],
    ),
    (
        "a call in pieces",
        [_piece(0, "a", "f", ""), _piece(0, args='{"x"'), _piece(0, args=":1}")],
        [Called(0, "a", "f"), Argued(0, '{"x"'), Argued(0, ":1}")],
    ),
    (
        "parallel calls",
        [_piece(0, "a", "f", "1"), _piece(1, "b", "g", "2"), _piece(0, args="3")],
        [Called(0, "a", "f"), Argued(0, "1"), Called(1, "b", "g"), Argued(1, "2"), Argued(0, "3")],
    ),
    (
        "calls without an index",
        [_piece(id="a", name="f", args="{}"), _piece(id="b", name="f", args="{}")],
        [Called(0, "a", "f"), Argued(0, "{}"), Called(1, "b", "f"), Argued(1, "{}")],
    ),
    (
        "a piece without an index",
        [_piece(id="a", name="f", args="1"), _piece(args="2")],
        [Called(0, "a", "f"), Argued(0, "1"), Argued(0, "2")],
    ),
    (
        "a new id under an old index",
        [_piece(0, "a", "f", "1"), _piece(0, "b", "g", "2"), _piece(0, args="3")],
        [Called(0, "a", "f"), Argued(0, "1"), Called(1, "b", "g"), Argued(1, "2"), Argued(1, "3")],
    ),
    (
        "an id repeated",
        [_piece(0, "a", "f", "1"), _piece(0, "a", "f", "2")],
        [Called(0, "a", "f"), Argued(0, "1"), Argued(0, "2")],
    ),
    ("a piece of nothing", [_piece(-1), _piece(7, "a", "f")], [Called(0, "a", "f")]),
    (
        "arguments before the name",
        [_piece(0, "a", None, "1"), _piece(0, None, "f", "2")],
        [Called(0, "a", "f"), Argued(0, "1"), Argued(0, "2")],
    ),
    ("arguments as an object", [_piece(0, "a", "f", {"x": 1})], [Called(0, "a", "f"), Argued(0, '{"x":1}')]),
    (
        "no id",
        [{"id": "chatcmpl-123", **_piece(0, "", "f", "")}],
        [Began("chatcmpl-123"), Called(0, "call_chatcmpl123_0", "f")],
    ),
    ("no id anywhere", [_piece(0, None, "f")], [Called(0, "call_0", "f")]),
    (
        "the legacy call",
        [_delta(function_call={"name": "f", "arguments": ""}), _delta(function_call={"arguments": "{}"})],
        [Called(0, "call_0", "f"), Argued(0, "{}")],
    ),
    ("an empty legacy call", [_delta(function_call={"name": "", "arguments": ""})], []),
    (
        "a custom call",
        [_delta(tool_calls=[{"index": 0, "id": "a", "type": "custom", "custom": {"name": "g", "input": "4"}}])],
        [Called(0, "a", "g", 0, "custom"), Argued(0, "4")],
    ),
    (
        "an empty custom beside a function",
        [_delta(tool_calls=[{"id": "a", "type": "function", "custom": {"name": ""}, "function": {"name": "f"}}])],
        [Called(0, "a", "f")],
    ),
    (
        "logprobs",
        [{"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"token": "a"}]}}]}],
        [Said("a"), Scored(Raw(b'[{"token": "a"}]'))],
    ),
    ("empty logprobs", [{"choices": [{"index": 0, "delta": {}, "logprobs": {"content": None}}]}], []),
    (
        "an image",
        [_delta(images=[{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])],
        [Shown(Media("image", "image/png", "AAAA"))],
    ),
    (
        "sound",
        [_delta(audio={"id": "i", "data": "AAAA"}), _delta(audio={"transcript": "t"})],
        [Shown(Media("audio", None, "AAAA", name="i")), Shown(Media("audio", None, ""), 0, "t")],
    ),
    (
        "unknown fields",
        [
            {
                "p": "xx",
                "obfuscation": "y",
                "choices": [{"index": 0, "delta": {"content": "a", "token_id": 5}, "matched_stop": 7}],
            }
        ],
        [Said("a")],
    ),
]


@pytest.mark.parametrize(("name", "chunks", "want"), STREAMS, ids=[s[0] for s in STREAMS])
def test_streams(name: str, chunks: list[Any], want: list[Event]) -> None:
    assert _events(*chunks) == want


def test_usage_wherever_it_stands() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    for chunk in (
        {"choices": [], "usage": usage},
        {**_delta(content="a"), "usage": usage},
        {"choices": [], "x_groq": {"id": "x", "usage": usage}},
    ):
        counted = [e.usage for e in _events(chunk, {"choices": [], "usage": None}) if isinstance(e, Counted)]
        assert [(u.prompt_tokens, u.completion_tokens) for u in counted] == [(5, 2)]


def test_usage_in_every_chunk_counts_when_it_changes_and_the_last_one_holds() -> None:
    def chunk(n: int) -> dict[str, Any]:
        return {**_delta(content="a"), "usage": {"prompt_tokens": 5, "completion_tokens": n}}

    events = _events(chunk(1), chunk(2), chunk(2))
    assert len([e for e in events if isinstance(e, Counted)]) == 2
    usage = fold(events).usage
    assert usage is not None
    assert usage.completion_tokens == 2


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("error", "error"),
        ("MODEL_ARMOR", None),
        ("banana", None),
        (7, None),
    ],
)
def test_finish_words(word: Any, reason: str | None) -> None:
    """A word that we do not know is told as it came, in both kinds of answer, and is never "stop"."""
    events, _ = feed(_sse(_delta(word)) + DONE, True)
    assert events == [Ended(reason, str(word))]  # type: ignore[arg-type]
    written = json.loads(chat.write_reply(fold(events), ASKED))
    assert written["choices"][0]["finish_reason"] == (reason or str(word))
    assert b'"finish_reason":"%b"' % (reason or str(word)).encode() in chat.writer(ASKED)(events[0])


@pytest.mark.parametrize("word", ["", None])
def test_an_end_without_a_word(word: str | None) -> None:
    """Snowflake: [DONE], or a whole answer, and no reason. The last word wins where there are several."""
    assert feed(_sse(_delta(word, content="a")) + DONE, True) == ([Said("a"), Ended(None)], None)
    assert feed(json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": word}]}).encode(), False) == (
        [Said("a"), Ended(None)],
        None,
    )
    assert feed(_sse(_delta("stop"), _delta("length"), _delta(None)), True) == ([Ended("length", "length")], None)


ENDS: list[tuple[str, bytes, bool, str | None]] = [
    ("nothing", b"", True, "upstream_truncated"),
    ("no finish and no [DONE]", _sse(_delta(content="a")), True, "upstream_truncated"),
    ("a finish and no [DONE]", _sse(_delta("stop")), True, None),
    ("[DONE] alone", DONE, True, None),
    ("one of two choices finished", _sse(_delta(content="a", index=1), _delta("stop")), True, "upstream_truncated"),
    ("a last event without its blank line", _sse(_delta(content="a")) + b"data: [DONE]", True, None),
    ("half an event after the finish", _sse(_delta("stop")) + b'data: {"choices": [', True, "upstream_truncated"),
    ("half a field after the finish", _sse(_delta("stop")) + b"dat", True, "upstream_truncated"),
    ("half a [DONE]", _sse(_delta("stop")) + b"data: [DON", True, "upstream_truncated"),
    ("a comment after the finish", _sse(_delta("stop")) + b": bye", True, None),
    ("what comes after [DONE]", _sse(_delta("stop")) + DONE + b"data: garbage\n\n", True, None),
    ("no JSON", _sse(_delta(content="a")) + b"data: oops\n\n" + DONE, True, "upstream_invalid"),
    ("JSON of another kind", b"data: [1]\n\n" + DONE, True, "upstream_invalid"),
    ("another type", _sse(_delta(content=5)) + DONE, True, "upstream_invalid"),
    ("a choice number beyond reason", _sse(_delta(content="a", index=10**9)) + DONE, True, "upstream_invalid"),
    ("a call without end or name", _sse(*[_piece(0, "a", None, "x")] * 1025) + DONE, True, "upstream_invalid"),
    ("calls without end", _sse(*[_piece(i, "a", "f") for i in range(1025)]) + DONE, True, "upstream_invalid"),
    ("nothing, whole", b"", False, "upstream_truncated"),
    ("white space, whole", b" \n", False, "upstream_truncated"),
    ("half, whole", b'{"choices":[{"message":{"content":"a', False, "upstream_truncated"),
    ("no choices, whole", b"{}", False, "upstream_invalid"),
    ("a web page, whole", b"<html>", False, "upstream_invalid"),
    ("deep, whole", b'{"choices":' + b"[" * 5000, False, "upstream_invalid"),
    ("an image that is none", _sse(_delta(images=[{"image_url": {"url": "data:x"}}])) + DONE, True, "upstream_invalid"),
]


@pytest.mark.parametrize(("name", "raw", "stream", "code"), ENDS, ids=[e[0] for e in ENDS])
def test_ends(name: str, raw: bytes, stream: bool, code: str | None) -> None:
    events, trouble = feed(raw, stream)
    assert (trouble and trouble.code) == code
    assert not (trouble and any(isinstance(e, Ended) for e in events))
    if trouble:
        assert (trouble.fault, trouble.status) == ("provider", 502)


ERRORS: list[tuple[str, bytes, bool, int | None]] = [
    ("in a stream", _sse(_delta(content="a"), {"error": {"code": 429, "message": "m"}}), True, 429),
    ("in a stream, then [DONE]", _sse(_delta(content="a"), {"error": {"code": 503, "message": "m"}}) + DONE, True, 503),
    ("beside a choice", _sse({**_delta("error"), "error": {"code": 502, "message": "m"}}), True, 502),
    (
        "in a choice",
        _sse({"choices": [{"delta": {}, "error": {"code": 400, "message": "m"}, "finish_reason": "error"}]}),
        True,
        400,
    ),
    (
        "after the finish, beside a choice",
        _sse(_delta("length"), {**_delta(), "error": {"code": 400, "message": "m"}}),
        True,
        None,
    ),
    ("Groq's", _sse({"choices": [], "x_groq": {"error": "m"}}), True, 502),
    ("vLLM's", _sse({"object": "error", "message": "m", "code": 400}), True, 400),
    ("null is none", _sse({**_delta("stop"), "error": None}), True, None),
    ("whole", b'{"error": {"message": "m", "code": "content_filter"}}', False, 400),
    ("whole, with choices", b'{"error": {"message": "m"}, "choices": []}', False, 502),
    ("whole, detail", b'{"detail": "m"}', False, 502),
    ("whole, where a stream was asked for", b'\n{"error": {"message": "m", "code": 429}}', True, 429),
]


@pytest.mark.parametrize(("name", "raw", "stream", "status"), ERRORS, ids=[e[0] for e in ERRORS])
def test_errors_inside_a_success(name: str, raw: bytes, stream: bool, status: int | None) -> None:
    _, trouble = feed(raw, stream)
    assert (trouble and (trouble.status, trouble.say)) == (status and (status, "m"))


def test_what_was_said_before_the_trouble_is_given_first() -> None:
    reader = chat.reader()
    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    raw = _sse({**_delta(content="a"), "usage": usage}, {"error": {"message": "m"}})
    events = reader(raw)
    assert [type(e) for e in events] == [Said, Counted]
    assert reader.trouble is not None
    for more in (b"data: {}\n\n", b""):
        with pytest.raises(Problem, match=r"^m$"):
            reader(more)


def test_a_whole_answer_though_a_stream_was_asked_for() -> None:
    raw = b' {"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}'
    for cuts in ([], list(range(1, len(raw)))):
        assert feed(raw, True, cuts) == ([Said("a"), Ended("stop", "stop")], None)
