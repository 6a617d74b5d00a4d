"""Requests to Anthropic's providers: turns, tools, thinking, and what has no place there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw, structs
from tests.wire import anthropic_recordings as rec

from lilliput.neutral import (
    Format,
    Media,
    Message,
    Part,
    Problem,
    Reasoning,
    Request,
    Secret,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from lilliput.wire import anthropic
from lilliput.wire.families import ANTHROPIC, GEMINI

TOOL = Tool("f", "d", Raw(b'{"type":"object"}'))
HI = Request(model="m", messages=(Message("user", (Text("hi"),)),))


def _target(model: str = "m", dialect: str = "anthropic") -> Target:
    return Target(provider="p", model=model, dialect=dialect, base="https://x.test")


def _sent(r: Request, model: str = "m") -> tuple[dict[str, Any], tuple[str, ...]]:
    sent = anthropic.write_body(r, _target(model))
    return json.loads(sent.body), sent.dropped


def _asked(**fields: Any) -> Request:
    return structs.replace(HI, **fields)


def _turns(*messages: Message) -> dict[str, Any]:
    return _sent(_asked(messages=messages))[0]


@pytest.mark.parametrize(
    ("fields", "model", "dropped"),
    [
        ({"temperature": 1.5}, "m", "temperature"),
        ({"temperature": 0.5}, "claude-opus-4-7", "temperature"),
        ({"top_p": 0.5, "temperature": 0.5}, "claude-sonnet-4-5", "top_p"),
        ({"top_k": 5}, "claude-opus-5", "top_k"),
        ({"top_k": 5, "reasoning": Reasoning(None, 2000)}, "claude-sonnet-4-5", "top_k"),
        ({"tool_choice": ToolChoice("required")}, "m", "tool_choice"),
        ({"tools": (Tool("f", strict=True),)}, "claude-sonnet-4-20250514", "tools.strict"),
        (
            {"format": Format("schema", Raw(b'{"type":"object","properties":{"a":{"type":"number","minimum":1}}}'))},
            "m",
            "response_format.json_schema",
        ),
        ({"extra": {"logit_bias": Raw(b"{}"), "stream_options": Raw(b"{}")}}, "m", "logit_bias"),
    ],
)
def test_what_some_models_do_not_take_is_named(fields: dict[str, Any], model: str, dropped: str) -> None:
    assert _sent(_asked(**fields), model)[1] == (dropped,)


def test_turns_alternate_and_results_come_first() -> None:
    body = _turns(
        Message("system", (Text("a", "1h"),)),
        Message("user", (Text("hi"),)),
        Message("user", (Text("there", "5m"),)),
        Message("assistant", (Thinking("hm", "s", None, ANTHROPIC), Text(""), ToolCall("c.1", "f", '{"a":1}'))),
        Message("assistant", (ToolCall("c2", "f"),)),
        Message("system", (Text("b"),)),
        Message("user", (Text("so?"),)),
        Message("tool", (ToolResult("c.1", (Text("1"),), is_error=True),)),
        Message("tool", (ToolResult("c2", (Text("2"), Media("image", url="https://x.test/a.png"))),)),
    )
    assert body["system"] == [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "b"},
    ]
    image = {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "text", "text": "there", "cache_control": {"type": "ephemeral"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "c_1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c_1", "content": "1", "is_error": True},
                {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "2"}, image]},
                {"type": "text", "text": "so?"},
            ],
        },
    ]


def test_a_turn_without_anything_is_none_and_a_marked_result_keeps_its_mark() -> None:
    body = _turns(
        Message("user", (Text("a"),)),
        Message("assistant", (Text(""),)),
        Message("user", (ToolResult("i", (Text("1", "5m"),)),)),
    )
    marked = {"type": "text", "text": "1", "cache_control": {"type": "ephemeral"}}
    result = {"type": "tool_result", "tool_use_id": "i", "content": [marked]}
    assert body["messages"] == [{"role": "user", "content": [result, {"type": "text", "text": "a"}]}]


def test_effort_and_shape_stand_side_by_side() -> None:
    shape = Format("schema", Raw(b'{"type":"object","additionalProperties":false}'))
    body, _ = _sent(_asked(reasoning=Reasoning("low"), format=shape), "claude-opus-5")
    assert set(body["output_config"]) == {"effort", "format"}


@pytest.mark.parametrize(
    ("part", "want"),
    [
        (Media("image", data="iVBORw0KGgo="), ("image", "base64", "image/png")),
        (Media("file", data="JVBERi0="), ("document", "base64", "application/pdf")),
        (Media("file", data="/9j/", mime="image/jpeg"), ("image", "base64", "image/jpeg")),
        (Media("file", url="https://x.test/a.pdf"), ("document", "url", None)),
        (Media("file", file_id="f"), ("document", "file", None)),
        (Media("file", data="aMOp", mime="text/csv", name="T"), ("document", "text", "text/plain")),
    ],
)
def test_media(part: Media, want: tuple[str, str, str | None]) -> None:
    (block,) = _turns(Message("user", (part,)))["messages"][0]["content"]
    source = block["source"]
    assert (block["type"], source["type"], source.get("media_type")) == want
    assert block.get("title") == part.name
    assert source["type"] != "text" or source["data"] == "hé"


@pytest.mark.parametrize(
    "part",
    [
        Media("audio", data="AAAA"),
        Media("video", url="https://x.test/a.mp4"),
        Media("file", data="UEsDBA==", mime="application/zip"),
        Media("file", data="/////w==", mime="text/plain"),
    ],
)
def test_media_that_cannot_be_shown_is_refused(part: Media) -> None:
    with pytest.raises(Problem) as caught:
        _turns(Message("user", (part,)))
    assert (caught.value.status, caught.value.code) == (400, "unsupported_media")


@pytest.mark.parametrize(
    ("arguments", "kind", "want"),
    [
        ("", "function", {}),
        ("null", "function", {}),
        ('{"a": [1]}', "function", {"a": [1]}),
        ("[1]", "function", {"input": "[1]"}),
        ('{"a": ', "function", {"input": '{"a": '}),
        ('{"a": 1}', "custom", {"input": '{"a": 1}'}),
    ],
)
def test_arguments_are_an_object(arguments: str, kind: Any, want: dict[str, Any]) -> None:
    body = _turns(Message("assistant", (ToolCall("i", "f", arguments, kind),)))
    assert body["messages"][0]["content"][0]["input"] == want


def test_only_anthropics_own_thinking_is_sent() -> None:
    theirs: tuple[Part, ...] = (Thinking("a"), Thinking("b", "g", None, GEMINI), Thinking("", None, "x", GEMINI))
    calls = (ToolCall("i", "f", signature="g"),)
    body, dropped = _sent(_asked(messages=(Message("assistant", (*theirs, Text("t"), *calls)),)))
    assert [b["type"] for b in body["messages"][0]["content"]] == ["text", "tool_use"]
    assert dropped == ("messages.thinking", "messages.thinking_signature")
    own = Thinking("", None, "d", ANTHROPIC)
    body = _turns(Message("assistant", (own, Thinking("", "s", None, ANTHROPIC), Text("t"))))
    assert body["messages"][0]["content"][:2] == [
        {"type": "redacted_thinking", "data": "d"},
        {"type": "thinking", "thinking": "", "signature": "s"},
    ]


CALLS = (
    *HI.messages,
    Message("assistant", (ToolCall("i", "f"),)),
    Message("tool", (ToolResult("i", (Text("1"),)),)),
)
SUMMED = {"type": "adaptive", "display": "summarized"}
FORCED = {"tools": (TOOL,), "tool_choice": ToolChoice("named", "f")}
NAMED_E, NAMED_B = ("reasoning_effort",), ("reasoning_budget",)


@pytest.mark.parametrize(
    ("asked", "model", "more", "thinking", "effort", "max_tokens", "dropped"),
    [
        (None, "claude-opus-5", {}, None, None, 4096, ()),
        (Reasoning("high"), "claude-opus-4-6", {}, {"type": "adaptive"}, "high", 4096, ()),
        (Reasoning("minimal"), "claude-opus-4-6", {}, {"type": "adaptive"}, "low", 4096, NAMED_E),
        (Reasoning("xhigh"), "claude-opus-4-6", {}, {"type": "adaptive"}, "high", 4096, NAMED_E),
        (Reasoning("xhigh"), "claude-sonnet-5", {"max_tokens": 99}, SUMMED, "xhigh", 99, ()),
        (Reasoning(None, 5000), "claude-opus-4-7", {}, SUMMED, "medium", 4096, NAMED_B),
        (Reasoning(None, 5000), "claude-opus-4-6", {}, ("enabled", 5000), None, 9096, ()),
        (Reasoning(None, 5000), "claude-sonnet-4-5", {"max_tokens": 6000}, ("enabled", 5000), None, 6000, ()),
        (Reasoning(None, 5000), "claude-sonnet-4-5", {"max_tokens": 5000}, ("enabled", 2500), None, 5000, NAMED_B),
        (Reasoning(None, 5), "claude-3-7-sonnet@20250219", {}, ("enabled", 1024), None, 5120, NAMED_B),
        (Reasoning("low"), "claude-sonnet-4-5-20250929", {}, ("enabled", 2048), None, 6144, NAMED_E),
        (Reasoning("high"), "claude-sonnet-4-20250514", {"max_tokens": 1024}, None, None, 1024, NAMED_E),
        (Reasoning("high"), "claude-sonnet-4-5", FORCED, None, None, 4096, NAMED_E),
        (Reasoning("high"), "claude-opus-4-6", FORCED, {"type": "adaptive"}, "high", 4096, ()),
        (Reasoning("high"), "claude-sonnet-4-5", {"messages": CALLS}, None, None, 4096, NAMED_E),
        (Reasoning("none"), "claude-opus-4-8", {}, None, None, 4096, ()),
        (Reasoning("none"), "claude-opus-5", {}, {"type": "disabled"}, None, 4096, ()),
    ],
)
def test_thinking_as_each_model_takes_it(
    asked: Reasoning | None,
    model: str,
    more: dict[str, Any],
    thinking: Any,
    effort: str | None,
    max_tokens: int,
    dropped: tuple[str, ...],
) -> None:
    body, lost = _sent(_asked(reasoning=asked, **more), model)
    if isinstance(thinking, tuple):
        thinking = {"type": thinking[0], "budget_tokens": thinking[1]}
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert body["max_tokens"] == max_tokens
    assert lost == dropped


@pytest.mark.parametrize(
    ("choice", "parallel", "want"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("required"), None, {"type": "any"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("named", "f"), True, {"type": "tool", "name": "f", "disable_parallel_tool_use": False}),
    ],
)
def test_tool_choice(choice: ToolChoice | None, parallel: bool | None, want: Any) -> None:
    body, _ = _sent(_asked(tools=(TOOL,), tool_choice=choice, parallel_tools=parallel))
    assert body.get("tool_choice") == want


def test_schemas_are_narrowed() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 1, "maximum": 9, "description": "An a."},
            "minimum": {"oneOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "x"}]},
            "l": {"type": "array", "items": {"type": "object", "properties": {}}, "minItems": 1, "maxItems": 3},
        },
        "required": ["a"],
    }
    body, _ = _sent(_asked(format=Format("schema", Raw(json.dumps(schema).encode()), "out", True)))
    assert body["output_config"]["format"] == {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {
                "a": {"type": "integer", "description": "An a.\n\n{minimum: 1, maximum: 9}"},
                "minimum": {
                    "anyOf": [
                        {"type": "string", "format": "date"},
                        {"type": "string", "description": '{format: "x"}'},
                    ]
                },
                "l": {
                    "type": "array",
                    "items": {"type": "object", "properties": {}, "additionalProperties": False},
                    "minItems": 1,
                    "description": "{maxItems: 3}",
                },
            },
            "required": ["a"],
            "additionalProperties": False,
        },
    }


@pytest.mark.parametrize(
    ("schema", "strict", "want", "dropped"),
    [
        (b'{"properties":{"a":{"type":"string"}}}', None, {"properties": {"a": {"type": "string"}}}, ()),
        (b'{"type":"object","additionalProperties":false}', True, {"additionalProperties": False}, ()),
        (b'{"type":"object"}', True, {"additionalProperties": False}, ("tools.strict",)),
        (b'{"type":"object"}', False, {}, ()),
    ],
)
def test_a_tools_schema_is_of_an_object(schema: bytes, strict: bool | None, want: Any, dropped: Any) -> None:
    body, lost = _sent(_asked(tools=(Tool("f", None, Raw(schema), strict),)))
    assert body["tools"][0]["input_schema"] == {"type": "object", **want}
    assert body["tools"][0].get("strict") == strict
    assert lost == dropped


def test_a_custom_tool_is_a_function_of_one_text() -> None:
    body, dropped = _sent(_asked(tools=(Tool("f", "d", kind="custom"),)))
    (tool,) = body["tools"]
    assert (tool["name"], tool["description"], tool["input_schema"]["required"]) == ("f", "d", ["input"])
    assert dropped == ("tools.custom",)


def test_where_it_goes_and_what_it_carries() -> None:
    target = Target(
        provider="p", model="m", dialect="anthropic", base="https://x.test", key=Secret("k"), key_header="x-api-key",
        key_prefix="",
    )  # fmt: skip
    url, headers = anthropic.endpoint(target, True)
    assert url == "https://x.test/v1/messages"
    assert dict(headers)["x-api-key"] == "k"
    assert dict(headers)["anthropic-version"] == "2023-06-01"
    assert anthropic.count_endpoint(target)[0] == "https://x.test/v1/messages/count_tokens"
    given = structs.replace(target, headers={"Anthropic-Version": "2025-01-01"})
    assert [v for name, v in anthropic.endpoint(given, True)[1] if name.lower() == "anthropic-version"] == [
        "2025-01-01"
    ]


def test_vertex_has_the_model_in_the_path() -> None:
    seen = 0
    for i in rec.asked():
        if i["provider"] != "vertex":
            continue
        seen += 1
        recorded = rec.kit().request(i) or {}
        base, _, rest = i["request"]["url"].partition("/models/")
        target = Target(provider="p", model=rest.partition(":")[0], dialect="anthropic_vertex", base=base)
        url, headers = anthropic.endpoint(target, i["kind"] == "stream")
        assert url == i["request"]["url"]
        assert "anthropic-version" not in dict(headers)
        r = anthropic.read_request(json.dumps({"model": "m", **recorded}).encode(), "")
        body = json.loads(anthropic.write_body(r, target).body)
        assert "model" not in body
        assert body["anthropic_version"] == recorded["anthropic_version"] == "vertex-2023-10-16"
        fields = {name: Raw(json.dumps(value).encode()) for name, value in {"model": "m", **recorded}.items()}
        asked = anthropic.check(json.dumps({"model": "m", **recorded}).encode(), "")
        assert json.loads(anthropic.rewrite(fields, asked, target)) == recorded
        assert anthropic.count_endpoint(target)[0] == f"{base}/models/count-tokens:rawPredict"
    assert seen == 8


def test_the_rows_quirks_are_applied_and_told() -> None:
    target = structs.replace(
        _target(), drop=("top_k",), force={"service_tier": "auto"}, clamp={"temperature": (0, 0.5)}
    )
    sent = anthropic.write_body(_asked(top_k=5, temperature=0.9), target)
    body = json.loads(sent.body)
    assert ("top_k" in body, body["service_tier"], body["temperature"]) == (False, "auto", 0.5)
    assert sent.dropped == ("top_k",)


def test_pieces_for_another_wrapping() -> None:
    fields, dropped = anthropic.write_fields(_asked(stream=True, seed=1), _target())
    assert set(fields) == {"messages", "max_tokens"}
    assert dropped == ("seed",)


def test_counting() -> None:
    seen = 0
    for i in rec.kit().interactions:
        if i["kind"] != "count_tokens" or i["provider"] != "anthropic":
            continue
        seen += 1
        recorded = rec.kit().request(i) or {}
        r = anthropic.read_request(json.dumps(recorded).encode(), "/v1/messages/count_tokens")
        body = json.loads(anthropic.count_body(r, _target(recorded["model"])))
        assert set(body) == set(recorded) | ({"output_config"} if "thinking" in recorded else set())
        counted = anthropic.read_count(rec.body(i))
        assert counted == json.loads(rec.body(i))["input_tokens"]
        assert json.loads(anthropic.write_count(counted)) == json.loads(rec.body(i))
    assert seen == 7
    for bad in (b"", b"[]", b'{"input_tokens":"x"}'):
        with pytest.raises(Problem):
            anthropic.read_count(bad)


def test_the_list_of_models() -> None:
    got = json.loads(anthropic.write_models([("a", "A", 1_700_000_000), ("b", "B", 0)]))
    assert got["data"][0] == {
        "type": "model",
        "id": "a",
        "display_name": "A",
        "created_at": "2023-11-14T22:13:20Z",
    }
    assert (got["has_more"], got["first_id"], got["last_id"]) == (False, "a", "b")
    assert json.loads(anthropic.write_models([]))["first_id"] is None
