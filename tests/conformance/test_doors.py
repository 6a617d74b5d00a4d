"""What the harness sends: requests in every client dialect keep their facts, and cut streams are cut where they say."""

from __future__ import annotations

import functools
import struct
import zlib
from typing import Any

import pytest
from tests.conformance import cases, operations
from tests.conformance.doors import DOORS
from tests.conformance.harness import WITHOUT
from tests.conformance.kit import Cuts, Interaction, Kit
from tests.conformance.need import recordings

PICTURE = "data:image/png;base64,aGk="
CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "user", "content": "and?"},
    ],
    "tools": [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}},
    ],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "out", "schema": {"type": "object"}}},
    "temperature": 0.5,
    "max_tokens": 9,
}


@functools.cache
def kit() -> Kit:
    return Kit(recordings())


@pytest.mark.parametrize("door", sorted(DOORS))
def test_a_door_writes_all_facts(door: str) -> None:
    way = DOORS[door]
    want = kit().expect.facts_of("openai.chat", "", CHAT)
    got = kit().expect.facts_of(way.api, way.url("m", False), way.write(CHAT))
    assert kit().expect.compare(want, got) == []


@pytest.mark.parametrize("door", sorted(DOORS))
def test_recorded_requests_keep_their_facts(door: str) -> None:
    way, expect = DOORS[door], kit().expect
    tried = lost = 0
    for i in kit().interactions[::6]:
        asked = expect.request_facts(i) if cases.judged(i) else None
        if asked is None or expect.compare(
            asked, expect.facts_of("openai.chat", "", body := expect.to_openai_request(asked))
        ):
            continue
        got = expect.facts_of(way.api, way.url("m", asked["stream"]), way.write(body))
        tried += 1
        lost += any(not d.startswith(WITHOUT) for d in expect.compare(asked, got))
    assert tried > 300
    assert lost <= 0.03 * tried, "sound, films and files in tool results have no place everywhere; little else is lost"


def frame(kind: bytes, payload: bytes) -> bytes:
    head = b"\x0b:event-type\x07" + struct.pack(">H", len(kind)) + kind
    start = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    body = start + struct.pack(">I", zlib.crc32(start)) + head + payload
    return body + struct.pack(">I", zlib.crc32(body))


STREAMS: list[tuple[str, str, list[bytes], int]] = [
    (
        "data events",
        "openai.chat",
        [b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'] * 2 + [b"data: [DONE]\n\n"],
        2,
    ),
    (
        "CRLF",
        "gemini.generate",
        [b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\r\n\r\n'] * 2
        + [b'data: {"candidates":[{"finishReason":"STOP"}]}\r\n\r\n'],
        2,
    ),
    (
        "named events",
        "anthropic.messages",
        [
            b'event: message_start\ndata: {"type":"message_start","message":{"usage":{}}}\n\n',
            b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n',
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        ],
        1,
    ),
    ("lines", "ollama.chat", [b'{"message":{"content":"a"}}\n', b'{"done":true,"done_reason":"stop"}\n'], 1),
    (
        "frames",
        "bedrock.converse",
        [
            frame(b"contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"a"}}'),
            frame(b"messageStop", b'{"stopReason":"end_turn"}'),
            frame(b"metadata", b"{}"),
        ],
        1,
    ),
]


def streamed(api: str, raw: bytes) -> Interaction:
    return {"api": api, "id": "i", "kind": "stream", "response": {"status": 200, "body": raw.decode("latin-1")}}


@pytest.mark.parametrize(("api", "events", "finish"), [row[1:] for row in STREAMS], ids=[row[0] for row in STREAMS])
def test_cuts(monkeypatch: pytest.MonkeyPatch, api: str, events: list[bytes], finish: int) -> None:
    raw = b"".join(events)
    monkeypatch.setattr(Kit, "body", lambda self, interaction: raw)
    cuts = Cuts(kit(), streamed(api, raw))
    assert cuts.finish == finish
    assert [cuts.closed(n) for n in range(len(events) + 1)] == [b"".join(events[:n]) for n in range(len(events) + 1)]
    assert cuts.is_over(len(raw))
    assert not cuts.is_over(cuts.ends[0])


def test_cuts_of_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    said = b'{"candidates":[{"content":{"parts":[{"text":"\xc3\xa4]{"}]}}]}'
    raw = b"[" + said + b'\n,\r\n{"candidates":[{"finishReason":"STOP"}]}]\n'
    monkeypatch.setattr(Kit, "body", lambda self, interaction: raw)
    cuts = Cuts(kit(), streamed("gemini.generate", raw))
    assert (cuts.finish, len(cuts.ends)) == (1, 2)
    assert cuts.closed(1) == raw[: raw.index(b"\n,")] + b"]"
    assert cuts.closed(2) == raw.rstrip()


def test_a_form() -> None:
    body, kind = operations.Asked({"language": "en"}, [], b"sound").body("p/m")
    interaction = {"request": {"headers": {"content-type": kind}, "body": body.decode("latin-1")}}
    assert operations._form(kit(), interaction) == ({"language": "en", "model": "p/m"}, b"sound")


BODIES: list[tuple[dict[str, Any], list[str]]] = [
    ({"input": "a"}, ["a"]),
    ({"input": ["a", "b"]}, ["a", "b"]),
    ({"texts": ["a"]}, ["a"]),
    ({"inputText": "a"}, ["a"]),
    ({"requests": [{"content": {"parts": [{"text": "a"}]}}, {"content": {"parts": [{"text": "b"}]}}]}, ["a", "b"]),
    ({"instances": [{"content": "a"}]}, ["a"]),
    ({"query": "q", "documents": ["a", {"text": "b"}]}, ["q", "a", "b"]),
]


@pytest.mark.parametrize(("body", "texts"), BODIES)
def test_texts(body: dict[str, Any], texts: list[str]) -> None:
    assert operations._texts(body) == texts
