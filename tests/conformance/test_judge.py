"""The judge sees what is wrong: a verdict of "nothing" must mean something."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conformance import judge, report
from tests.conformance.cases import Case, Row
from tests.conformance.client import Heard, parse
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
        body={},
    )


def heard(body: bytes, status: int = 200, is_whole: bool = True) -> Heard:
    return Heard(status, {}, body, is_whole)


BROKEN: list[tuple[str, str, Heard, str]] = [
    ("an error instead of a stream", "stream", heard(ERROR, 502), ""),
    ("an error event at the end", "stream", heard(GOOD + OOPS), ""),
    ("an error event after a finish", "stream", heard(GOOD + STOP + OOPS), ""),
    ("a false success", "stream", heard(GOOD + STOP + DONE), "[DONE]"),
    ("an error event, and [DONE] all the same", "stream", heard(GOOD + OOPS + DONE), "[DONE]"),
    ("a bare finish", "stream", heard(GOOD + STOP), "without an error event"),
    ("silence", "stream", heard(GOOD), "without an error event"),
    ("nothing at all", "stream", heard(b""), "without an error event"),
    ("half an event", "stream", heard(GOOD + GOOD[:30]), "no JSON"),
    ("an error that is no OpenAI error", "stream", heard(b"<html>", 502), "without an OpenAI error"),
    ("half an answer as if it were whole", "chat", heard(b'{"choices":[', 200), "half an answer"),
    ("an error instead of an answer", "chat", heard(ERROR, 502), ""),
]


@pytest.mark.parametrize(("kind", "seen", "says"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken(kind: str, seen: Heard, says: str) -> None:
    found = judge.broken(case(kind), seen)
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
    c = case()
    sent = Case(**{name: getattr(c, name) for name in c.__struct_fields__ if name != "verbatim"}, verbatim=SENT)
    found = judge.verbatim(sent, [{**CALL, "json": arrived}])
    assert (says in found) if says else found == ""
    assert "2 times" in judge.verbatim(sent, [{**CALL, "json": arrived}] * 2)
    assert "own key" in judge.verbatim(sent, [{**CALL, "json": arrived, "headers": {"authorization": "<present>"}}])
    assert "another operation" in judge.verbatim(sent, [{**CALL, "json": arrived, "operation_ok": False}])


def refusal(status: int, message: str, code: str | None = None) -> Heard:
    said = {"error": {"message": message, "type": "t", "param": None, "code": code}}
    return heard(json.dumps(said).encode(), status)


ANSWERS: list[tuple[str, dict[str, Any], Heard, str]] = [
    ("all there", {}, heard(GOOD + STOP + USAGE + DONE), ""),
    ("another text", {"text": "ho"}, heard(GOOD + STOP + USAGE + DONE), "text: want 'ho' got 'hi'"),
    ("usage lost", {}, heard(GOOD + STOP + DONE), "usage"),
    ("an invented stop", {"finish_reason": None}, heard(GOOD + STOP + USAGE + DONE), "finish_reason"),
    ("no [DONE]", {}, heard(GOOD + STOP + USAGE), "[DONE]"),
    ("HTTP cut short", {}, heard(GOOD + STOP + USAGE + DONE, is_whole=False), "whole False"),
    ("the provider's refusal", {"error": {"status": 404, "message": "no m"}}, refusal(404, "no m"), ""),
    ("a refusal in other words", {"error": {"status": 404, "message": "no m"}}, refusal(404, "sorry"), "message"),
    ("a refusal of another class", {"error": {"status": 404, "message": "no m"}}, refusal(502, "no m"), "status"),
    ("a masked key", {"error": {"status": 400, "message": "key sk-abc bad"}}, refusal(400, "key *** bad"), ""),
    ("too much masked", {"error": {"status": 400, "message": "key sk-abc bad"}}, refusal(400, "key ***"), "message"),
    ("our key refused", {"error": {"status": 401, "message": "no"}}, refusal(502, "no", "provider_auth"), ""),
    ("the caller blamed", {"error": {"status": 401, "message": "no"}}, refusal(401, "no"), "want 502"),
]


@pytest.fixture(scope="module")
def kit() -> Kit:
    return Kit(recordings())


@pytest.mark.parametrize(("said", "seen", "says"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_answer(kit: Kit, said: dict[str, Any], seen: Heard, says: str) -> None:
    found = judge.answer(kit, case(**said), seen)
    assert (says in found) if says else found == ""


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
    assert not report.meets_bar([]), "nothing judged is nothing shown"
