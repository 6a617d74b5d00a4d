"""What a client of the Responses dialect is told, streamed and whole, judged by `expect.py` and OpenAI's own types."""

from __future__ import annotations

import functools
import itertools
import json
import random
from typing import Any

import httpx2
import openai
import pytest
from msgspec import Raw
from openai.types.responses import Response, ResponseErrorEvent, ResponseStreamEvent
from pydantic import TypeAdapter, ValidationError
from tests.wire import chat_recordings as chats
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
    Request,
    Said,
    Scored,
    Shown,
    Thought,
    Usage,
    fold,
)
from lilliput.wire import responses
from lilliput.wire.families import ANTHROPIC, GEMINI, OPENAI

ASKED = Request(model="m", messages=(), dialect="openai_responses", stream=True)
FORCED = {"openai-6b5610cec6", "openai-9015cb3b29"}
"""Ends with "stop" after a call: this dialect has one good end, and a call in the output says the rest."""
SOUND = {"openai-15ce93b1f9"}
"""Sound has no item in this dialect: its transcript is said."""
QUEUED = "openai-5172643fc4"
UNWORDED = {"queued", "steered", "odd"}
"""Ends in words that the SDK's closed list lacks: kept, for another word would be a lie."""


@functools.cache
def types() -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
    return TypeAdapter(ResponseStreamEvent), TypeAdapter(Response)


def told(events: list[Event], r: Request = ASKED) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The events that a stream tells, each checked against the SDK's types and its place, and the final response."""
    writer = responses.writer(r, "resp_9", 7)
    out = b"".join(writer(e) for e in events) + writer.end()
    return parsed(out), json.loads(writer.response)


def parsed(out: bytes, strict: bool = True) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for block in out.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == len(found)
        if strict:
            check(event)
        found.append(event)
    return found


def check(event: dict[str, Any]) -> None:
    try:
        types()[0].validate_python(event)
    except ValidationError:
        reason = ((event.get("response") or {}).get("incomplete_details") or {}).get("reason")
        assert reason in UNWORDED, event


def whole(events: list[Event], r: Request = ASKED) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(responses.write_reply(fold(events), r, "resp_9", 7))
    if (body["incomplete_details"] or {}).get("reason") not in UNWORDED:
        types()[1].validate_python(body)
    return body


def wrong(i: dict[str, Any], want: dict[str, Any], got: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = {"text", "reasoning", "tool_calls", "finish_reason", "media_out", "error"}
    names -= {"finish_reason"} if i["id"] in FORCED or i["id"] == QUEUED else set()
    names -= {"media_out"} if i["id"] in SOUND else set()
    return [(i["id"], k, want[k], got[k]) for k in names if want[k] != got[k]]


def test_what_was_recorded_is_told() -> None:
    n = 0
    for source in (rec, chats):
        for i in source.answers():
            want = source.said(i)
            if want["error"]:
                continue
            n += 1
            events, trouble = source.read(i)
            assert trouble is None
            writer = responses.writer(ASKED, "resp_9", 7)
            out = b"".join(writer(e) for e in events) + writer.end()
            reply = responses.write_reply(fold(events), ASKED, "resp_9", 7)
            if n % 20 == 0:  # every event of every answer takes the SDK's types long
                parsed(out)
                whole(events)
            judge = rec.kit().answer_facts
            assert wrong(i, want, judge("openai.responses", "stream", 200, out)) == []
            assert wrong(i, want, judge("openai.responses", "chat", 200, reply)) == []
            assert wrong(i, want, judge("openai.responses", "chat", 200, writer.response)) == []
            usage = fold(events).usage
            if usage is not None:
                given = json.loads(reply)["usage"]
                assert (given["input_tokens"], given["output_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert n > 1000


@pytest.mark.slow
def test_every_event_of_every_recording_fits_the_sdk() -> None:
    for source in (rec, chats):
        for i in source.answers():
            events, trouble = source.read(i)
            if trouble is None:
                told(events)
                whole(events)


def test_the_events_of_an_answer_in_their_order() -> None:
    events, final = told(
        [
            Began("resp_7", "gpt", 3),
            Thought("so", family=OPENAI),
            Thought(sealed="gA", family=OPENAI),
            Said("he"),
            Said("llo"),
            Called(0, "c1", "f"),
            Argued(0, '{"a":'),
            Argued(0, "1}"),
            Counted(Usage(input=5, cache_read=4, cache_write_5m=2, output=3, reasoning=1)),
            Ended("tool_calls", "completed"),
        ]
    )
    assert [e["type"].removeprefix("response.") for e in events] == [
        *("created", "in_progress"),
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done"),
        "completed",
    ]
    assert (final["id"], final["model"], final["created_at"], final["status"]) == ("resp_7", "gpt", 3, "completed")
    assert final == events[-1]["response"]
    done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert final["output"] == done
    assert done == [
        {
            "id": "rs_7_0",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "so"}],
            "encrypted_content": "gA",
        },
        {
            "id": "msg_7_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}],
        },
        {
            "id": "fc_7_2",
            "type": "function_call",
            "status": "completed",
            "call_id": "c1",
            "name": "f",
            "arguments": '{"a":1}',
        },
    ]
    assert final["usage"] == {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 15,
    }


def test_calls_that_go_on_side_by_side_keep_their_places() -> None:
    events, final = told(
        [
            Called(0, "c1", "f"),
            Called(1, "c2", "g", kind="custom"),
            Argued(0, "{"),
            Argued(1, "x"),
            Argued(0, "}"),
            Ended("tool_calls"),
        ]
    )
    deltas = [(e["output_index"], e["delta"]) for e in events if e["type"].endswith(".delta")]
    assert deltas == [(0, "{"), (1, "x"), (0, "}")]
    first, second = final["output"]
    assert (first["arguments"], second["input"], second["type"]) == ("{}", "x", "custom_tool_call")


def test_an_id_of_another_provider_is_not_taken_over() -> None:
    _, final = told([Began("chatcmpl-0", "m"), Said("x"), Ended("stop")])
    assert final["id"] == "resp_9"
    assert final["created_at"] == 7
    assert whole([Began("chatcmpl-0", "m"), Said("x"), Ended("stop")])["id"] == "resp_9"


def test_a_refusal_is_a_part_of_its_own() -> None:
    _, final = told([Said("well"), Refused("no"), Ended("content_filter")])
    assert [p["type"] for p in final["output"][0]["content"]] == ["output_text", "refusal"]
    assert final["output"][0]["content"][1]["refusal"] == "no"


def test_scores_stand_with_their_text() -> None:
    token = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}
    events: list[Event] = [Said("x"), Scored(Raw(json.dumps([token]).encode())), Ended("stop")]
    streamed, final = told(events)
    assert final["output"][0]["content"][0]["logprobs"] == [token]
    assert [e["logprobs"] for e in streamed if e["type"] == "response.output_text.delta"] == [[], [token]]
    assert whole(events)["output"] == final["output"]


def test_a_picture_is_an_item() -> None:
    _, final = told([Shown(Media("image", mime="image/png", data="aGk=")), Ended("stop")])
    assert final["output"][0]["type"] == "image_generation_call"
    assert final["output"][0]["result"] == "aGk="


ENDS = [
    ("stop", "completed", None),
    ("tool_calls", "completed", None),
    ("length", "incomplete", "max_output_tokens"),
    ("content_filter", "incomplete", "content_filter"),
    (None, "incomplete", "odd"),
]


@pytest.mark.parametrize(("reason", "status", "why"), ENDS)
def test_no_end_is_called_better_than_it_is(reason: Any, status: str, why: str | None) -> None:
    events: list[Event] = [Said("x"), Ended(reason, "odd")]
    for final in (told(events)[1], whole(events)):
        assert final["status"] == status
        assert final["incomplete_details"] == (None if why is None else {"reason": why})
        assert final["output"][0]["status"] == ("completed" if why is None else "incomplete")


SEALS: list[tuple[str, list[Event]]] = [
    (
        "OpenAI's",
        [Thought("so", family=OPENAI), Thought(sealed="gA", family=OPENAI), Called(0, "c", "f"), Argued(0, "{}")],
    ),
    ("Anthropic's signature", [Thought("so", signature="s", family=ANTHROPIC), Said("x")]),
    ("Anthropic's sealed", [Thought(sealed="box", family=ANTHROPIC), Said("x")]),
    ("Gemini's call", [Called(0, "c", "f", signature="s"), Argued(0, "{}"), Called(1, "d", "g"), Argued(1, "{}")]),
    ("Gemini's text", [Said("x"), Thought(signature="s", family=GEMINI)]),
]


@pytest.mark.parametrize(("name", "events"), SEALS, ids=[s[0] for s in SEALS])
def test_seals_and_signatures_come_back_as_they_went(name: str, events: list[Event]) -> None:
    want = fold([*events, Ended("stop")]).choices[0]
    _, final = told([*events, Ended("stop")])
    body = {"model": "m", "input": final["output"]}
    (message,) = responses.read_request(json.dumps(body).encode(), "").messages
    thinking = tuple(p for p in message.parts if type(p).__name__ == "Thinking")
    calls = tuple(p for p in message.parts if type(p).__name__ == "ToolCall")
    assert (thinking, calls) == (want.thinking, want.calls)


def test_the_signature_of_a_call_is_not_that_of_the_thought_before_it() -> None:
    _, final = told([Thought("so", family=GEMINI), Called(0, "c", "f", signature="s"), Ended("tool_calls")])
    body = json.dumps({"model": "m", "input": final["output"]}).encode()
    (message,) = responses.read_request(body, "").messages
    assert [getattr(p, "signature", None) for p in message.parts] == [None, "s"]


def test_what_was_asked_is_repeated() -> None:
    body = {
        "model": "m",
        "input": "x",
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}, {"type": "web_search"}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "metadata": {"a": "b"},
        "store": False,
        "max_output_tokens": 9,
        "parallel_tool_calls": False,
    }
    r = responses.read_request(json.dumps(body).encode(), "")
    final = whole([Said("x"), Ended("stop")], r)
    for name in set(body) - {"model", "input"}:
        assert final[name] == body[name]


def test_a_problem_ends_a_stream_that_began() -> None:
    writer = responses.writer(ASKED, "resp_9", 7)
    out = writer(Said("x")) + writer.problem(Problem("limit", "slow down", code="busy"))
    last = parsed(out)[-1]
    assert (last["type"], last["code"], last["message"]) == ("error", "busy", "slow down")
    failed = json.loads(writer.response)
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": "rate_limit_exceeded", "message": "slow down"}
    facts = rec.kit().answer_facts("openai.responses", "stream", 200, out)
    assert facts["error"]["message"] == "slow down"
    assert facts["finish_reason"] is None


def test_a_problem_before_anything_is_an_error_event() -> None:
    (event,) = parsed(responses.writer(ASKED, "resp_9", 7).problem(Problem("client", "no", param="input")))
    assert (event["type"], event["code"], event["message"], event["param"]) == (
        "error",
        "invalid_prompt",
        "no",
        "input",
    )


def test_errors_have_openais_shape() -> None:
    body = json.loads(responses.write_problem(Problem("client", "no", code="c", param="p"), "req_1"))
    assert body == {"error": {"message": "no", "type": "invalid_request_error", "param": "p", "code": "c"}}


def test_any_order_of_events_makes_a_stream_that_the_sdk_reads() -> None:
    dice = random.Random(3)
    for _ in range(60):
        numbers = itertools.count()
        events: list[Event] = [Began("resp_1", "m", 1)]
        open_calls: list[int] = []
        for _ in range(dice.randint(0, 12)):
            kind = dice.randrange(7)
            if kind == 0:
                n = next(numbers)
                open_calls.append(n)
                events.append(Called(n, f"c{n}", "f", kind=dice.choice(("function", "custom"))))
            elif kind == 1 and open_calls:
                events.append(Argued(dice.choice(open_calls), "{}"))
            else:
                said: list[Event] = [Said("a"), Refused("b"), Thought("c"), Thought("d", sealed="e"), Said("")]
                events.append(dice.choice(said))
        streamed, final = told([*events, Ended("stop")])
        want = fold([*events, Ended("stop")]).choices[0]
        added = [e["output_index"] for e in streamed if e["type"] == "response.output_item.added"]
        assert added == list(range(len(final["output"])))
        texts = [p.get("text", "") for i in final["output"] if i["type"] == "message" for p in i["content"]]
        assert "".join(texts) == want.text
        assert len([i for i in final["output"] if "call_id" in i]) == len(want.calls)
        assert [e for e in streamed if e["type"] == "response.output_item.done"][-1:] != [] or not final["output"]


def test_the_sdks_own_stream_puts_the_answer_together() -> None:
    events: list[Event] = [
        Began("resp_1", "m", 1),
        Thought("so", family=OPENAI),
        Said("he"),
        Said("llo"),
        Called(0, "c1", "f"),
        Argued(0, '{"a":'),
        Argued(0, "1}"),
        Ended("tool_calls"),
    ]
    writer = responses.writer(ASKED, "resp_9", 7)
    body = b"".join(writer(e) for e in events) + writer.end()
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=body))
    with (
        httpx2.Client(transport=transport) as http,
        openai.OpenAI(api_key="k", base_url="http://h/v1", http_client=http) as client,
        client.responses.stream(model="m", input="x") as stream,
    ):
        final = stream.get_final_response()
    assert (final.id, final.status, final.output_text) == ("resp_1", "completed", "hello")
    assert [i.type for i in final.output] == ["reasoning", "message", "function_call"]


def test_the_sdk_reads_a_problem_in_a_stream() -> None:
    body = responses.writer(ASKED, "resp_9", 7).problem(Problem("limit", "slow down"))
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=body))
    with (
        httpx2.Client(transport=transport) as http,
        openai.OpenAI(api_key="k", base_url="http://h/v1", http_client=http) as client,
    ):
        (event,) = client.responses.create(model="m", input="x", stream=True)
    assert isinstance(event, ResponseErrorEvent)
    assert event.message == "slow down"
