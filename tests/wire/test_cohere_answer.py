"""What Cohere's answers say beyond the recordings: odd forms, errors, usage that cannot be true."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from tests.wire.test_cohere_recordings import feed

from lilliput.neutral import Choice, Ended, Event, Reply, Usage, fold
from lilliput.wire import cohere
from lilliput.wire.cohere import v1 as cohere_v1
from lilliput.wire.cohere.answer import read_usage

END = {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: x\ndata: " + json.dumps(e).encode() + b"\n\n" for e in events)


def delta(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": {"message": message}}


def heard(*events: dict[str, Any]) -> Choice:
    told, trouble = feed(cohere, stream(*events), True)
    assert trouble is None
    return fold(told).choices[0]


def call(id: str | None, name: str | None, arguments: Any = "") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_thinking_and_text_stand_apart() -> None:
    said = heard(
        delta("content-start", 0, content={"type": "thinking", "thinking": "h"}),
        delta("content-delta", 0, content={"thinking": "m"}),
        delta("content-start", 1, content={"type": "text", "text": ""}),
        delta("content-delta", 1, content={"text": "yes"}),
        END,
    )
    assert (said.text, [t.text for t in said.thinking]) == ("yes", ["hm"])


def test_a_plan_and_citations_are_neither_text_nor_thinking() -> None:
    said = heard(
        delta("tool-plan-delta", tool_plan="I will"),
        delta("citation-start", 0, citations={"start": 0, "text": "x"}),
        {"type": "citation-end", "index": 0},
        {"type": "debug", "prompt": "x"},
        END,
    )
    assert (said.text, said.thinking) == ("", ())


def test_calls_are_told_apart_by_index() -> None:
    said = heard(
        delta("tool-call-start", 0, tool_calls=call("a", "f")),
        delta("tool-call-start", 1, tool_calls=call("b", "g", '{"x"')),
        delta("tool-call-delta", 0, tool_calls={"function": {"arguments": "{}"}}),
        delta("tool-call-delta", 1, tool_calls={"function": {"arguments": ":1}"}}),
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
    )
    assert [(c.id, c.name, c.arguments) for c in said.calls] == [("a", "f", "{}"), ("b", "g", '{"x":1}')]
    assert said.reason == "tool_calls"


@pytest.mark.parametrize(
    "events",
    [
        (delta("tool-call-delta", 3, tool_calls={"function": {"arguments": "{}"}}),),
        (delta("tool-call-start", 0, tool_calls=call("a", None)),),
        ({"type": 7},),
    ],
)
def test_what_cannot_be_read_is_refused(events: tuple[dict[str, Any], ...]) -> None:
    assert feed(cohere, stream(*events, END), True)[1].code == "upstream_invalid"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool_calls"),
        ("ERROR", "error"),
        ("TIMEOUT", "error"),
        ("ERROR_TOXIC", "content_filter"),
        ("SOMETHING_NEW", None),
        (None, None),
    ],
)
def test_ends_by_table(word: str | None, reason: str | None) -> None:
    events, _ = feed(cohere, stream({"type": "message-end", "delta": {"finish_reason": word}}), True)
    assert events == [Ended(reason, word)]  # type: ignore[arg-type]
    whole = json.dumps({"message": {"content": []}, "finish_reason": word}).encode()
    assert feed(cohere, whole, False)[0] == [Ended(reason, word)]  # type: ignore[arg-type]


def test_an_error_at_the_end_of_a_stream_keeps_what_was_said_and_used() -> None:
    end = {"finish_reason": "ERROR", "error": "no luck", "error_type": "BAD_LUCK",
           "usage": {"tokens": {"input_tokens": 3, "output_tokens": 4}}}  # fmt: skip
    raw = stream(delta("content-delta", 0, content={"text": "a"}), {"type": "message-end", "delta": end})
    events, trouble = feed(cohere, raw, True)
    reply = fold(events)
    assert (trouble.say, trouble.code, trouble.status) == ("no luck", "BAD_LUCK", 502)
    assert (reply.choices[0].text, reply.choices[0].reason) == ("a", None)
    assert reply.usage is not None
    assert reply.usage.total_tokens == 7


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_instead_of_an_answer(stream: bool) -> None:
    events, trouble = feed(cohere, b'{"id":"1","message":"internal server error"}', stream)
    assert (events, trouble.say, trouble.status) == ([], "internal server error", 502)


def test_an_error_event_in_a_stream() -> None:
    assert feed(cohere, b'data: {"id":"1","message":"too busy"}\n\n', True)[1].say == "too busy"


@pytest.mark.parametrize(
    ("content", "text"), [("plain", "plain"), ([{"type": "text", "text": "a"}, {"text": "b"}], "ab"), (None, "")]
)
def test_content_of_each_form(content: Any, text: str) -> None:
    raw = json.dumps({"id": "1", "message": {"content": content}, "finish_reason": "COMPLETE"}).encode()
    assert fold(feed(cohere, raw, False)[0]).choices[0].text == text


def test_log_probabilities_of_several_tokens_are_one() -> None:
    scores = [{"text": "hi", "token_ids": [1, 2], "logprobs": [-1.0, -0.5]}, {"text": "!", "logprobs": [-2.0]}]
    raw = json.dumps({"message": {"content": "hi!"}, "logprobs": scores}).encode()
    whole: Reply = fold(feed(cohere, raw, False)[0])
    assert [(s["token"], s["logprob"]) for s in json.loads(bytes(whole.choices[0].logprobs[0]))] == [
        ("hi", -1.5),
        ("!", -2.0),
    ]
    piece = {**delta("content-delta", 0, content={"text": "hi"}), "logprobs": scores[0]}
    assert json.loads(bytes(heard(piece, END).logprobs[0]))[0]["bytes"] == [104, 105]


USAGES: list[tuple[str, dict[str, Any], Usage | None]] = [
    (
        "tokens before billed units",
        {"tokens": {"input_tokens": 9, "output_tokens": 4}, "billed_units": {"input_tokens": 1, "output_tokens": 2}},
        Usage(input=9, output=4),
    ),
    ("billed units alone", {"billed_units": {"input_tokens": 1, "output_tokens": 2}}, Usage(input=1, output=2)),
    (
        "parts are taken out of their wholes",
        {
            "tokens": {"input_tokens": 9, "output_tokens": 4, "image_tokens": 2, "reasoning_tokens": 3},
            "cached_tokens": 5,
        },
        Usage(input=2, cache_read=5, image_in=2, output=4),
    ),
    (
        "more cached than read",
        {"tokens": {"input_tokens": 3, "output_tokens": 1}, "cached_tokens": 5},
        Usage(cache_read=3, output=1, doubts=("cached_tokens",)),
    ),
    (
        "negative",
        {"tokens": {"input_tokens": -3, "output_tokens": 1}},
        Usage(output=1, doubts=("prompt_tokens",)),
    ),
    ("floats", {"tokens": {"input_tokens": 3.0, "output_tokens": 1.0}}, Usage(input=3, output=1)),
    ("empty", {}, None),
    ("no object", [], None),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("name", "given", "want"), USAGES)
def test_usage(name: str, given: dict[str, Any], want: Usage | None) -> None:
    raw = Raw(json.dumps(given).encode())
    got = read_usage(raw)
    if want is None:
        assert got is None
        return
    assert got is not None
    assert json.loads(bytes(got.given or b"")) == given
    names = [f for f in Usage.__struct_fields__ if f != "given"]
    assert [getattr(got, f) for f in names] == [getattr(want, f) for f in names]


def test_v1_calls_end_an_answer() -> None:
    whole = {"text": "", "generation_id": "g-1", "tool_calls": [{"name": "f", "parameters": {"x": 1}}, {"name": "f"}]}
    events = b"".join(
        json.dumps(e).encode() + b"\n"
        for e in (
            {"event_type": "stream-start", "generation_id": "g-1"},
            {"event_type": "tool-calls-generation", "tool_calls": whole["tool_calls"]},
            {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": whole},
        )
    )
    answer = json.dumps({**whole, "finish_reason": "COMPLETE"}).encode()
    for raw, streamed in ((events, True), (answer, False)):
        told: list[Event] = feed(cohere_v1, raw, streamed)[0]
        said = fold(told).choices[0]
        assert [(c.id, c.name, c.arguments) for c in said.calls] == [
            ("call_g1_0", "f", '{"x":1}'),
            ("call_g1_1", "f", ""),
        ]
        assert (said.reason, said.native) == ("tool_calls", "COMPLETE")


def test_v1_errors_are_told() -> None:
    raw = b'{"event_type":"stream-end","finish_reason":"ERROR","error":"gone wrong"}\n'
    assert feed(cohere_v1, raw, True)[1].say == "gone wrong"
    assert feed(cohere_v1, b'{"message":"no such model"}', False)[1].say == "no such model"
    assert feed(cohere_v1, b'{"message":"no such model"}\n', True)[1].say == "no such model"
    assert feed(cohere_v1, b"{}", False)[1].code == "upstream_invalid"
