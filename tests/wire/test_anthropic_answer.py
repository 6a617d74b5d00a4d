"""Anthropic answers, good and odd: what their events are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.wire.anthropic_recordings import feed

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Counted,
    Ended,
    Event,
    Problem,
    Said,
    Thought,
    ToolCall,
    Usage,
    fold,
)
from lilliput.wire import anthropic
from lilliput.wire.families import ANTHROPIC

START = {"type": "message_start", "message": {"id": "msg_1", "model": "claude", "content": [], "usage": {}}}
STOP = {"type": "message_stop"}


def ended(reason: str | None = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage or None}


def opens(index: int | None, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def delta(index: int | None, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def closes(index: int | None) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def sse(*events: Any) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


def told(*events: Any) -> list[Event]:
    got, trouble = feed(sse(*events), True)
    assert trouble is None, trouble
    return [e for e in got if not isinstance(e, Began | Counted)]


CASES: list[tuple[str, list[Any], list[Event]]] = [
    ("empty", [], []),
    ("ping and unknown events", [{"type": "ping"}, {"type": "news", "delta": {"text": "x"}}], []),
    ("text at the start", [opens(0, "text", text="a"), delta(0, "text_delta", text="b")], [Said("a"), Said("b")]),
    ("no start", [delta(0, "text_delta", text="b")], [Said("b")]),
    ("no index", [opens(None, "text", text=""), delta(None, "text_delta", text="b"), closes(None)], [Said("b")]),
    (
        "thinking",
        [
            opens(0, "thinking", thinking="", signature=""),
            delta(0, "thinking_delta", thinking="a"),
            delta(0, "signature_delta", signature="s"),
            closes(0),
            opens(1, "redacted_thinking", data="d"),
        ],
        [
            Thought("a", family=ANTHROPIC),
            Thought(signature="s", family=ANTHROPIC),
            Thought(sealed="d", family=ANTHROPIC),
        ],
    ),
    ("no arguments", [opens(0, "tool_use", id="i", name="f", input={}), closes(0)], [Called(0, "i", "f")]),
    (
        "input at the start",
        [opens(0, "tool_use", id="i", name="f", input={"a": 1}), closes(0)],
        [Called(0, "i", "f"), Argued(0, '{"a": 1}')],
    ),
    (
        "input at the start, never closed",
        [opens(0, "tool_use", id="i", name="f", input={"a": 1})],
        [Called(0, "i", "f"), Argued(0, '{"a": 1}')],
    ),
    (
        "input twice",
        [opens(0, "tool_use", id="i", name="f", input={"a": 1}), delta(0, "input_json_delta", partial_json="{}")],
        [Called(0, "i", "f"), Argued(0, "{}")],
    ),
    (
        "one index for two calls",
        [
            opens(0, "tool_use", id="i", name="f"),
            delta(0, "input_json_delta", partial_json="1"),
            opens(0, "tool_use", id="j", name="g"),
            delta(0, "input_json_delta", partial_json="2"),
        ],
        [Called(0, "i", "f"), Argued(0, "1"), Called(1, "j", "g"), Argued(1, "2")],
    ),
    (
        "one index for two calls that came whole",
        [opens(0, "tool_use", id="i", name="f", input={"a": 1}), opens(0, "tool_use", id="j", name="g")],
        [Called(0, "i", "f"), Argued(0, '{"a": 1}'), Called(1, "j", "g")],
    ),
    (
        "one id for two calls",
        [opens(0, "tool_use", id="i", name="f"), opens(1, "tool_use", id="i", name="f")],
        [Called(0, "i", "f"), Called(1, "toolu_msg_1_1", "f")],
    ),
    ("a call without an id", [opens(0, "tool_use", name="f")], [Called(0, "toolu_msg_1_0", "f")]),
    (
        "server tools",
        [
            opens(0, "server_tool_use", id="s", name="web_search", input={"q": 1}),
            delta(0, "input_json_delta", partial_json='{"q"'),
            closes(0),
            opens(1, "web_search_tool_result", tool_use_id="s", content=[]),
            opens(2, "text", text="", citations=[]),
            delta(2, "citations_delta", citation={}),
            delta(2, "text_delta", text="a"),
        ],
        [Said("a")],
    ),
]


@pytest.mark.parametrize(("name", "events", "want"), CASES, ids=[c[0] for c in CASES])
def test_blocks(name: str, events: list[Any], want: list[Event]) -> None:
    assert told(START, *events, ended(), STOP) == [*want, Ended("stop", "end_turn")]


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", None),
        (None, None),
    ],
)
def test_how_it_ended(native: str | None, reason: str | None) -> None:
    assert told(START, ended(native), STOP) == [Ended(reason, native)]  # type: ignore[arg-type]
    whole, _ = feed(json.dumps({"id": "m", "content": [], "stop_reason": native}).encode(), False)
    assert whole[-1] == Ended(reason, native)  # type: ignore[arg-type]


USAGES: list[tuple[str, dict[str, Any], dict[str, Any], Usage]] = [
    ("plain", {"input_tokens": 3, "output_tokens": 1}, {"output_tokens": 9}, Usage(input=3, output=9)),
    ("corrected", {"input_tokens": 3}, {"input_tokens": 7, "output_tokens": 9}, Usage(input=7, output=9)),
    ("null says nothing", {"input_tokens": 3}, {"input_tokens": None, "output_tokens": 9}, Usage(input=3, output=9)),
    (
        "cache",
        {
            "input_tokens": 1,
            "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        },
        {"output_tokens": 2, "output_tokens_details": {"thinking_tokens": 2}},
        Usage(input=1, cache_read=5, cache_write_5m=10, cache_write_1h=20, reasoning=2),
    ),
    (
        "only the split",
        {"input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 20}},
        {},
        Usage(input=1, cache_write_1h=20),
    ),
    (
        "absurd",
        {"input_tokens": -1, "cache_creation_input_tokens": 5, "cache_creation": {"ephemeral_1h_input_tokens": 9}},
        {"output_tokens": 2, "output_tokens_details": {"thinking_tokens": 3}},
        Usage(
            cache_write_1h=5,
            reasoning=2,
            doubts=("ephemeral_1h_input_tokens", "thinking_tokens", "input_tokens"),
        ),
    ),
]


@pytest.mark.parametrize(("name", "first", "later", "want"), USAGES, ids=[u[0] for u in USAGES])
def test_usage(name: str, first: dict[str, Any], later: dict[str, Any], want: Usage) -> None:
    start = {**START, "message": {**START["message"], "usage": first}}  # type: ignore[dict-item]
    events, trouble = feed(sse(start, ended(**later), STOP), True)
    assert trouble is None
    usage = fold(events).usage
    assert usage is not None
    assert usage.given is not None
    assert Usage(**{f: getattr(usage, f) for f in usage.__struct_fields__ if f != "given"}) == want


ERRORS = [
    ("overloaded_error", "provider", 503),
    ("rate_limit_error", "limit", 429),
    ("api_error", "provider", 502),
    ("invalid_request_error", "client", 400),
    ("not_found_error", "missing", 404),
    ("authentication_error", "provider_auth", 502),
    ("timeout_error", "timeout", 504),
    ("news", "provider", 502),
]


@pytest.mark.parametrize(("kind", "fault", "status"), ERRORS)
def test_an_error_inside_a_stream(kind: str, fault: str, status: int) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "No."}}
    events, trouble = feed(sse(START, delta(0, "text_delta", text="a"), error), True)
    assert trouble is not None
    assert (trouble.say, trouble.fault, trouble.status, trouble.kind) == ("No.", fault, status, kind)
    assert Said("a") in events
    whole, trouble = feed(json.dumps(error).encode(), True)  # a stream was asked for, plain JSON came
    assert trouble is not None
    assert (whole, trouble.say, trouble.status) == ([], "No.", status)


def test_too_long_a_prompt_has_its_own_code() -> None:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}
    assert anthropic.read_problem(400, json.dumps(error).encode()).code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "upstream_truncated"),
        (sse(START), "upstream_truncated"),
        (sse(START, delta(0, "text_delta", text="a"), ended()), "upstream_truncated"),
        (sse(START, ended(), STOP)[:-4], "upstream_truncated"),
        (sse(START) + b"data: {nonsense}\n\n", "upstream_invalid"),
        (sse(START, delta(0, "input_json_delta", partial_json="{")), "upstream_invalid"),
    ],
)
def test_what_is_not_whole_is_trouble(raw: bytes, code: str) -> None:
    events, trouble = feed(raw, True)
    assert trouble is not None
    assert trouble.code == code
    assert not any(isinstance(e, Ended) for e in events)


def test_the_last_event_may_lack_its_blank_line() -> None:
    assert feed(sse(START, ended(), STOP)[:-1], True)[1] is None


def test_events_may_come_split_already() -> None:
    reader = anthropic.reader(True)
    got = [
        e
        for event in (START, opens(0, "tool_use", id="i", name="f", input={"a": 1}), ended("tool_use"), STOP)
        for e in reader.event(json.dumps(event).encode())
    ]
    assert fold([*got, *reader.end()]).choices[0].calls == (ToolCall("i", "f", '{"a": 1}'),)
    short = anthropic.reader(True)
    short.event(json.dumps(START).encode())
    with pytest.raises(Problem, match="before it was whole"):
        short.end()
