"""Legacy completions: what clients may send, what providers are asked, and log-probabilities in their old form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from tests.wire.test_cohere_recordings import feed

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Choice,
    Counted,
    Ended,
    Event,
    Media,
    Message,
    Part,
    Problem,
    Refused,
    Reply,
    Request,
    Role,
    Said,
    Scored,
    Target,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    Usage,
    fold,
)
from lilliput.wire import completions as dialect
from lilliput.wire.openai import request as openai_request

TARGET = Target(provider="p", model="m", base="http://localhost/v1")
LOGPROBS = {
    "tokens": ["Hi", "!"],
    "token_logprobs": [-0.5, -1.0],
    "top_logprobs": [{"Hi": -0.5, "Ho": -2.0}, {}],
}


def written(messages: list[tuple[Role, tuple[Part, ...]]], **fields: Any) -> dict[str, Any]:
    turns = tuple(Message(role, parts) for role, parts in messages)
    out: dict[str, Any] = json.loads(dialect.write_body(Request(model="x", messages=turns, **fields), TARGET).body)
    return out


PROMPTS: list[tuple[str, list[tuple[Role, tuple[Part, ...]]], str]] = [
    ("one word", [("user", (Text("hi"),))], "hi"),
    ("one word of several parts", [("user", (Text("hi"), Text("you")))], "hi\nyou"),
    ("nothing", [("user", ())], ""),
    (
        "a conversation is left open",
        [("system", (Text("be kind"),)), ("user", (Text("hi"),))],
        "System: be kind\n\nUser: hi\n\nAssistant:",
    ),
    (
        "unless the assistant has the last word",
        [("user", (Text("hi"),)), ("assistant", (Text("well"),))],
        "User: hi\n\nAssistant: well",
    ),
    (
        "results are said, calls are not",
        [("user", (Text("2+2"),)), ("assistant", (ToolCall("1", "f"),)), ("tool", (ToolResult("1", (Text("4"),)),))],
        "User: 2+2\n\nTool: 4\n\nAssistant:",
    ),
]


@pytest.mark.parametrize(("name", "messages", "prompt"), PROMPTS)
def test_one_prompt_of_all_messages(name: str, messages: list[tuple[Role, tuple[Part, ...]]], prompt: str) -> None:
    assert written(messages) == {"model": "m", "prompt": prompt}


def test_all_that_a_prompt_can_be_asked_with() -> None:
    fields = {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 3,
        "seed": 1,
        "n": 2,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "stop": ("x",),
        "user": "u",
    }
    got = written([("user", (Text("hi"),))], logprobs=True, top_logprobs=9, stream=True, **fields)
    assert got == {
        "model": "m",
        "prompt": "hi",
        **fields,
        "stop": ["x"],
        "logprobs": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert written([("user", (Text("hi"),))], logprobs=True)["logprobs"] == 0
    assert "logprobs" not in written([("user", (Text("hi"),))], logprobs=False)


def test_media_are_refused() -> None:
    with pytest.raises(Problem, match="only text") as p:
        written([("user", (Media("image", data="AAAA"),))])
    assert (p.value.status, p.value.param) == (400, "messages")


def test_a_request_is_read() -> None:
    body = {
        "model": "m",
        "prompt": ["hi"],
        "logprobs": 2,
        "stop": "x",
        "echo": True,
        "suffix": None,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert dialect.read_request(json.dumps(body).encode()) == Request(
        model="m",
        messages=(Message("user", (Text("hi"),)),),
        dialect="openai_completions",
        logprobs=True,
        top_logprobs=2,
        stop=("x",),
        stream=True,
        include_usage=True,
        extra={"echo": Raw(b"true")},
    )


REFUSED: list[tuple[bytes, str | None]] = [
    (b"{}", "model"),
    (b'{"model":""}', "model"),
    (b'{"model":"m","max_tokens":-1}', "max_tokens"),
    (b'{"model":"m","prompt":{}}', "prompt"),
    (b'{"model":"m","temperature":3}', "temperature"),
    (b'{"model":"m","stop":[1]}', "stop[0]"),
    (b"[]", None),
    (b"{", None),
    (b"\xff", None),
    (b'{"model":"m","x":"\xff"}', None),
]


@pytest.mark.parametrize(("body", "param"), REFUSED)
def test_what_is_no_request_is_refused_by_its_field(body: bytes, param: str | None) -> None:
    with pytest.raises(Problem) as p:
        dialect.read_request(body)
    assert (p.value.status, p.value.fault) == (400, "client")
    assert (p.value.param or "").startswith(param or "")


@pytest.mark.parametrize("prompt", ['["a","b"]', "[1,2]", "[[1,2]]", "[]"])
def test_prompts_that_are_not_one_text_only_pass(prompt: str) -> None:
    body = b'{"model":"m","prompt":%b}' % prompt.encode()
    assert dialect.check(body).model == "m"
    with pytest.raises(Problem, match="one prompt a request") as p:
        dialect.read_request(body)
    assert (p.value.status, p.value.param) == (400, "prompt")


def test_a_prompt_reaches_other_dialects() -> None:
    r = dialect.read_request(b'{"model":"m","prompt":"hi","max_tokens":3,"best_of":2}')
    assert (
        r.messages == openai_request.read_request(b'{"model":"m","messages":[{"role":"user","content":"hi"}]}').messages
    )
    assert list(r.extra) == ["best_of"]


def test_log_probabilities_there_and_back() -> None:
    choice = {"index": 0, "text": "Hi!", "logprobs": LOGPROBS, "finish_reason": "stop"}
    events, trouble = feed(dialect, json.dumps({"id": "1", "choices": [choice]}).encode(), False)
    assert trouble is None
    (scores,) = fold(events).choices[0].logprobs
    assert json.loads(bytes(scores))[0] == {
        "token": "Hi",
        "logprob": -0.5,
        "bytes": [72, 105],
        "top_logprobs": [
            {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]},
            {"token": "Ho", "logprob": -2.0, "bytes": [72, 111]},
        ],
    }
    whole = json.loads(dialect.write_reply(fold(events), Request(model="m", messages=())))
    assert whole["choices"][0]["logprobs"] == LOGPROBS
    streamed = dialect.writer(Request(model="m", messages=()))(Scored(scores))
    assert json.loads(streamed[6:])["choices"][0]["logprobs"] == LOGPROBS


def test_a_token_without_a_value_is_left_out() -> None:
    odd = {"tokens": ["a", "b", "c"], "token_logprobs": [None, -1.0], "top_logprobs": None}
    raw = json.dumps({"choices": [{"text": "abc", "logprobs": odd}]}).encode()
    (scores,) = fold(feed(dialect, raw, False)[0]).choices[0].logprobs
    assert [s["token"] for s in json.loads(bytes(scores))] == ["b"]


def test_scores_that_cannot_be_read_are_none() -> None:
    reply = Reply(choices=[Choice(logprobs=(Raw(b'[{"logprob":1}]'),)), Choice(1, logprobs=(Raw(b"[]"),))])
    for choice in json.loads(dialect.write_reply(reply, Request(model="m", messages=())))["choices"]:
        assert choice["logprobs"] is None


def test_a_stream_is_written() -> None:
    write = dialect.writer(Request(model="m", messages=(), include_usage=True), "cmpl-1", 7)
    events: list[Event] = [
        Began(None, "served"),
        Thought("hm"),
        Said("hi", 1),
        Refused("no", 0),
        Called(0, "c", "f"),
        Argued(0, "{}"),
        Ended("stop", "stop", 1),
        Ended(None, "news", 0),
        Counted(Usage(input=1, output=2)),
    ]
    out = b"".join(map(write, events)) + write.end()
    chunks = out.removesuffix(b"\n\n").split(b"\n\n")
    assert chunks.pop() == b"data: [DONE]"
    told = [json.loads(c[6:]) for c in chunks]
    assert {(c["id"], c["object"], c["created"], c["model"]) for c in told} == {
        ("cmpl-1", "text_completion", 7, "served")
    }
    assert [(c["index"], c["text"], c["finish_reason"]) for t in told for c in t["choices"]] == [
        (1, "hi", None),
        (0, "no", None),
        (1, "", "stop"),
        (0, "", "news"),
    ]
    assert [t["usage"] and t["usage"]["total_tokens"] for t in told] == [None, None, None, None, 3]
    assert dialect.writer(Request(model="m", messages=())).end() == b"data: [DONE]\n\n"
    assert write.problem(Problem("provider", "gone")).startswith(b'data: {"error":')
    assert write.content_type.startswith(b"text/event-stream")


CHUNKS: list[tuple[str, bytes, str, str | None]] = [
    ("an error", b'data: {"choices":[{"text":"a"}]}\n\ndata: {"error":{"message":"no"}}\n\n', "a", "no"),
    ("a detail", b'data: {"detail":"no"}\n\n', "", "no"),
    ("the mark is an end", b'data: {"choices":[{"text":"a"}]}\n\ndata: [DONE]\n\n', "a", None),
    ("and so is a finish", b'data: {"choices":[{"text":"a","finish_reason":"stop"}]}\n\n', "a", None),
]


@pytest.mark.parametrize(("name", "raw", "text", "say"), CHUNKS)
def test_streams(name: str, raw: bytes, text: str, say: str | None) -> None:
    events, trouble = feed(dialect, raw, True)
    assert (fold(events).choices[0].text if events else "") == text
    assert (trouble and trouble.say) == say


def test_every_choice_must_end() -> None:
    raw = b'data: {"choices":[{"index":0,"text":"a","finish_reason":"stop"},{"index":1,"text":"b"}]}\n\n'
    assert feed(dialect, raw, True)[1].code == "upstream_truncated"
    assert feed(dialect, b"data: [DONE]\n\n", True)[1].code == "upstream_invalid"


@pytest.mark.parametrize(
    "raw", [b"{}", b'{"choices":[]}', b'{"choices":[{"index":-1}]}', b'{"choices":[{"index":9999}]}']
)
def test_what_is_no_answer_is_refused(raw: bytes) -> None:
    assert feed(dialect, raw, False)[1].code == "upstream_invalid"
