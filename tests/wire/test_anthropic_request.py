"""Anthropic requests: what a client may ask, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from lilliput.neutral import Media, Message, Opaque, Problem, Reasoning, Text, Thinking, ToolCall, ToolResult
from lilliput.wire import anthropic
from lilliput.wire.families import ANTHROPIC, GEMINI, OPENAI


def _body(**fields: Any) -> bytes:
    return json.dumps(
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **fields}
    ).encode()


def _parts(*blocks: Any, role: str = "user") -> tuple[Any, ...]:
    r = anthropic.read_request(_body(messages=[{"role": role, "content": list(blocks)}]), "/v1/messages?beta=true")
    return tuple(p for m in r.messages for p in m.parts)


def _one(**block: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [block]}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"messages": {}}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (_one(type="text"), "messages[0].content[0].text"),
        (_one(type="image"), "messages[0].content[0].source"),
        (_one(type="tool_use", name="f"), "messages[0].content[0].id"),
        (_one(type="tool_use", id="i"), "messages[0].content[0].name"),
        (_one(type="tool_use", id="i", name="f", input=[]), "messages[0].content[0].input"),
        (_one(type="tool_result"), "messages[0].content[0].tool_use_id"),
        (_one(type="tool_result", tool_use_id="i", content={}), "messages[0].content[0].content"),
        (
            _one(type="tool_result", tool_use_id="i", content=[{"type": "text"}]),
            "messages[0].content[0].content[0].text",
        ),
        (_one(type="redacted_thinking"), "messages[0].content[0].data"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "all"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "thinking.budget_tokens"),
        ({"metadata": "x"}, "metadata"),
    ],
)
def test_a_refusal_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Problem) as caught:
        anthropic.check(_body(**fields), "")
    assert caught.value.status == 400
    assert caught.value.param == param
    assert caught.value.code


def test_only_a_count_goes_without_max_tokens() -> None:
    body = _body(max_tokens=None)
    assert anthropic.check_count(body, "").model == "m"
    assert anthropic.read_request(body, "").max_tokens is None
    with pytest.raises(Problem, match="max_tokens is missing"):
        anthropic.check(body, "")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"model":"\\ud800"}', b"[" * 5000])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        anthropic.read_request(body, "")
    assert caught.value.status == 400


def test_media_and_documents() -> None:
    base64 = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    text = {"type": "text", "media_type": "text/plain", "data": "hé"}
    blocks = [
        {"type": "image", "source": base64, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
        {"type": "document", "source": {**base64, "media_type": "application/pdf"}, "title": "T"},
        {"type": "document", "source": text},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {"type": "content", "content": "x"}},
    ]
    assert _parts(*blocks) == (
        Media("image", mime="image/png", data="AAAA", cache="1h"),
        Media("image", url="https://x.test/a.png"),
        Media("file", mime="application/pdf", data="AAAA", name="T"),
        Media("file", mime="text/plain", data="aMOp"),
        Media("file", file_id="file_1"),
        Media("file", mime="text/plain", data="eA=="),
    )


def test_blocks_of_unknown_types_stay_as_they_came() -> None:
    for block in (
        {"type": "container_upload", "file_id": "f"},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": {"type": "error", "error_code": "x"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
        {"type": "search_result", "source": "https://x.test", "title": "t", "content": [{"type": "text", "text": "x"}]},
    ):
        (part,) = _parts(block)
        assert isinstance(part, Opaque)
        assert part.dialect == "anthropic"
        assert json.loads(bytes(part.raw)) == block


def test_tool_results_become_a_message_of_their_own() -> None:
    blocks = [
        {"type": "text", "text": "and?"},
        {"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": True},
        {
            "type": "tool_result",
            "tool_use_id": "b",
            "content": [
                {"type": "text", "text": "2"},
                {"type": "image", "source": {"type": "url", "url": "u"}},
                {"type": "tool_reference", "tool_name": "f"},
                {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "3"}]},
            ],
        },
    ]
    r = anthropic.read_request(_body(messages=[{"role": "user", "content": blocks}]), "")
    assert r.messages == (
        Message(
            "tool",
            (
                ToolResult("a", (Text("1"),), is_error=True),
                ToolResult("b", (Text("2"), Media("image", url="u"), Text("3"))),
            ),
        ),
        Message("user", (Text("and?"),)),
    )


def test_thinking_keeps_whose_it_is() -> None:
    call = {"type": "tool_use", "id": "i", "name": "f", "input": {"a": 1}}
    assert _parts(
        {"type": "thinking", "thinking": "a", "signature": "s"},
        {"type": "thinking", "thinking": "b", "signature": ""},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "redacted_thinking", "data": f"{OPENAI}:e"},
        {"type": "thinking", "thinking": "c", "signature": f"{OPENAI}:"},
        {"type": "thinking", "thinking": "", "signature": f"{GEMINI}:g"},
        call,
        {"type": "thinking", "thinking": "", "signature": "h"},
        call,
        role="assistant",
    ) == (
        Thinking("a", "s", None, ANTHROPIC),
        Thinking("b"),
        Thinking("", None, "d", ANTHROPIC),
        Thinking("", None, "e", OPENAI),
        Thinking("c", None, None, OPENAI),
        ToolCall("i", "f", '{"a": 1}', signature="g"),
        Thinking("", "h", None, ANTHROPIC),
        ToolCall("i", "f", '{"a": 1}'),
    )


@pytest.mark.parametrize(
    ("fields", "want", "extra"),
    [
        ({}, None, set()),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, Reasoning(None, 2000), set()),
        ({"thinking": {"type": "disabled"}}, Reasoning("none"), set()),
        ({"thinking": {"type": "adaptive"}}, Reasoning("high"), {"thinking"}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, Reasoning("low"), {"thinking"}),
        ({"output_config": {"effort": "low"}}, Reasoning("low"), set()),
        ({"output_config": {"task_budget": {"total": 9}}}, None, {"output_config"}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}, "output_config": {"effort": "max"}},
            Reasoning("max", 2000),
            set(),
        ),
    ],
)
def test_how_hard_to_think(fields: dict[str, Any], want: Reasoning | None, extra: set[str]) -> None:
    r = anthropic.read_request(_body(**fields), "")
    assert r.reasoning == want
    assert set(r.extra) == extra


def test_the_other_fields() -> None:
    schema = {"type": "object"}
    r = anthropic.read_request(
        _body(
            system=[
                {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "b"},
            ],
            stop_sequences=["x"],
            stream=True,
            temperature=0.5,
            top_p=0.9,
            top_k=5,
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
            tools=[
                {"name": "f", "description": "d", "input_schema": schema, "strict": True},
                {"type": "web_search_20250305", "name": "web_search"},
            ],
            output_format={"type": "json_schema", "schema": schema},
            metadata={"user_id": "u"},
            service_tier="auto",
        ),
        "",
    )
    assert r.messages[0] == Message("system", (Text("a", "5m"), Text("b")))
    assert (r.stop, r.stream, r.temperature, r.top_p, r.top_k, r.user) == (("x",), True, 0.5, 0.9, 5, "u")
    assert r.tool_choice is not None
    assert (r.tool_choice.mode, r.parallel_tools) == ("required", False)
    assert [(t.name, t.description, t.strict) for t in r.tools] == [("f", "d", True)]
    assert r.format is not None
    assert r.format.schema is not None
    assert msgspec.json.decode(r.format.schema) == schema
    assert set(r.extra) == {"tools", "service_tier"}
