"""What Ollama's answers say beyond the recordings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.wire.test_cohere_recordings import feed

from lilliput.neutral import Choice, Reply, Usage, fold
from lilliput.wire import ollama
from lilliput.wire.ollama import generate as ollama_generate

HEAD = {"model": "llama", "created_at": "2026-08-07T06:08:11.017589Z"}


def lines(*pieces: dict[str, Any]) -> bytes:
    return b"".join(json.dumps({**HEAD, **p}).encode() + b"\n" for p in pieces)


def heard(*pieces: dict[str, Any]) -> Reply:
    events, trouble = feed(ollama, lines(*pieces), True)
    assert trouble is None
    return fold(events)


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"message": {"content": "", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}}


ENDS = [
    ("stop", "stop"),
    ("length", "length"),
    ("load", "stop"),
    ("unload", None),
    ("news", None),
    (None, "stop"),
]


@pytest.mark.parametrize(("word", "reason"), ENDS)
def test_ends_by_table(word: str | None, reason: str | None) -> None:
    done = {"done": True, "done_reason": word}
    said: Choice = heard({"message": {"content": "a"}}, done).choices[0]
    assert (said.text, said.reason, said.native) == ("a", reason, word)


def test_calls_have_ids_of_their_own_and_are_the_end() -> None:
    reply = heard(call("f", {"x": 1}), call("g", {}), call("h", '{"y":2}'), {"done": True, "done_reason": "stop"})
    said = reply.choices[0]
    assert [(c.id, c.name, c.arguments) for c in said.calls] == [
        ("call_60811017589Z_0", "f", '{"x":1}'),
        ("call_60811017589Z_1", "g", "{}"),
        ("call_60811017589Z_2", "h", '{"y":2}'),
    ]
    assert (said.reason, said.native) == ("tool_calls", "stop")
    assert heard(call("f", {}), {"done": True, "done_reason": "length"}).choices[0].reason == "length"


def test_who_answers_and_when() -> None:
    reply = heard({"message": {"content": "a"}}, {"done": True})
    assert (reply.id, reply.model, reply.created) == (None, "llama", 1786082891)
    for odd in ("yesterday", "2026-08-07T06:08:11+02:00", "9999Z", None):
        raw = json.dumps({"created_at": odd, "done": True}).encode()
        assert fold(feed(ollama, raw, False)[0]).created is None


USAGES: list[tuple[dict[str, Any], Usage | None]] = [
    ({"prompt_eval_count": 3, "eval_count": 4}, Usage(input=3, output=4)),
    ({"eval_count": 4}, Usage(output=4)),
    ({"prompt_eval_count": 3}, Usage(input=3)),
    ({}, None),
    ({"prompt_eval_count": -3, "eval_count": 4}, Usage(output=4, doubts=("prompt_tokens",))),
]


@pytest.mark.parametrize(("given", "want"), USAGES)
def test_usage(given: dict[str, Any], want: Usage | None) -> None:
    usage = heard({"done": True, **given}).usage
    if usage is None or want is None:
        assert usage is want
        return
    assert json.loads(bytes(usage.given or b"")) == given
    assert (usage.input, usage.output, usage.doubts) == (want.input, want.output, want.doubts)


def test_an_error_inside_a_stream_keeps_what_was_said() -> None:
    raw = lines({"message": {"content": "a"}}) + b'{"error":"an error was encountered while running the model"}\n'
    events, trouble = feed(ollama, raw, True)
    assert (trouble.say, trouble.status) == ("an error was encountered while running the model", 502)
    assert (fold(events).choices[0].text, fold(events).choices[0].reason) == ("a", None)


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_instead_of_an_answer(stream: bool) -> None:
    assert feed(ollama, b'{"error":"no"}', stream)[1].say == "no"


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_is_not_done_is_cut(stream: bool) -> None:
    assert feed(ollama, lines({"message": {"content": "a"}, "done": False}), stream)[1].code == "upstream_truncated"


def test_log_probabilities_pass_as_they_are() -> None:
    score = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    said = heard({"message": {"content": "a"}, "logprobs": [score]}, {"done": True}).choices[0]
    assert json.loads(bytes(said.logprobs[0])) == [score]


def test_generate_thinks_too() -> None:
    raw = lines({"thinking": "hm", "response": ""}, {"response": "yes"}, {"response": "", "done": True})
    said = fold(feed(ollama_generate, raw, True)[0]).choices[0]
    assert ([t.text for t in said.thinking], said.text) == (["hm"], "yes")


ENGINE = {"code": 400, "message": "request (8889 tokens) exceeds the available context size (4096 tokens)", "type": "x"}
REFUSALS = [
    (400, {"error": json.dumps({"error": ENGINE})}, "context_length_exceeded", ENGINE["message"]),
    (400, {"error": "the input length exceeds the context length"}, "context_length_exceeded", None),
    (400, {"error": '"llama" does not support thinking'}, None, None),
    (404, {"error": "model 'x' not found"}, None, None),
]


@pytest.mark.parametrize(("status", "body", "code", "say"), REFUSALS)
def test_refusals(status: int, body: dict[str, str], code: str | None, say: str | None) -> None:
    p = ollama.read_problem(status, json.dumps(body).encode())
    assert (p.status, p.code, p.say) == (status, code, say or body["error"])
