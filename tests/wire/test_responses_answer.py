"""A provider's Responses answers: what recorded ones said is what we read, however their bytes are cut."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from tests.wire import responses_recordings as rec

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
    Said,
    Scored,
    Shown,
    Thinking,
    Thought,
    ToolCall,
    Usage,
    fold,
)
from lilliput.wire import responses
from lilliput.wire.families import OPENAI

QUEUED = "openai-5172643fc4"
"""An answer that runs in the background, and has said nothing yet."""
WRITES = {"bedrock-mantle-ed5e04c903", "openai-1d0c9a8b54", "openai-d64dd40a22", "openrouter-7d7431b2d2"}
"""Answers with `cache_write_tokens`, which `expect.py` does not look for here."""


def wrong(i: dict[str, Any], cuts: list[int] | None = None) -> list[tuple[Any, ...]]:
    """Where our reading of a recorded answer differs from `expect.py`'s."""
    want = rec.said(i)
    events, trouble = rec.read(i, cuts)
    got = rec.events_facts(events)
    usage = rec.usage_facts(fold(events).usage)
    if i["id"] in WRITES:
        assert usage is not None
        assert usage["cache_write_tokens"] > 0
        usage["cache_write_tokens"] = 0
    if i["id"] == QUEUED:
        assert got.pop("finish_reason") == "queued"
    differ = [(i["id"], k, want[k], got[k]) for k in got if want[k] != got[k]]
    return differ + [(i["id"], "trouble", trouble)] * bool(trouble) + [(i["id"], usage)] * (usage != want["usage"])


def test_answers_say_what_was_recorded() -> None:
    assert len(rec.answers()) > 300
    assert [w for i in rec.answers() for w in wrong(i)] == []


def test_answers_in_small_pieces_say_the_same() -> None:
    for i in rec.answers("stream"):
        assert wrong(i, list(range(17, len(rec.body(i)), 17))) == []


@pytest.mark.slow
def test_answers_byte_by_byte_say_the_same() -> None:
    for i in rec.answers("stream"):
        assert wrong(i, list(range(1, len(rec.body(i))))) == []


def test_problems_keep_their_message_and_class() -> None:
    refused = [i for i in rec.calls() if i["response"]["status"] >= 400]
    assert len(refused) == 9
    for i in refused:
        p = responses.read_problem(i["response"]["status"], rec.body(i))
        key = "API key" in p.say
        assert (p.say, p.fault) == (rec.said(i)["error"]["message"], "provider_auth" if key else "client")


def test_a_cut_answer_never_ends_well() -> None:
    dice = random.Random(5)
    for i in rec.answers():
        raw = rec.body(i).removesuffix(b"data: [DONE]\n\n").rstrip()
        for at in [dice.randrange(1, len(raw)) for _ in range(4)]:
            events, trouble = rec.feed(raw[:at], i["kind"] == "stream")
            assert trouble is not None, (i["id"], at)
            assert trouble.code == "upstream_truncated", (i["id"], at, trouble.say)
            assert not any(isinstance(e, Ended) for e in events)


def test_a_stream_that_stops_in_good_order_is_cut() -> None:
    for i in rec.answers("stream"):
        raw = rec.body(i).replace(b"\r\n", b"\n")
        events = raw.split(b"\n\n")
        last = next(n for n, e in enumerate(events) if b"response.completed" in e or b"response.incomplete" in e)
        _, trouble = rec.feed(b"\n\n".join(events[:last]) + b"\n\n", True)
        assert trouble is not None
        assert trouble.code == "upstream_truncated"


def mutants(times: int, seed: int) -> None:
    dice = random.Random(seed)
    bodies = [(rec.body(i), i["kind"] == "stream") for i in rec.answers() if len(rec.body(i)) < 20_000]
    words = [b"null", b"[]", b"{}", b"-1", b'""', b"1e999", b"\x00", b"\xff", b"true", b'"response.completed"', b"\n\n"]
    for _ in range(times):
        raw, stream = dice.choice(bodies)
        mutant = bytearray(raw)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(mutant))
            mutant[at : at + dice.choice((0, 1, 1, 5, 40))] = dice.choice(words)
        for event in rec.feed(bytes(mutant), stream, [dice.randrange(1, len(mutant))])[0]:
            assert isinstance(event, Event)


def test_mutated_answers_raise_only_problems() -> None:
    mutants(2000, 7)


@pytest.mark.slow
def test_many_mutated_answers_raise_only_problems() -> None:
    mutants(10_000, 8)


# -- by hand -----------------------------------------------------------------------------------------------------


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(e).encode() for e in events)


def closing(kind: str = "completed", **more: Any) -> dict[str, Any]:
    response = {"id": "resp_1", "model": "m", "created_at": 5, "status": kind, "output": [], **more}
    return {"type": f"response.{kind}", "response": response}


def item(index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": fields}


def delta(kind: str, text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": text, **more}


BEGAN = Began("resp_1", "m", 5)
MESSAGE: dict[str, Any] = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
CALL: dict[str, Any] = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
TOKEN = {"token": "hi", "logprob": -0.5, "top_logprobs": []}
DONE = Ended("stop", "completed")
CALLED = Ended("tool_calls", "completed")

STREAMS: list[tuple[str, list[dict[str, Any]], list[Event]]] = [
    ("only the closing response", [closing(output=[MESSAGE])], [BEGAN, Said("hi"), DONE]),
    ("only the item", [item(**MESSAGE), closing()], [Said("hi"), BEGAN, DONE]),
    (
        "told thrice",
        [delta("output_text", "hi"), item(**MESSAGE), closing(output=[MESSAGE])],
        [Said("hi"), BEGAN, DONE],
    ),
    (
        "an item that only the response has",
        [delta("output_text", "hi"), item(**MESSAGE), closing(output=[MESSAGE, CALL])],
        [Said("hi"), BEGAN, Called(0, "c1", "f"), Argued(0, "{}"), CALLED],
    ),
    (
        "a call in pieces",
        [
            {"type": "response.output_item.added", "output_index": 0, "item": {**CALL, "arguments": ""}},
            delta("function_call_arguments", '{"a"'),
            delta("function_call_arguments", ":1}"),
            item(**{**CALL, "arguments": '{"a":1}'}),
            closing(),
        ],
        [Called(0, "c1", "f"), Argued(0, '{"a"'), Argued(0, ":1}"), BEGAN, CALLED],
    ),
    (
        "a custom tool",
        [
            {
                "type": "response.output_item.added",
                "output_index": 3,
                "item": {"type": "custom_tool_call", "call_id": "c1", "name": "f", "input": ""},
            },
            delta("custom_tool_call_input", "x = 1", 3),
            closing(),
        ],
        [Called(0, "c1", "f", kind="custom"), Argued(0, "x = 1"), BEGAN, CALLED],
    ),
    (
        "two calls with one id",
        [closing(output=[CALL, CALL])],
        [BEGAN, Called(0, "c1", "f"), Argued(0, "{}"), Called(1, "call_resp1_1", "f"), Argued(1, "{}"), CALLED],
    ),
    (
        "arguments as an object",
        [closing(output=[{**CALL, "arguments": {"a": 1}}])],
        [BEGAN, Called(0, "c1", "f"), Argued(0, '{"a":1}'), CALLED],
    ),
    (
        "reasoning with a seal",
        [
            delta("reasoning_summary_text", "so"),
            item(type="reasoning", summary=[{"type": "summary_text", "text": "so"}], encrypted_content="gA"),
            closing(),
        ],
        [Thought("so", family=OPENAI), Thought(sealed="gA", family=OPENAI), BEGAN, DONE],
    ),
    (
        "open reasoning, whole",
        [closing(output=[{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "so"}]}])],
        [BEGAN, Thought("so", family=OPENAI), DONE],
    ),
    ("a refusal", [delta("refusal", "no"), closing()], [Refused("no"), BEGAN, DONE]),
    (
        "scores",
        [delta("output_text", "hi", logprobs=[TOKEN]), closing()],
        [Said("hi"), Scored(json.dumps([TOKEN]).encode()), BEGAN, DONE],  # type: ignore[arg-type]
    ),
    (
        "a picture",
        [item(type="image_generation_call", result="aGk=", output_format="webp"), closing()],
        [Shown(Media("image", mime="image/webp", data="aGk=")), BEGAN, DONE],
    ),
    (
        "the servers' own tools, of any shape",
        [
            item(type="web_search_call", action=[1], content=7),
            {"type": "response.mcp_call_arguments.delta", "delta": {"a": 1}, "output_index": 0},
            closing(output=[{"type": "computer_call", "content": 9}]),
        ],
        [BEGAN, DONE],
    ),
    (
        "too long",
        [closing("incomplete", incomplete_details={"reason": "max_output_tokens"})],
        [BEGAN, Ended("length", "max_output_tokens")],
    ),
    (
        "filtered",
        [closing("incomplete", incomplete_details={"reason": "content_filter"})],
        [BEGAN, Ended("content_filter", "content_filter")],
    ),
    (
        "an unknown end",
        [closing("incomplete", incomplete_details={"reason": "steered"})],
        [BEGAN, Ended(None, "steered")],
    ),
    ("an end without a reason", [closing("incomplete")], [BEGAN, Ended(None, "incomplete")]),
    ("cancelled", [closing("cancelled")], [BEGAN, Ended(None, "cancelled")]),
]


def plain(events: list[Event]) -> list[Event]:
    """The events, their raw JSON as it is written without white space."""
    return [Scored(json.loads(bytes(e.content))) if isinstance(e, Scored) else e for e in events]


@pytest.mark.parametrize(("name", "events", "want"), STREAMS, ids=[s[0] for s in STREAMS])
def test_streams(name: str, events: list[dict[str, Any]], want: list[Event]) -> None:
    for ending in (b"", b"data: [DONE]\n\n"):
        got, trouble = rec.feed(stream(*events) + ending, True)
        assert trouble is None
        assert plain(got) == plain(want)


def test_a_whole_answer_is_read_like_a_stream_of_it() -> None:
    usage: dict[str, Any] = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}
    usage |= {"input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 2}}
    sealed = {"type": "reasoning", "summary": [{"text": "so"}], "encrypted_content": "gA"}
    whole = closing(output=[sealed, MESSAGE, CALL], usage=usage)["response"]
    reply = fold(rec.feed(json.dumps(whole).encode(), False)[0])
    choice = reply.choices[0]
    assert (choice.text, choice.calls, choice.reason) == ("hi", (ToolCall("c1", "f", "{}"),), "tool_calls")
    assert choice.thinking == (Thinking("so", family=OPENAI), Thinking(sealed="gA", family=OPENAI))
    assert reply.usage == Usage(
        input=5, cache_read=4, output=3, reasoning=2, given=reply.usage.given if reply.usage else None
    )
    # a provider may answer a stream with plain JSON
    events, trouble = rec.feed(json.dumps(whole).encode(), True)
    assert trouble is None
    assert any(isinstance(e, Counted) for e in events)


FAILURES = [
    ({"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": None}, "limit", "slow down"),
    ({"type": "error", "error": {"type": "server_error", "message": "oh"}}, "provider", "oh"),
    ({"error": {"message": "bad", "code": 401}}, "provider_auth", "bad"),
    (closing("failed", error={"code": "server_error", "message": "it broke"}), "provider", "it broke"),
    (closing("failed"), "provider", "the provider says that it failed"),
    (closing("completed", error={"code": "invalid_prompt", "message": "unsafe"}), "client", "unsafe"),
    ({"type": "response.output_text.delta", "delta": 7}, "provider", "Expected `str | null`"),
    (item(type="function_call", call_id="c", arguments=""), "provider", "a tool call without a name"),
]


@pytest.mark.parametrize(("event", "fault", "say"), FAILURES)
def test_what_fails_in_a_stream_says_so_after_what_came(event: dict[str, Any], fault: str, say: str) -> None:
    events, trouble = rec.feed(stream(delta("output_text", "hi"), event, closing()), True)
    assert Said("hi") in events
    assert not any(isinstance(e, Ended) for e in events)
    assert trouble is not None
    assert trouble.fault == fault
    assert say in trouble.say


WHOLES = [
    (b"", "upstream_truncated"),
    (b'{"output":[{"type"', "upstream_truncated"),
    (b"[1]", "upstream_invalid"),
    (b"{}", "upstream_invalid"),
    (b"<html>", "upstream_invalid"),
    (b'{"error":{"message":"x","code":"invalid_prompt"}}', "invalid_prompt"),
]


@pytest.mark.parametrize(("body", "code"), WHOLES)
def test_what_is_no_whole_answer(body: bytes, code: str) -> None:
    _, trouble = rec.feed(body, False)
    assert isinstance(trouble, Problem)
    assert trouble.code == code


def test_an_answer_has_its_limits() -> None:
    many = stream(*({"type": "response.output_item.added", "output_index": n, "item": {}} for n in range(1100)))
    _, trouble = rec.feed(many, True)
    assert trouble is not None
    assert trouble.code == "upstream_invalid"
