"""The judge sees what is wrong: a verdict of "nothing" must mean something."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conformance import judge, report
from tests.conformance.cases import Case, Row
from tests.conformance.client import Heard, parse
from tests.conformance.doors import DOORS, as_told
from tests.conformance.harness import Result
from tests.conformance.kit import Kit, same_json
from tests.conformance.need import recordings

GOOD = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
OOPS = b'data: {"error":{"message":"cut","type":"server_error","param":null,"code":"upstream_truncated"}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'{"error":{"message":"cut","type":"server_error","param":null,"code":"upstream_truncated"}}'


def case(kind: str = "stream", **said: Any) -> Case:
    right = {"text": "hi", "reasoning": "", "tool_calls": [], "finish_reason": "stop", "media_out": [], "choices": 1}
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "cache_write_tokens": 0,
    }
    row = Row("r", "i")
    told = {**right, "usage": usage, "error": None, **said}
    return Case(
        id="i",
        api="openai.chat",
        kind=kind,
        provider="p",
        plain=row,
        split=row,
        hurt=(),
        said=told,
        asked=None,
        body={"stream": kind == "stream"},
    )


@pytest.fixture(scope="module")
def kit() -> Kit:
    return Kit(recordings())


def heard(body: bytes, status: int = 200, is_whole: bool = True) -> Heard:
    return Heard(status, {}, body, is_whole)


def sse(*events: dict[str, Any], name: bool = True) -> bytes:
    told = [(f"event: {e['type']}\n" if name else "") + f"data: {json.dumps(e)}\n\n" for e in events]
    return "".join(told).encode()


STARTED = {"type": "message_start", "message": {"id": "i", "usage": {"input_tokens": 3, "output_tokens": 0}}}
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
TOLD = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
STOPPED = {"type": "message_stop"}
SAD = {"type": "error", "error": {"type": "api_error", "message": "cut"}}
WORD = {"type": "response.output_text.delta", "delta": "hi"}
ITEM = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
COUNT = {"input_tokens": 3, "output_tokens": 2}
COMPLETED = {"type": "response.completed", "response": {"status": "completed", "output": [ITEM], "usage": COUNT}}
FAILED = {"type": "response.failed", "response": {"status": "failed", "error": {"message": "cut"}}}
PART = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "index": 0}]}
LAST = {
    "candidates": [{"finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2},
}
OTHER = {"candidates": [{"content": {"parts": [{"text": "ho"}]}, "index": 1}]}
GONE = {"error": {"code": 502, "message": "cut", "status": "UNAVAILABLE"}}
SAYS = b'{"type":"error","error":{"type":"api_error","message":"cut"},"request_id":"r"}'

MESSAGES = heard(sse(STARTED, DELTA, TOLD, STOPPED))
RESPONSES = heard(sse(WORD, COMPLETED))

BROKEN: list[tuple[str, str, str, Heard, str]] = [
    ("an error instead of a stream", "chat", "stream", heard(ERROR, 502), ""),
    ("an error event at the end", "chat", "stream", heard(GOOD + OOPS), ""),
    ("an error event after a finish", "chat", "stream", heard(GOOD + STOP + OOPS), ""),
    ("a false success", "chat", "stream", heard(GOOD + STOP + DONE), "good order"),
    ("an error event, and [DONE] all the same", "chat", "stream", heard(GOOD + OOPS + DONE), "good order"),
    ("a bare finish", "chat", "stream", heard(GOOD + STOP), "without an error event"),
    ("silence", "chat", "stream", heard(GOOD), "without an error event"),
    ("nothing at all", "chat", "stream", heard(b""), "without an error event"),
    ("half an event", "chat", "stream", heard(GOOD + GOOD[:30]), "no JSON"),
    ("an error that is none", "chat", "stream", heard(b"<html>", 502), "without the dialect's error"),
    ("half an answer as if it were whole", "chat", "chat", heard(b'{"choices":[', 200), "half an answer"),
    ("an error instead of an answer", "chat", "chat", heard(ERROR, 502), ""),
    ("Messages: an error event", "messages", "stream", heard(sse(STARTED, DELTA, SAD)), ""),
    ("Messages: an error", "messages", "stream", heard(SAYS, 502), ""),
    ("Messages: a false stop", "messages", "stream", MESSAGES, "good order"),
    ("Messages: an error, and a stop", "messages", "stream", heard(sse(STARTED, SAD, STOPPED)), "good order"),
    ("Messages: no stop", "messages", "stream", heard(sse(STARTED, DELTA, TOLD)), "without an error event"),
    ("Responses: an error event", "responses", "stream", heard(sse(WORD, SAD)), ""),
    ("Responses: failed", "responses", "stream", heard(sse(WORD, FAILED)), ""),
    ("Responses: a false success", "responses", "stream", RESPONSES, "good order"),
    ("Responses: silence", "responses", "stream", heard(sse(WORD)), "without an error event"),
    ("Gemini: an error event", "gemini", "stream", heard(sse(PART, GONE, name=False)), ""),
    ("Gemini: a false success", "gemini", "stream", heard(sse(PART, LAST, name=False)), "good order"),
    ("Gemini: silence", "gemini", "stream", heard(sse(PART, name=False)), "without an error event"),
]


@pytest.mark.parametrize(("door", "kind", "seen", "says"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken(kit: Kit, door: str, kind: str, seen: Heard, says: str) -> None:
    found = judge.broken(kit, case(kind), seen, door)
    assert (says in found) if says else found == ""


CALL = {"operation_ok": True, "path": "/v1/chat/completions", "headers": {}}
SENT = {"model": "a", "messages": [{"role": "user", "content": "x"}], "seed": 1}
VERBATIM: list[tuple[str, dict[str, Any], str]] = [
    ("untouched but for the model", {**SENT, "model": "b"}, ""),
    ("usage asked for", {**SENT, "stream_options": {"include_usage": True}}, ""),
    ("a field lost", {k: v for k, v in SENT.items() if k != "seed"}, "'seed' was dropped"),
    ("a field made up", {**SENT, "user": "u"}, "'user' was added"),
    ("a value changed", {**SENT, "seed": 2}, "field 'seed'"),
    ("1 is not true", {**SENT, "seed": True}, "field 'seed'"),
]


@pytest.mark.parametrize(("arrived", "says"), [row[1:] for row in VERBATIM], ids=[row[0] for row in VERBATIM])
def test_verbatim(arrived: dict[str, Any], says: str) -> None:
    ours = DOORS["chat"].ours
    found = judge.verbatim(case(), [{**CALL, "json": arrived}], SENT, ours)
    assert (says in found) if says else found == ""
    assert "2 times" in judge.verbatim(case(), [{**CALL, "json": arrived}] * 2, SENT, ours)
    stolen = {**CALL, "json": arrived, "headers": {"x-api-key": "<present>"}}
    assert "own key" in judge.verbatim(case(), [stolen], SENT, ours)
    assert "another operation" in judge.verbatim(case(), [{**CALL, "json": arrived, "operation_ok": False}], SENT, ours)


def refusal(status: int, message: str, code: str | None = None) -> Heard:
    said = {"error": {"message": message, "type": "t", "param": None, "code": code}}
    return heard(json.dumps(said).encode(), status)


BAD_KEY = refusal(502, "API key not valid", "provider_auth")
ANSWERS: list[tuple[str, dict[str, Any], Heard, str]] = [
    ("all there", {}, heard(GOOD + STOP + USAGE + DONE), ""),
    ("another text", {"text": "ho"}, heard(GOOD + STOP + USAGE + DONE), "text: want 'ho' got 'hi'"),
    ("usage lost", {}, heard(GOOD + STOP + DONE), "usage"),
    ("an invented stop", {"finish_reason": None}, heard(GOOD + STOP + USAGE + DONE), "finish_reason"),
    ("no [DONE]", {}, heard(GOOD + STOP + USAGE), "does not end"),
    ("HTTP cut short", {}, heard(GOOD + STOP + USAGE + DONE, is_whole=False), "whole False"),
    ("the provider's refusal", {"error": {"status": 404, "message": "no m"}}, refusal(404, "no m"), ""),
    ("a refusal in other words", {"error": {"status": 404, "message": "no m"}}, refusal(404, "sorry"), "message"),
    ("a refusal of another class", {"error": {"status": 404, "message": "no m"}}, refusal(502, "no m"), "status"),
    ("a masked key", {"error": {"status": 400, "message": "key sk-abc bad"}}, refusal(400, "key *** bad"), ""),
    ("too much masked", {"error": {"status": 400, "message": "key sk-abc bad"}}, refusal(400, "key ***"), "message"),
    ("a bad key in a 400", {"error": {"status": 400, "message": "API key not valid"}}, BAD_KEY, ""),
    ("a 400 made a 502", {"error": {"status": 400, "message": "bad"}}, refusal(502, "bad", "provider_auth"), "status"),
    ("our key refused", {"error": {"status": 401, "message": "no"}}, refusal(502, "no", "provider_auth"), ""),
    ("the caller blamed", {"error": {"status": 401, "message": "no"}}, refusal(401, "no"), "want 502"),
]


@pytest.mark.parametrize(("said", "seen", "says"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_answer(kit: Kit, said: dict[str, Any], seen: Heard, says: str) -> None:
    found = judge.answer(kit, case(**said), seen)
    assert (says in found) if says else found == ""


CALLS = [["f", {"x": 1}]]
SPENT = {"prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": 0, "reasoning_tokens": 0, "cache_write_tokens": 9}
FREE = {**SPENT, "prompt_tokens": 0, "completion_tokens": 0, "cache_write_tokens": 0}
WHOLE: list[tuple[str, str, dict[str, Any], Heard, str]] = [
    ("Messages", "messages", {}, MESSAGES, ""),
    ("Messages, no stop", "messages", {}, heard(sse(STARTED, DELTA, TOLD)), "does not end"),
    ("Messages, an invented stop", "messages", {"finish_reason": "length"}, MESSAGES, "finish"),
    ("Messages, an odd word kept", "messages", {"finish_reason": "odd"}, MESSAGES, "finish"),
    ("Messages, a refusal's words", "messages", {"text": "", "refusal": "hi"}, MESSAGES, ""),
    ("Messages, a call lost", "messages", {"tool_calls": CALLS}, MESSAGES, "tool_calls"),
    ("Responses", "responses", {}, RESPONSES, ""),
    ("Responses, cache writes untold", "responses", {"usage": SPENT}, RESPONSES, ""),
    ("Messages, cache writes untold", "messages", {"usage": SPENT}, MESSAGES, "usage"),
    ("Responses, usage made up", "responses", {"usage": None}, RESPONSES, "usage"),
    ("Responses, an error nobody sent", "responses", {}, heard(sse(WORD, FAILED)), "nobody sent"),
    ("Gemini", "gemini", {}, heard(sse(PART, LAST, name=False)), ""),
    ("Gemini, two candidates", "gemini", {}, heard(sse(PART, OTHER, LAST, name=False)), ""),
    (
        "Gemini, no finish",
        "gemini",
        {"finish_reason": None, "usage": None},
        heard(sse(PART, name=False)),
        "does not end",
    ),
]


@pytest.mark.parametrize(("door", "said", "seen", "says"), [row[1:] for row in WHOLE], ids=[row[0] for row in WHOLE])
def test_answer_through_a_door(kit: Kit, door: str, said: dict[str, Any], seen: Heard, says: str) -> None:
    found = judge.answer(kit, case(**said), seen, door)
    assert (says in found) if says else found == ""


def test_as_told() -> None:
    want: dict[str, Any] = {"text": "", "tool_calls": [], "finish_reason": "stop", "usage": None}
    assert as_told("messages", want, {**want, "usage": FREE})[1]["usage"] is None
    assert as_told("chat", want, {**want, "usage": FREE})[1]["usage"] == FREE
    called = {**want, "tool_calls": CALLS}
    told, seen = as_told("responses", called, {**called, "finish_reason": "tool_calls"})
    assert told["finish_reason"] == seen["finish_reason"] == "tool_calls"
    told, seen = as_told("messages", {**called, "finish_reason": "tool_calls"}, called)
    assert (told["finish_reason"], seen["finish_reason"]) == ("tool_calls", "stop"), "end_turn hides a call"
    beside = {**SPENT, "completion_tokens": 7}
    told, _ = as_told("chat", {**want, "usage": SPENT, "usages": [SPENT, beside]}, {**want, "usage": beside})
    assert told["usage"] == beside


def test_same_json() -> None:
    assert same_json({"a": [1, {"b": None}], "c": 1.0}, {"c": 1, "a": [1, {"b": None}]})
    for a, b in (({"a": 1}, {}), ([1], [1, 2]), (True, 1), ("1", 1), (None, False)):
        assert not same_json(a, b)


HEAD = b"HTTP/1.1 200 OK\r\n"
FRAMES: list[tuple[str, bytes, bytes, bool]] = [
    ("length", HEAD + b"Content-Length: 2\r\n\r\nhi", b"hi", True),
    ("length, short", HEAD + b"content-length: 3\r\n\r\nhi", b"hi", False),
    ("chunks", HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", b"hi", True),
    ("chunks without their end", HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n", b"hi", False),
    ("a chunk cut short", HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nh\r\n9\r\ni", b"hi", False),
]


@pytest.mark.parametrize(("data", "body", "is_whole"), [row[1:] for row in FRAMES], ids=[row[0] for row in FRAMES])
def test_parse(data: bytes, body: bytes, is_whole: bool) -> None:
    got = parse(data)
    assert (got.status, got.body, got.is_whole) == (200, body, is_whole)


def test_the_bar() -> None:
    good, bad, cut = (
        Result("a", "x", {"answer": ""}),
        Result("b", "x", {"answer": "no"}),
        Result("c", "x", {"broken": "no"}),
    )
    assert report.meets_bar([good] * 99 + [bad])
    assert not report.meets_bar([good] * 98 + [bad] * 2)
    assert not report.meets_bar([good] * 999 + [cut]), "a broken answer that looks whole is one too many"
    assert not report.meets_bar([good] * 999 + [Result("d", "y", {"answer": "no"})]), "each dialect has its own bar"
    assert not report.meets_bar([good] * 999 + [Result("d", "x", {"answer": "no"}, door="gemini")]), "and each door"
    assert not report.meets_bar([]), "nothing judged is nothing shown"
