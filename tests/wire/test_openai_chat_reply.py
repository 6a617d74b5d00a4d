"""Events as an answer to a client of the chat dialect, streamed and whole."""

from __future__ import annotations

import json
from typing import Any

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
    Refused,
    Reply,
    Request,
    Said,
    Scored,
    Shown,
    Thinking,
    Thought,
    ToolCall,
    Usage,
    fold,
)
from lilliput.wire import openai as chat

ASKED = Request(model="asked", messages=())
DONE = b"data: [DONE]\n\n"


def _sse(*chunks: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(c).encode() for c in chunks)


USAGE = Usage(input=3, cache_read=2, cache_write_5m=1, output=4, reasoning=5)
USAGE_JSON = {
    "prompt_tokens": 6,
    "completion_tokens": 9,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0, "cache_write_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 0},
}
ANSWER: list[Event] = [
    Began("id", "m", 7),
    Thought("hm"),
    Thought("", 0, "sig"),
    Thought("", 0, None, "sealed"),
    Said('a"\n\u2028'),
    Called(0, "c", "f"),
    Argued(0, "{}"),
    Called(1, "d", "g", 0, "custom"),
    Argued(1, "4"),
    Refused("no", 1),
    Scored(Raw(b'[{"token":"a"}]')),
    Scored(Raw(b'[{"token":"b"}]')),
    Shown(Media("image", "image/png", "AAAA")),
    Shown(Media("audio", None, "BBBB", name="x"), 1, "hello"),
    Counted(USAGE),
    Ended("tool_calls", "tool_use"),
    Ended(None, "banana", 1),
]


def _chunks(r: Request, events: list[Event]) -> list[dict[str, Any]]:
    write = chat.writer(r, "chatcmpl-9", 99)
    raw = b"".join(map(write, events)) + write.end()
    assert raw.endswith(DONE)
    return [json.loads(line[6:]) for line in raw.split(b"\n\n")[:-2]]


def test_a_stream_says_the_same_again() -> None:
    chunks = _chunks(ASKED, ANSWER)
    assert all(
        (c["id"], c["model"], c["created"], c["object"]) == ("id", "m", 7, "chat.completion.chunk") for c in chunks
    )
    assert all("usage" not in c and len(c["choices"]) == 1 for c in chunks)
    roles = [c["choices"][0]["index"] for c in chunks if "role" in c["choices"][0]["delta"]]
    assert roles == [0, 1]
    custom = {"tool_calls": [{"index": 1, "custom": {"input": "4"}}]}
    assert [c["choices"][0]["delta"] for c in chunks].count(custom) == 1
    again, trouble = feed(_sse(*chunks) + DONE, True)
    assert trouble is None
    want, got = fold(ANSWER), fold(again)
    assert got.usage is None
    for a, b in zip(want.choices, got.choices, strict=True):
        native = {0: "tool_calls", 1: "banana"}[a.index]
        assert (b.text, b.thinking, b.refusal, b.calls, b.media, b.reason, b.native, len(b.logprobs)) == (
            *(a.text, a.thinking, a.refusal, a.calls, a.media, a.reason, native, len(a.logprobs)),
        )


def test_usage_is_the_last_chunk_and_only_for_who_asked() -> None:
    asked = Request(model="asked", messages=(), include_usage=True, stream=True)
    chunks = _chunks(asked, ANSWER)
    assert chunks[-1] == {
        **{"id": "id", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": []},
        "usage": USAGE_JSON,
    }
    assert all(c["usage"] is None for c in chunks[:-1])
    assert all(c["choices"] for c in _chunks(asked, [Said("a"), Ended("stop")]))


def test_a_whole_answer() -> None:
    whole = json.loads(chat.write_reply(fold(ANSWER), ASKED))
    first, second = whole["choices"]
    assert first["message"] == {
        "role": "assistant",
        "content": 'a"\n\u2028',
        "refusal": None,
        "reasoning_content": "hm",
        "reasoning_details": [
            {"type": "reasoning.text", "text": "hm", "signature": "sig"},
            {"type": "reasoning.encrypted", "data": "sealed"},
        ],
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "d", "type": "custom", "custom": {"name": "g", "input": "4"}},
        ],
        "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
    }
    assert first["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}
    assert second["message"]["audio"] == {"id": "x", "data": "BBBB", "transcript": "hello"}
    assert (second["message"]["content"], second["message"]["refusal"]) == (None, "no")
    assert (first["finish_reason"], second["finish_reason"]) == ("tool_calls", "banana")
    assert whole["usage"] == USAGE_JSON


def test_what_the_provider_did_not_say_is_filled_in() -> None:
    whole = json.loads(chat.write_reply(Reply(), ASKED, "chatcmpl-9", 99))
    assert (whole["id"], whole["model"], whole["created"], whole["usage"]) == ("chatcmpl-9", "asked", 99, None)
    assert _chunks(ASKED, [Said("a")])[0]["id"] == "chatcmpl-9"


def test_who_asks_in_the_legacy_form_is_answered_in_it() -> None:
    legacy = Request(model="m", messages=(), extra={"functions": Raw(b"[]")})
    events: list[Event] = [Called(0, "c", "f"), Argued(0, "{"), Argued(0, "}"), Ended("tool_calls")]
    whole = json.loads(chat.write_reply(fold(events), legacy))["choices"][0]
    assert whole["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert whole["finish_reason"] == "function_call"
    streamed = fold(feed(_sse(*_chunks(legacy, events)) + DONE, True)[0]).choices[0]
    assert (streamed.calls, streamed.native) == ((ToolCall("call_chatcmpl9_0", "f", "{}"),), "function_call")


def test_sealed_text_is_never_open_reasoning() -> None:
    events: list[Event] = [Thought("secret", 0, None, "sealed"), Ended("stop")]
    assert b"reasoning_content" not in chat.write_reply(fold(events), ASKED)
    chunks = _chunks(ASKED, events)
    assert "reasoning_content" not in json.dumps(chunks)
    assert fold(feed(_sse(*chunks) + DONE, True)[0]).choices[0].thinking == (Thinking("secret", None, "sealed"),)
