"""What a Gemini client gets: pieces, whole answers, errors, and streams that pass."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from tests.wire import gemini_recordings as rec

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
    Target,
    Thought,
    Usage,
    fold,
)
from lilliput.wire import gemini
from lilliput.wire.families import ANTHROPIC, GEMINI

ASKED = Request(model="m", messages=(), stream=True)
AS_ARRAY = Request(model="m", messages=(), stream=True, extra={"$alt": Raw(b'"json"')})
TARGET = Target(provider="g", model="x", base="http://localhost/v1beta")


def _streamed(events: list[Event], asked: Request = ASKED) -> list[dict[str, Any]]:
    write = gemini.writer(asked, "own", 1)
    out = b"".join(map(write, events)) + write.end()
    if asked is AS_ARRAY:
        assert write.content_type == b"application/json"
        pieces: list[dict[str, Any]] = json.loads(out)
        return pieces
    assert write.content_type == b"text/event-stream"
    assert out.endswith(b"\n\n")
    return [json.loads(line[6:]) for line in out.decode().split("\n\n") if line]


def _parts(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [p for piece in pieces[:-1] for p in piece["candidates"][0]["content"]["parts"]]


@pytest.mark.parametrize("asked", [ASKED, AS_ARRAY])
def test_calls_are_gathered_and_the_end_comes_last(asked: Request) -> None:
    pieces = _streamed(
        [
            Began("id", "claude", 5),
            Counted(Usage(input=1)),
            Said("a"),
            Called(0, "1", "f", signature="S"),
            Argued(0, '{"a":\n'),
            Called(1, "2", "g"),
            Argued(0, "1}"),
            Ended("tool_calls", "tool_use"),
            Counted(Usage(input=9, output=4, reasoning=2, cache_read=1)),
        ],
        asked,
    )
    assert all(p["modelVersion"] == "claude" and p["responseId"] == "id" for p in pieces)
    assert _parts(pieces) == [
        {"text": "a"},
        {"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}, "thoughtSignature": "S"},
        {"functionCall": {"id": "2", "name": "g", "args": {}}},
    ]
    assert pieces[-1]["candidates"] == [
        {"content": {"parts": [{"text": ""}], "role": "model"}, "index": 0, "finishReason": "STOP"}
    ]
    assert pieces[-1]["usageMetadata"] == {
        **{"promptTokenCount": 10, "candidatesTokenCount": 4, "thoughtsTokenCount": 2, "totalTokenCount": 16},
        **{"cachedContentTokenCount": 1, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}]},
    }


def test_calls_of_an_answer_that_breaks_off_are_not_made_up() -> None:
    write = gemini.writer(ASKED, "own", 1)
    events: list[Event] = [Said("a"), Called(0, "1", "f"), Argued(0, '{"a":')]
    out = b"".join(map(write, events))
    out += write.problem(Problem("provider", "cut", code="upstream_truncated"))
    assert b"functionCall" not in out
    assert json.loads(out.split(b"data: ")[-1])["error"]["message"] == "cut"
    assert rec.feed(out, True)[1] is not None
    write = gemini.writer(AS_ARRAY, "own", 1)
    out = write(Said("a")) + write.problem(Problem("provider", "cut"))
    assert json.loads(out)[1]["error"]["code"] == 502
    assert json.loads(gemini.writer(AS_ARRAY, "own", 1).problem(Problem("provider", "cut")))[0]["error"]


@pytest.mark.parametrize("arguments", ["{bad", "[1]", "7"])
def test_arguments_that_are_no_object_are_a_malformed_call(arguments: str) -> None:
    events: list[Event] = [Called(0, "1", "f"), Argued(0, arguments), Ended("tool_calls", "tool_calls")]
    last = _streamed(events)[-1]["candidates"][0]
    assert last["finishReason"] == "MALFORMED_FUNCTION_CALL"
    assert arguments in last["finishMessage"]
    assert (
        json.loads(gemini.write_reply(fold(events), ASKED, "x", 1))["candidates"][0]["finishReason"]
        == last["finishReason"]
    )


@pytest.mark.parametrize(
    ("ended", "word"),
    [
        (Ended("stop", "end_turn"), "STOP"),
        (Ended("length", "max_tokens"), "MAX_TOKENS"),
        (Ended("content_filter", "refusal"), "SAFETY"),
        (Ended("content_filter", "RECITATION"), "RECITATION"),
        (Ended("error", "error"), "OTHER"),
        (Ended(None, "eaten_by_bear"), "eaten_by_bear"),
        (Ended(None, None), "FINISH_REASON_UNSPECIFIED"),
    ],
)
def test_finish_words(ended: Ended, word: str) -> None:
    assert _streamed([Said("a"), ended])[-1]["candidates"][0]["finishReason"] == word
    whole = json.loads(gemini.write_reply(fold([Said("a"), ended]), ASKED, "x", 1))
    assert whole["candidates"][0]["finishReason"] == word
    assert whole["candidates"][0]["content"]["parts"] == [{"text": "a"}]


def test_everything_else_that_can_be_said() -> None:
    scored = Raw(b'[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[]}]')
    events: list[Event] = [
        Thought("hm"),
        Thought("", signature="sig", family=ANTHROPIC),
        Thought("", sealed="X", family=ANTHROPIC),
        Said("a"),
        Thought("", signature="U2ln", family=GEMINI),
        Refused("no"),
        Shown(Media("image", mime="image/png", data="AA")),
        Shown(Media("audio", data="UklGRg", mime=None), transcript="words"),
        Called(0, "1", "c", kind="custom"),
        Argued(0, "free text"),
        Scored(scored),
        Ended("stop", "stop"),
    ]
    pieces = _streamed(events)
    parts = [p for piece in pieces[:-1] for p in piece["candidates"][0].get("content", {}).get("parts", [])]
    assert parts[0] == {"text": "hm", "thought": True}
    assert [sorted(p) for p in parts[1:3]] == [["text", "thought", "thoughtSignature"]] * 2
    assert parts[3:] == [
        {"text": "a"},
        {"text": "", "thoughtSignature": "U2ln"},
        {"text": "no"},
        {"inlineData": {"mimeType": "image/png", "data": "AA"}},
        {"text": "words"},
        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg"}},
        {"functionCall": {"id": "1", "name": "c", "args": {"input": "free text"}}},
    ]
    assert pieces[-2]["candidates"][0]["logprobsResult"]["chosenCandidates"] == [{"token": "a", "logProbability": -0.5}]
    body = json.dumps({"contents": [{"role": "model", "parts": parts}]}).encode()
    thoughts = gemini.read_request(body, "/v1beta/models/m:generateContent").messages[0].parts[:2]
    assert [(t.text, t.signature, t.sealed, t.family) for t in thoughts] == [  # type: ignore[union-attr]
        ("hm", "sig", None, ANTHROPIC),
        ("", None, "X", ANTHROPIC),
    ]


def test_choices_keep_their_numbers() -> None:
    events: list[Event] = [Said("a", 1), Said("b", 0), Ended("stop", "stop", 0), Ended("length", "length", 1)]
    whole = json.loads(gemini.write_reply(fold(events), ASKED, "x", 1))
    assert [(c["index"], c["finishReason"]) for c in whole["candidates"]] == [(0, "STOP"), (1, "MAX_TOKENS")]
    write = gemini.writer(ASKED, "x", 1)
    again, trouble = rec.feed(b"".join(map(write, events)) + write.end(), True)
    assert trouble is None
    assert [(c.text, c.reason) for c in fold(again).choices] == [("b", "stop"), ("a", "length")]


@pytest.mark.parametrize(
    ("problem", "code", "word"),
    [
        (Problem("client", "no", param="contents"), 400, "INVALID_ARGUMENT"),
        (Problem("auth", "no"), 401, "UNAUTHENTICATED"),
        (Problem("permission", "no"), 403, "PERMISSION_DENIED"),
        (Problem("missing", "no"), 404, "NOT_FOUND"),
        (Problem("client", "no", 413), 413, "INVALID_ARGUMENT"),
        (Problem("limit", "no", retry_after_s=2.1), 429, "RESOURCE_EXHAUSTED"),
        (Problem("provider_auth", "no", code="401"), 502, "UNAVAILABLE"),
        (Problem("server", "no", 500), 500, "INTERNAL"),
        (Problem("timeout", "no"), 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_problems_in_googles_form(problem: Problem, code: int, word: str) -> None:
    error = json.loads(gemini.write_problem(problem, "req"))["error"]
    assert (error["code"], error["message"], error["status"]) == (code, "no", word)
    assert error["details"][-1]["requestId"] == "req"
    assert gemini.read_problem(code, gemini.write_problem(problem, "req")).retry_after_s == (
        3 if problem.retry_after_s else None
    )
    assert "401" not in json.dumps(error["details"]) or code == 401


def test_the_list_of_models() -> None:
    models = json.loads(gemini.write_models([("a/b", 100, None)]))["models"]
    assert models[0]["name"] == "models/a/b"
    assert models[0]["inputTokenLimit"] == 100
    assert "outputTokenLimit" not in models[0]


def test_a_body_that_passes_changes_by_quirks_alone() -> None:
    fields = {"contents": Raw(b"[]"), "model": Raw(b'"models/y"'), "generation_config": Raw(b'{"seed":1,"topK":2}')}
    asked = gemini.Asked("y", True, True)
    assert json.loads(gemini.rewrite(fields, asked, TARGET)) == {
        "contents": [],
        "generation_config": {"seed": 1, "topK": 2},
    }
    odd = Target(provider="g", model="x", drop=("generationConfig.seed",), force={"labels": {"a": "b"}})
    assert json.loads(gemini.rewrite(fields, asked, odd)) == {
        **{"contents": [], "labels": {"a": "b"}, "generationConfig": {"topK": 2}}
    }


def test_a_watch_holds_back_until_something_real_comes() -> None:
    watch = gemini.watch(gemini.Asked("m", True, False))
    assert watch.feed(b'data: {"usageMetadata":{"promptTokenCount":3}}\r\n\r\n') == b""
    assert not watch.started
    assert watch.usage is not None
    assert watch.usage.input == 3
    out = watch.feed(b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\r\n\r\n')
    assert watch.started
    out += watch.feed(b'data: {"candidates":[{"finishReason":"STOP"}]}\n\n') + watch.end()
    assert watch.done
    assert len(json.loads(out)) == 3
    early = gemini.watch(gemini.Asked("m", True, True))
    assert early.feed(b'{"error":{"code":503,') == b""
    early.feed(b'"message":"busy"}}')
    assert early.end() == b""
    assert early.trouble is not None
    assert (early.trouble.say, early.trouble.status) == ("busy", 503)
    assert b"busy" in early.problem(early.trouble)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"x", b'{"candidates":[]}', b'{"candidates":3}'])
def test_what_is_no_whole_answer(body: bytes) -> None:
    with pytest.raises(Problem):
        gemini.whole(200, body)
    assert gemini.whole(200, b'[{"candidates":[{}]}]') is None
