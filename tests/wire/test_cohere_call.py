"""What Cohere is asked: the shape of bodies that no recording has."""

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
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from lilliput.wire import cohere
from lilliput.wire.cohere import v1 as cohere_v1

TARGET = Target(provider="cohere", model="command")
PNG = Media("image", mime="image/png", data="iVBORw0KGgo=", detail="low")
SCHEMA = Raw(b'{"type":"object","properties":{"x":{"type":"integer"}}}')
TOOLS = (Tool("f", "does f", SCHEMA), Tool("g"))


def body(messages: list[tuple[Role, tuple[Part, ...]]] | None = None, **fields: Any) -> dict[str, Any]:
    turns = tuple(Message(role, parts) for role, parts in messages or [("user", (Text("hi"),))])
    sent = cohere.write_body(Request(model="m", messages=turns, **fields), TARGET)
    out: dict[str, Any] = json.loads(sent.body)
    return out


MESSAGES: list[tuple[str, list[tuple[Role, tuple[Part, ...]]], list[dict[str, Any]]]] = [
    (
        "an image",
        [("user", (Text("see"), PNG))],
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
                ],
            }
        ],
    ),
    (
        "what is said beside calls is their plan",
        [("assistant", (Thinking("hm"), Text("I"), Text("plan"), ToolCall("1", "f"), ToolCall("2", "g", '{"x":1}')))],
        [
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "hm"}],
                "tool_plan": "I\nplan",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "2", "type": "function", "function": {"name": "g", "arguments": '{"x":1}'}},
                ],
            }
        ],
    ),
    (
        "thinking goes before text",
        [("assistant", (Text("yes"), Thinking("hm", "sig", None, "x"), Thinking("", None, "sealed", "x")))],
        [
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}],
            }
        ],
    ),
    ("an empty turn", [("assistant", ())], [{"role": "assistant", "content": ""}]),
    (
        "images of results follow all results",
        [
            ("tool", (ToolResult("1", (Text("a"), PNG)),)),
            ("tool", (ToolResult("2", (Text("b"),)),)),
            ("user", (Text("go on"),)),
        ],
        [
            {"role": "tool", "tool_call_id": "1", "content": "a"},
            {"role": "tool", "tool_call_id": "2", "content": "b"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
                ],
            },
            {"role": "user", "content": "go on"},
        ],
    ),
    (
        "results in a user's turn stand before its words",
        [("user", (ToolResult("1", (Text("a"), Text("b"))), Text("go on")))],
        [
            {
                "role": "tool",
                "tool_call_id": "1",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
            {"role": "user", "content": "go on"},
        ],
    ),
    (
        "a custom call",
        [("assistant", (ToolCall("1", "f", 'say "hi"', "custom"),))],
        [
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"input":"say \\"hi\\""}'},
                    }
                ],
            }
        ],
    ),
]


@pytest.mark.parametrize(("name", "messages", "want"), MESSAGES)
def test_messages(name: str, messages: list[tuple[Role, tuple[Part, ...]]], want: list[dict[str, Any]]) -> None:
    assert body(messages)["messages"] == want


FIELDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("top_p and top_k", {"top_p": 0.5, "top_k": -1}, {"p": 0.5, "k": 0}),
    ("stop", {"stop": ("a", "b")}, {"stop_sequences": ["a", "b"]}),
    ("json", {"format": Format("json")}, {"response_format": {"type": "json_object"}}),
    ("text", {"format": Format("text")}, {}),
    (
        "schema",
        {"format": Format("schema", SCHEMA, "n", True)},
        {"response_format": {"type": "json_object", "json_schema": json.loads(bytes(SCHEMA))}},
    ),
    ("no thinking", {"reasoning": Reasoning("none")}, {"thinking": {"type": "disabled"}}),
    (
        "a budget",
        {"reasoning": Reasoning(budget_tokens=100)},
        {"thinking": {"type": "enabled", "token_budget": 100}},
    ),
    ("an effort", {"reasoning": Reasoning("low")}, {"thinking": {"type": "enabled"}}),
    ("log-probabilities", {"logprobs": True}, {"logprobs": True}),
    ("its own", {"extra": {"documents": Raw(b'["d"]')}}, {"documents": ["d"]}),
]


@pytest.mark.parametrize(("name", "fields", "want"), FIELDS)
def test_fields(name: str, fields: dict[str, Any], want: dict[str, Any]) -> None:
    got = body(**fields)
    assert {k: v for k, v in got.items() if k not in ("model", "messages", "stream")} == want
    assert (got["model"], got["stream"]) == ("command", False)


CHOICES: list[tuple[str, ToolChoice | None, list[str], str | None]] = [
    ("none said", None, ["f", "g"], None),
    ("auto", ToolChoice("auto"), ["f", "g"], None),
    ("none", ToolChoice("none"), ["f", "g"], "NONE"),
    ("required", ToolChoice("required"), ["f", "g"], "REQUIRED"),
    ("named", ToolChoice("named", "g"), ["g"], "REQUIRED"),
    ("a name that is no tool's", ToolChoice("named", "h"), ["f", "g"], "REQUIRED"),
]


@pytest.mark.parametrize(("name", "choice", "tools", "want"), CHOICES)
def test_tool_choice(name: str, choice: ToolChoice | None, tools: list[str], want: str | None) -> None:
    got = body(tools=TOOLS, tool_choice=choice)
    assert [t["function"]["name"] for t in got["tools"]] == tools
    assert got.get("tool_choice") == want


def test_a_tool_without_a_schema_takes_no_arguments() -> None:
    f, g = body(tools=TOOLS)["tools"]
    assert f["function"] == {"name": "f", "description": "does f", "parameters": json.loads(bytes(SCHEMA))}
    assert g["function"] == {"name": "g", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("strict", "want"), [((True, True), True), ((True, False), None), ((None, True), None), ((None, None), None)]
)
def test_tools_are_strict_together(strict: tuple[bool | None, ...], want: bool | None) -> None:
    assert body(tools=tuple(Tool("f", strict=s) for s in strict)).get("strict_tools") == want


@pytest.mark.parametrize(
    "media", [Media("audio", data="AAAA"), Media("file", url="https://x.test/a.pdf"), Media("image", file_id="f")]
)
def test_other_media_are_refused_by_name(media: Media) -> None:
    with pytest.raises(Problem, match=media.kind) as p:
        body([("user", (media,))])
    assert (p.value.status, p.value.param) == (400, "messages")


def test_v1_has_its_last_word_apart() -> None:
    turns: list[tuple[Role, str]] = [("system", "be kind"), ("user", "a"), ("assistant", "b"), ("user", "c")]
    r = Request(model="m", messages=tuple(Message(role, (Text(text),)) for role, text in turns), top_p=0.5, stream=True)
    assert json.loads(cohere_v1.write_body(r, TARGET).body) == {
        "model": "command",
        "message": "c",
        "stream": True,
        "chat_history": [
            {"role": "SYSTEM", "message": "be kind"},
            {"role": "USER", "message": "a"},
            {"role": "CHATBOT", "message": "b"},
        ],
        "p": 0.5,
    }


def test_v1_turns_results_into_words() -> None:
    parts = (ToolCall("1", "f"),), (ToolResult("1", (Text("four"),)),)
    r = Request(
        model="m",
        messages=(Message("user", (Text("2+2"),)), Message("assistant", parts[0]), Message("tool", parts[1])),
        format=Format("schema", SCHEMA),
    )
    sent = cohere_v1.write_body(r, TARGET)
    got = json.loads(sent.body)
    assert (got["message"], got["chat_history"]) == ("four", [{"role": "USER", "message": "2+2"}])
    assert got["response_format"] == {"type": "json_object", "schema": json.loads(bytes(SCHEMA))}
    assert sent.dropped == ("tools",)
