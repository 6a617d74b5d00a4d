"""What Ollama is asked: the shape of bodies that no recording has, and room for the prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from lilliput.neutral import (
    Format,
    Media,
    Message,
    Part,
    Problem,
    Reasoning,
    Request,
    Role,
    Sent,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from lilliput.wire import ollama
from lilliput.wire.ollama import generate as ollama_generate

PNG = Media("image", data="iVBORw0KGgo=")
SCHEMA = Raw(b'{"type":"object"}')
HI: list[tuple[Role, tuple[Part, ...]]] = [("user", (Text("hi"),))]


def sent(messages: list[tuple[Role, tuple[Part, ...]]] = HI, model: str = "llama", **fields: Any) -> Sent:
    turns = tuple(Message(role, parts) for role, parts in messages)
    return ollama.write_body(Request(model="m", messages=turns, **fields), Target(provider="o", model=model))


def body(messages: list[tuple[Role, tuple[Part, ...]]] = HI, model: str = "llama", **fields: Any) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(sent(messages, model, **fields).body)
    return out


MESSAGES: list[tuple[str, list[tuple[Role, tuple[Part, ...]]], list[dict[str, Any]]]] = [
    (
        "images stand beside the text",
        [("user", (Text("see"), PNG, Text("this")))],
        [{"role": "user", "content": "see\nthis", "images": ["iVBORw0KGgo="]}],
    ),
    (
        "arguments are an object, results tell the tool",
        [
            ("assistant", (Thinking("hm"), ToolCall("1", "f", '{"x":1}'), ToolCall("2", "g"))),
            ("tool", (ToolResult("1", (Text("a"), PNG)),)),
            ("tool", (ToolResult("9", (Text("b"),)),)),
        ],
        [
            {
                "role": "assistant",
                "content": "",
                "thinking": "hm",
                "tool_calls": [
                    {"id": "1", "function": {"name": "f", "arguments": {"x": 1}}},
                    {"id": "2", "function": {"name": "g", "arguments": {}}},
                ],
            },
            {"role": "tool", "content": "a", "images": ["iVBORw0KGgo="], "tool_name": "f", "tool_call_id": "1"},
            {"role": "tool", "content": "b", "tool_call_id": "9"},
        ],
    ),
    (
        "results in a user's turn stand before its words",
        [("user", (ToolResult("1", (Text("a"),), "f"), Text("go on"))), ("user", (ToolResult("2", ()),))],
        [
            {"role": "tool", "content": "a", "tool_name": "f", "tool_call_id": "1"},
            {"role": "user", "content": "go on"},
            {"role": "tool", "content": "", "tool_call_id": "2"},
        ],
    ),
]


@pytest.mark.parametrize(("name", "messages", "want"), MESSAGES)
def test_messages(name: str, messages: list[tuple[Role, tuple[Part, ...]]], want: list[dict[str, Any]]) -> None:
    assert body(messages)["messages"] == want


@pytest.mark.parametrize(
    ("call", "want"),
    [
        (ToolCall("1", "f", '{"x": "'), {"input": '{"x": "'}),
        (ToolCall("1", "f", "[1]"), {"input": "[1]"}),
        (ToolCall("1", "f", "free", "custom"), {"input": "free"}),
        (ToolCall("1", "f", '{"x":NaN}'), {"input": '{"x":NaN}'}),
    ],
)
def test_arguments_that_are_no_object(call: ToolCall, want: dict[str, Any]) -> None:
    (message,) = body([("assistant", (call,))])["messages"]
    assert message["tool_calls"][0]["function"]["arguments"] == want


FIELDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("nothing", {}, {}),
    (
        "options",
        {"max_tokens": 5, "temperature": 0.5, "top_p": 0.5, "top_k": 3, "seed": 1, "stop": ("x",)},
        {"options": {"num_predict": 5, "temperature": 0.5, "top_p": 0.5, "top_k": 3, "seed": 1, "stop": ["x"]}},
    ),
    ("penalties", {"presence_penalty": 1.0}, {"options": {"presence_penalty": 1.0}}),
    ("json", {"format": Format("json")}, {"format": "json"}),
    ("schema", {"format": Format("schema", SCHEMA)}, {"format": {"type": "object"}}),
    ("text", {"format": Format("text")}, {}),
    ("log-probabilities", {"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ("its own", {"extra": {"keep_alive": Raw(b"9"), "truncate": Raw(b"true")}}, {"keep_alive": 9, "truncate": True}),
    (
        "its own options win",
        {"temperature": 1.0, "extra": {"options": Raw(b'{"temperature":0,"min_p":0.1}')}},
        {"options": {"temperature": 0, "min_p": 0.1}},
    ),
    ("an empty list of stops", {"extra": {"stop": Raw(b"[]")}}, {"options": {"stop": []}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields", "want"), FIELDS)
def test_fields(name: str, fields: dict[str, Any], want: dict[str, Any]) -> None:
    got = body(**fields)
    assert {k: v for k, v in got.items() if k not in ("model", "messages")} == {
        "stream": False,
        "truncate": False,
        **want,
    }


def test_options_that_are_no_object_are_refused() -> None:
    with pytest.raises(Problem) as p:
        sent(extra={"options": Raw(b"[]")})
    assert (p.value.status, p.value.param) == (400, "options")


THINK: list[tuple[str, Reasoning, bool | str, tuple[str, ...]]] = [
    ("qwen3", Reasoning("none"), False, ()),
    ("qwen3", Reasoning("high"), True, ("reasoning_effort",)),
    ("gpt-oss:20b", Reasoning("high"), "high", ()),
    ("gpt-oss:20b", Reasoning("minimal"), "low", ("reasoning_effort",)),
    ("gpt-oss:20b", Reasoning(budget_tokens=99), True, ("reasoning_budget",)),
]


@pytest.mark.parametrize(("model", "asked", "want", "dropped"), THINK)
def test_thinking(model: str, asked: Reasoning, want: bool | str, dropped: tuple[str, ...]) -> None:
    got = sent(model=model, reasoning=asked)
    assert json.loads(got.body)["think"] == want
    assert got.dropped == dropped


CHOICES: list[tuple[ToolChoice | None, list[str] | None, tuple[str, ...]]] = [
    (None, ["f", "g"], ()),
    (ToolChoice("auto"), ["f", "g"], ()),
    (ToolChoice("none"), None, ()),
    (ToolChoice("required"), ["f", "g"], ("tool_choice",)),
    (ToolChoice("named", "g"), ["g"], ("tool_choice",)),
]


@pytest.mark.parametrize(("choice", "want", "dropped"), CHOICES)
def test_tool_choice(choice: ToolChoice | None, want: list[str] | None, dropped: tuple[str, ...]) -> None:
    got = sent(tools=(Tool("f"), Tool("g")), tool_choice=choice)
    tools = json.loads(got.body).get("tools")
    assert (tools and [t["function"]["name"] for t in tools]) == want
    assert got.dropped == dropped


ROOM: list[tuple[str, str, dict[str, Any], int | None]] = [
    ("a short prompt", "hi", {}, None),
    ("just what fits", "x" * 6_000, {}, None),
    ("a long prompt", "x" * 12_000, {}, 8192),
    ("a longer one", "x" * 60_000, {}, 32768),
    ("in a script of three bytes a letter", "\u4e16" * 6_000, {}, 8192),
    ("a long answer", "hi", {"max_tokens": 5000}, 8192),
    ("an answer without end", "hi", {"max_tokens": 2**30}, 32768),
    ("tools count", "hi", {"tools": (Tool("f", "x" * 12_000),)}, 8192),
    ("so does a schema", "hi", {"format": Format("schema", Raw(b'"%b"' % (b"x" * 12_000)))}, 8192),
    ("the caller knows better", "x" * 60_000, {"extra": {"options": Raw(b'{"num_ctx":2048}')}}, 2048),
]


@pytest.mark.parametrize(("name", "text", "fields", "want"), ROOM)
def test_room_for_the_prompt(name: str, text: str, fields: dict[str, Any], want: int | None) -> None:
    got = body([("user", (Text(text),))], **fields)
    assert got.get("options", {}).get("num_ctx") == want
    assert got["truncate"] is False


def test_images_count_whatever_their_size() -> None:
    assert body([("user", (PNG, PNG))])["options"]["num_ctx"] == 8192
    huge = Media("image", data="A" * 10**6)
    assert body([("user", (huge,))])["options"]["num_ctx"] == 8192


@pytest.mark.parametrize(
    "media", [Media("image", url="https://x.test/a.png"), Media("audio", data="AAAA"), Media("image", file_id="f")]
)
def test_other_media_are_refused(media: Media) -> None:
    for module in (ollama, ollama_generate):
        with pytest.raises(Problem, match="only images, as data") as p:
            module.write_body(
                Request(model="m", messages=(Message("user", (media,)),)), Target(provider="o", model="m")
            )
        assert p.value.status == 400


def test_generate_has_one_prompt() -> None:
    r = Request(
        model="m",
        messages=(
            Message("system", (Text("be kind"),)),
            Message("user", (Text("a"), PNG)),
            Message("assistant", (Text("b"),)),
            Message("user", (Text("c" * 12_000),)),
        ),
        max_tokens=3,
        format=Format("json"),
        reasoning=Reasoning("none"),
        extra={"raw": Raw(b"true"), "seed_bank": Raw(b"1")},
    )
    got = ollama_generate.write_body(r, Target(provider="o", model="llama"))
    assert json.loads(got.body) == {
        "model": "llama",
        "prompt": f"User: a\n\nAssistant: b\n\nUser: {'c' * 12_000}\n\nAssistant:",
        "system": "be kind",
        "images": ["iVBORw0KGgo="],
        "options": {"num_predict": 3, "num_ctx": 8192},
        "format": "json",
        "think": False,
        "raw": True,
        "stream": False,
        "truncate": False,
    }
    assert got.dropped == ("seed_bank",)
