"""Answers to Anthropic's clients: blocks one after the other, whatever order the events come in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.wire.test_anthropic_answer import START, STOP, closes, delta, ended, opens, sse

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Choice,
    Counted,
    Ended,
    Event,
    Media,
    Problem,
    Refused,
    Reply,
    Request,
    Said,
    Shown,
    Thinking,
    Thought,
    ToolCall,
    Usage,
    fold,
)
from lilliput.wire import anthropic
from lilliput.wire.families import ANTHROPIC, GEMINI, OPENAI

ASKED = Request(model="m", messages=())


def written(*events: Event) -> list[dict[str, Any]]:
    write = anthropic.writer(ASKED, "msg_9", 0)
    out = b"".join(map(write, events)) + write.end()
    docs = []
    for block in out.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        docs.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {docs[-1]['type']}"
    return docs


def blocks(*events: Event) -> list[dict[str, Any]]:
    """The events between message_start and message_delta."""
    docs = written(*events)
    assert (docs[0]["type"], docs[-2]["type"], docs[-1]) == ("message_start", "message_delta", {"type": "message_stop"})
    return docs[1:-2]


def text(index: int, *pieces: str) -> list[dict[str, Any]]:
    return [opens(index, "text", text=""), *(delta(index, "text_delta", text=p) for p in pieces), closes(index)]


def call(index: int, id: str, *pieces: str) -> list[dict[str, Any]]:
    return [
        opens(index, "tool_use", id=id, name="f", input={}),
        *(delta(index, "input_json_delta", partial_json=p) for p in pieces),
        closes(index),
    ]


def thinking(index: int, said: str, signature: str | None = None) -> list[dict[str, Any]]:
    out = [opens(index, "thinking", thinking="", signature="")]
    out += [delta(index, "thinking_delta", thinking=said)] if said else []
    out += [delta(index, "signature_delta", signature=signature)] if signature else []
    return [*out, closes(index)]


CASES: list[tuple[str, list[Event], list[dict[str, Any]]]] = [
    ("nothing", [], []),
    ("text", [Said("a"), Said("b")], text(0, "a", "b")),
    ("a refusal is text", [Said("a"), Refused("b")], text(0, "a", "b")),
    ("another choice", [Said("a"), Said("b", 1), Called(0, "i", "f", 1), Argued(0, "{}", 1)], text(0, "a")),
    (
        "thinking, text, a call, text",
        [
            Thought("h"),
            Thought(signature="s", family=ANTHROPIC),
            Said("a"),
            Called(0, "i", "f"),
            Argued(0, "{}"),
            Said("b"),
        ],
        [*thinking(0, "h", "s"), *text(1, "a"), *call(2, "i", "{}"), *text(3, "b")],
    ),
    ("two thoughts", [Thought("a", signature="s"), Thought("b")], [*thinking(0, "a", "s"), *thinking(1, "b")]),
    (
        "another family's thinking",
        [Thought("a", family=GEMINI), Thought("b", family=GEMINI), Said("c")],
        [*thinking(0, "a")[:-1], *thinking(0, "b", f"{GEMINI}:")[1:], *text(1, "c")],
    ),
    (
        "sealed",
        [Thought("a"), Thought(sealed="x", family=OPENAI), Said("b")],
        [*thinking(0, "a"), opens(1, "redacted_thinking", data=f"{OPENAI}:x"), closes(1), *text(2, "b")],
    ),
    (
        "Gemini's signatures",
        [Said("a"), Thought(signature="t", family=GEMINI), Called(0, "i", "f", signature="g"), Argued(0, "{}")],
        [*text(0, "a"), *thinking(1, "", f"{GEMINI}:t"), *thinking(2, "", f"{GEMINI}:g"), *call(3, "i", "{}")],
    ),
    (
        "calls one after the other",
        [Called(0, "i", "f"), Argued(0, '{"a"'), Argued(0, ":1}"), Called(1, "j", "f"), Argued(1, "{}")],
        [*call(0, "i", '{"a"', ":1}"), *call(1, "j", "{}")],
    ),
    (
        "calls at once",
        [Called(0, "i", "f"), Called(1, "j", "f"), Argued(1, "{"), Argued(0, '{"a"'), Argued(1, "}"), Argued(0, ":1}")],
        [*call(0, "i", '{"a"', ":1}"), *call(1, "j", "{", "}")],
    ),
    (
        "calls without arguments",
        [Called(0, "i", "f"), Called(1, "j", "f"), Called(2, "k", "f"), Argued(2, "{}"), Said("a")],
        [*call(0, "i"), *call(1, "j"), *call(2, "k", "{}"), *text(3, "a")],
    ),
    (
        "arguments after all",
        [Called(0, "i", "f"), Said("a"), Argued(0, "{}")],
        [*call(0, "i"), *text(1, "a")[:-1], delta(0, "input_json_delta", partial_json="{}"), closes(1)],
    ),
    (
        "a custom tool's text",
        [Called(0, "i", "f", kind="custom"), Argued(0, 'a"'), Argued(0, "b")],
        call(0, "i", '{"input":"', 'a\\"', "b", '"}'),
    ),
    ("spoken words", [Shown(Media("audio", data="AA"), transcript="a")], text(0, "a")),
]


@pytest.mark.parametrize(("name", "events", "want"), CASES, ids=[c[0] for c in CASES])
def test_blocks(name: str, events: list[Event], want: list[dict[str, Any]]) -> None:
    assert blocks(*events) == want


def test_a_call_that_waits_is_told_as_soon_as_the_one_before_it_is_whole() -> None:
    write = anthropic.writer(ASKED, "msg_9", 0)
    events = (Called(0, "i", "f"), Called(1, "j", "f"), Argued(1, "{"), Argued(0, "{}"))
    out = [write(e) for e in events]
    assert out[1:3] == [b"", b""]
    assert b'"index":1,"delta"' in out[3]


def test_the_frame() -> None:
    usage = Usage(input=5, cache_read=4, cache_write_5m=3, cache_write_1h=2, audio_in=1, output=7, reasoning=8)
    docs = written(Began("chatcmpl-1", "gpt", 5), Said("a"), Ended("length", "length"), Counted(usage))
    assert docs[0]["message"] == {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "gpt",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": docs[0]["message"]["usage"],
    }
    assert docs[0]["message"]["usage"]["input_tokens"] == 0
    assert docs[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert docs[-2]["usage"] == {
        "input_tokens": 6,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 4,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 2},
        "output_tokens": 15,
        "output_tokens_details": {"thinking_tokens": 8},
    }
    assert written(Counted(usage), Said("a"))[0]["message"]["usage"]["input_tokens"] == 6
    assert written()[0]["message"]["id"] == "msg_9"


@pytest.mark.parametrize(
    ("reason", "native", "calls", "want"),
    [
        ("stop", "stop", False, "end_turn"),
        ("stop", "stop_sequence", False, "stop_sequence"),
        ("stop", "pause_turn", False, "pause_turn"),
        ("stop", "STOP", True, "tool_use"),
        ("tool_calls", "tool_calls", True, "tool_use"),
        ("length", "model_context_window_exceeded", False, "model_context_window_exceeded"),
        ("length", "length", True, "max_tokens"),
        ("content_filter", "SAFETY", False, "refusal"),
        ("error", "error", False, "error"),
        (None, "eos_news", False, "eos_news"),
        (None, None, False, None),
    ],
)
def test_how_it_ended(reason: Any, native: str | None, calls: bool, want: str | None) -> None:
    events: list[Event] = [Called(0, "i", "f"), Argued(0, "{}")] if calls else [Said("a")]
    events.append(Ended(reason, native))
    assert written(*events)[-2]["delta"]["stop_reason"] == want
    assert json.loads(anthropic.write_reply(fold(events), ASKED, "msg_1", 0))["stop_reason"] == want


def test_a_whole_answer() -> None:
    choice = Choice(
        text="a",
        thinking=(Thinking("h", "s", None, ANTHROPIC), Thinking("", None, "x", OPENAI), Thinking("u")),
        calls=(ToolCall("i", "f", '{"a": 1}', signature="g"), ToolCall("j", "f"), ToolCall("k", "f", "{")),
        reason="tool_calls",
    )
    got = json.loads(anthropic.write_reply(Reply(choices=[choice]), ASKED, "msg_1", 0))
    assert (got["id"], got["model"], got["role"], got["type"]) == ("msg_1", "m", "assistant", "message")
    assert got["content"] == [
        {"type": "thinking", "thinking": "h", "signature": "s"},
        {"type": "redacted_thinking", "data": f"{OPENAI}:x"},
        {"type": "thinking", "thinking": "u", "signature": ""},
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "", "signature": f"{GEMINI}:g"},
        {"type": "tool_use", "id": "i", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "j", "name": "f", "input": {}},
        {"type": "tool_use", "id": "k", "name": "f", "input": {"input": "{"}},
    ]
    back = anthropic.read_request(
        json.dumps({"model": "m", "messages": [{"role": "assistant", "content": got["content"]}]}).encode(), ""
    )
    assert [p.signature for p in back.messages[0].parts if isinstance(p, ToolCall)] == ["g", None, None]
    assert back.messages[0].parts[1] == Thinking("", None, "x", OPENAI)


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (Problem("client", "x"), "invalid_request_error"),
        (Problem("client", "x", 413), "request_too_large"),
        (Problem("auth", "x"), "authentication_error"),
        (Problem("permission", "x"), "permission_error"),
        (Problem("missing", "x"), "not_found_error"),
        (Problem("limit", "x"), "rate_limit_error"),
        (Problem("provider", "x"), "api_error"),
        (Problem("provider", "x", 503), "overloaded_error"),
        (Problem("provider_auth", "x"), "api_error"),
        (Problem("timeout", "x"), "timeout_error"),
        (Problem("server", "x"), "overloaded_error"),
    ],
)
def test_problems(problem: Problem, kind: str) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "x"}, "request_id": "req_1"}
    assert json.loads(anthropic.write_problem(problem, "req_1")) == body
    event = anthropic.writer(ASKED, "msg_1", 0).problem(problem)
    assert event.startswith(b'event: error\ndata: {"type":"error"')
    assert event.endswith(b"\n\n")
    assert anthropic.watch(anthropic.check(b'{"model":"m","max_tokens":1,"messages":[]}', "")).problem(problem) == event


def _watched(raw: bytes) -> tuple[bytes, Any]:
    watch = anthropic.watch(anthropic.check(b'{"model":"m","max_tokens":1,"messages":[]}', ""))
    return watch.feed(raw), watch


def test_a_stream_that_passes_is_held_until_something_is_said() -> None:
    quiet = sse(START, {"type": "ping"}, opens(0, "text", text=""))
    out, watch = _watched(quiet)
    assert (out, watch.started) == (b"", False)
    said = sse(delta(0, "text_delta", text="a"))
    assert watch.feed(said) == quiet + said
    assert watch.started
    assert watch.end() == b""
    assert watch.trouble is not None
    assert watch.trouble.code == "upstream_truncated"


def test_an_error_before_anything_is_said_leaves_nothing_given() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    out, watch = _watched(sse(START, error))
    assert (out, watch.started, watch.trouble.status) == (b"", False, 503)
    out, watch = _watched(sse(START, opens(0, "tool_use", id="i", name="f"), error))
    assert out == sse(START, opens(0, "tool_use", id="i", name="f"))
    assert (watch.started, watch.done, watch.trouble.say) == (True, False, "Overloaded")


def test_nothing_passes_after_the_end_and_no_name_breaks_out() -> None:
    out, watch = _watched(sse(START, ended(), STOP) + b"data: {broken\n\n" + b'data: {"type":"a\\nevent: b"}\n\n')
    assert out == sse(START, ended(), STOP)
    assert (watch.done, watch.trouble) == (True, None)
    out, _ = _watched(b'data: {"type":"a\\nevent: b"}\n\n' + sse(STOP))
    assert out == sse(STOP)
