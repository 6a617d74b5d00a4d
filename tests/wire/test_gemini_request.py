"""Gemini clients' requests: what is read of body and path, and what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from msgspec import Raw

from lilliput.neutral import (
    Format,
    Media,
    Message,
    Opaque,
    Problem,
    Reasoning,
    Request,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from lilliput.wire import gemini
from lilliput.wire.families import ANTHROPIC, GEMINI

PATH = "/v1beta/models/m:generateContent"
HI: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def _read(path: str = PATH, **fields: Any) -> Request:
    return gemini.read_request(json.dumps(HI | fields).encode(), path)


def _told(*contents: dict[str, Any]) -> tuple[Message, ...]:
    return _read(contents=list(contents)).messages


@pytest.mark.parametrize(
    ("path", "model", "stream", "sse"),
    [
        ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash", False, False),
        ("/v1/models/anthropic/claude-x:streamGenerateContent?alt=sse", "anthropic/claude-x", True, True),
        ("/v1beta/models/a%2Fb%3Afree:streamGenerateContent?key=k&$alt=sse", "a/b:free", True, True),
        ("/v1beta/models/m:streamGenerateContent?alt=json", "m", True, False),
        ("/v1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent", "m", True, False),
        ("/v1beta/models/m:countTokens", "m", False, False),
    ],
)
def test_the_path_says_who_and_how(path: str, model: str, stream: bool, sse: bool) -> None:
    asked = gemini.check(json.dumps(HI).encode(), path)
    assert (asked.model, asked.stream, asked.sse) == (model, stream, sse)
    r = _read(path)
    assert (r.model, r.stream, r.include_usage) == (model, stream, True)
    assert ("$alt" in r.extra) == (stream and not sse)


@pytest.mark.parametrize("path", ["/v1beta/models/m", "/v1beta/models/m:predict", "/v1/chat", "", "/models/:x"])
def test_other_paths_are_none_of_ours(path: str) -> None:
    with pytest.raises(Problem) as e:
        _read(path)
    assert e.value.status == 404


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"contents": None}, "contents"),
        ({"contents": [{"role": "wizard", "parts": []}]}, "contents[0].role"),
        ({"contents": [{"parts": [{"text": 1}]}]}, "contents[0].parts"),
        ({"contents": [{"parts": [{"functionCall": {}}]}]}, "contents[0].parts"),
        ({"generationConfig": {"temperature": 3}}, "generationConfig.temperature"),
        ({"generation_config": {"max_output_tokens": "many"}}, "generationConfig.maxOutputTokens"),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingBudget": -2}}},
            "generationConfig.thinkingConfig.thinkingBudget",
        ),
        ({"tools": [{"functionDeclarations": [{"name": ""}]}]}, "tools"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Problem) as e:
        _read(**fields)
    assert e.value.status == 400
    assert (e.value.param or "").startswith(param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"contents":"x","generationConfig":{"responseSchema":{"a":1e999}}}',
        b'{"contents":[],"a_b":\xff}',
        b'{"contents":"x","labels":"\xff"}',
        b'{"contents":"x","a_b":{]}',
    ],
)
def test_what_is_no_request(body: bytes) -> None:
    with pytest.raises(Problem) as e:
        gemini.read_request(body, PATH)
    assert e.value.status == 400


def test_both_spellings_of_a_field_are_one() -> None:
    camel: dict[str, Any] = {
        "systemInstruction": {"parts": [{"text": "s"}]},
        "contents": [
            {
                "role": "model",
                "parts": [{"functionCall": {"name": "f", "args": {"file_data": 1}}, "thoughtSignature": "S"}],
            },
            {"parts": [{"functionResponse": {"name": "f", "response": {"a_b": {"mime_type": 1}, "c": 2}}}]},
            {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AA"}}, {"fileData": {"fileUri": "gs://x"}}]},
        ],
        "tools": [
            {"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"properties": {"max_tokens": {}}}}]}
        ],
        "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["f"], "mode": "ANY"}},
        "generationConfig": {"maxOutputTokens": 5, "responseMimeType": "application/json", "topP": 0.5},
        "safetySettings": [{"category": "X"}],
    }
    snake = json.loads(json.dumps(camel))
    for old, new in [
        ("systemInstruction", "system_instruction"),
        ("toolConfig", "tool_config"),
        ("generationConfig", "generation_config"),
        ("safetySettings", "safety_settings"),
    ]:
        snake[new] = snake.pop(old)
    text = json.dumps(snake)
    for old, new in [
        ('functionCall"', 'function_call"'),
        ("thoughtSignature", "thought_signature"),
        ("functionResponse", "function_response"),
        ("inlineData", "inline_data"),
        ("mimeType", "mime_type"),
        ("fileData", "file_data"),
        ("fileUri", "file_uri"),
        ("functionDeclarations", "function_declarations"),
        ("parametersJsonSchema", "parameters_json_schema"),
        ("functionCallingConfig", "function_calling_config"),
        ("allowedFunctionNames", "allowed_function_names"),
        ("maxOutputTokens", "max_output_tokens"),
        ("responseMimeType", "response_mime_type"),
        ("topP", "top_p"),
    ]:
        assert old in text
        text = text.replace(old, new)
    want, got = _read(**camel), gemini.read_request(text.encode(), PATH)
    assert want.messages == got.messages
    assert isinstance(call := got.messages[1].parts[0], ToolCall)
    assert json.loads(call.arguments) == {"file_data": 1}
    assert got.messages[2].parts[0] == ToolResult("call_0", (Text('{"a_b": {"mime_type": 1}, "c": 2}'),), "f")
    assert json.loads(bytes(got.tools[0].schema or b"")) == {"properties": {"max_tokens": {}}}
    assert (got.max_tokens, got.top_p, got.format) == (5, 0.5, Format("json"))
    assert got.tool_choice == want.tool_choice == ToolChoice("named", "f")
    assert set(want.extra) == set(got.extra) == {"safetySettings", "toolConfig"}


def test_numbers_may_be_text_as_protobuf_writes_them() -> None:
    r = _read(generationConfig={"maxOutputTokens": "5", "seed": "7", "topK": 40.0, "temperature": "0.5"})
    assert (r.max_tokens, r.seed, r.top_k, r.temperature) == (5, 7, 40, 0.5)


@pytest.mark.parametrize(
    ("contents", "want"),
    [
        ("hi", (Text("hi"),)),
        (["hi"], (Text("hi"),)),
        ({"parts": {"text": "hi"}}, (Text("hi"),)),
        ([{"parts": [{"text": "hi"}, {"text": ""}]}], (Text("hi"),)),
    ],
)
def test_contents_in_short(contents: Any, want: tuple[Text, ...]) -> None:
    assert _read(contents=contents).messages == (Message("user", want),)


def test_calls_without_ids_find_their_answers() -> None:
    told = _told(
        {"role": "model", "parts": [{"functionCall": {"name": n}} for n in "fgf"]},
        {"role": "user", "parts": [{"functionResponse": {"name": n, "response": {"result": n}}} for n in "gff"]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "id": "own"}}]},
        {"role": "function", "parts": [{"functionResponse": {"name": "f", "id": "own", "response": {"error": "no"}}}]},
    )
    assert [p.id for p in told[0].parts if isinstance(p, ToolCall)] == ["call_0", "call_1", "call_2"]
    results = [p for m in told for p in m.parts if isinstance(p, ToolResult)]
    assert [(r.call_id, r.is_error) for r in results] == [
        *(("call_1", False), ("call_0", False), ("call_2", False), ("own", True))
    ]
    assert [m.role for m in told] == ["assistant", "tool", "tool", "tool", "assistant", "tool"]


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"result": "ok"}, "ok", False),
        ({"return_value": [1, 2]}, "[1, 2]", False),
        ({"output": 5}, "5", False),
        ({"deleted": True}, '{"deleted": true}', False),
        ({"error": "bad"}, "bad", True),
        ({"a": 1, "error": "x"}, '{"a": 1, "error": "x"}', False),
        ({}, "{}", False),
        (None, "", False),
    ],
)
def test_what_a_tool_gave_back(response: Any, text: str, is_error: bool) -> None:
    (m,) = _told({"parts": [{"functionResponse": {"name": "f", "response": response}}]})
    assert m.parts == (ToolResult("f", (Text(text),) if text else (), "f", is_error),)


def test_media_of_all_kinds() -> None:
    (m,) = _told(
        {
            "parts": [
                {"inlineData": {"mimeType": "image/png", "data": "_-8="}},
                {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://a"}},
                {"functionResponse": {"name": "f", "parts": [{"inlineData": {"mimeType": "audio/wav", "data": "AA"}}]}},
                {"executableCode": {"code": "1"}},
            ]
        }
    )[1:]
    assert m.parts[:2] == (
        Media("image", mime="image/png", data="/+8="),
        Media("file", mime="application/pdf", url="gs://a"),
    )
    assert isinstance(m.parts[2], Opaque)


def test_signatures_come_in_with_their_families() -> None:
    def sealed(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode()

    (m,) = _told(
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True},
                {"text": "m", "thought": True},
                {"text": "", "thought": True, "thoughtSignature": sealed(f"{ANTHROPIC}:signed:S1>?")},
                {"text": "", "thought": True, "thoughtSignature": sealed(f"{ANTHROPIC}:sealed:X")},
                {"text": "ab", "thoughtSignature": "U2ln"},
                {"thoughtSignature": "QUFB"},
                {"functionCall": {"name": "f"}, "thoughtSignature": "Q0ND"},
            ],
        }
    )
    assert m.parts == (
        Thinking("hmm", "S1>?", None, ANTHROPIC),
        Thinking("", None, "X", ANTHROPIC),
        Text("ab"),
        Thinking("", "U2ln", None, GEMINI),
        Thinking("", "QUFB", None, GEMINI),
        ToolCall("call_0", "f", "", signature="Q0ND"),
    )


def test_a_streamed_answer_kept_in_pieces_is_one_turn() -> None:
    pieces = [{"role": "model", "parts": [{"text": t}]} for t in ("Hel", "lo", "")]
    assert _told(*pieces) == (Message("assistant", (Text("Hel"), Text("lo"))),)


def test_googles_schemas_become_json_schema() -> None:
    schema = {
        "type": "OBJECT",
        "propertyOrdering": ["type"],
        "properties": {
            "type": {"type": "STRING", "nullable": True, "enum": ["a"]},
            "min_items": {"type": "ARRAY", "items": {"any_of": [{"type": "INTEGER"}]}, "min_items": "1"},
        },
    }
    r = _read(tools=[{"functionDeclarations": [{"name": "f", "parameters": schema}]}])
    assert json.loads(bytes(r.tools[0].schema or b"")) == {
        "type": "object",
        "properties": {
            "type": {"type": ["string", "null"], "enum": ["a", None]},
            "min_items": {"type": "array", "items": {"anyOf": [{"type": "integer"}]}, "minItems": 1},
        },
    }


@pytest.mark.parametrize(
    ("config", "want"),
    [
        ({"thinkingBudget": 0}, Reasoning("none")),
        ({"thinkingBudget": 100}, Reasoning(None, 100)),
        ({"thinkingBudget": -1}, None),
        ({"thinkingLevel": "LOW"}, Reasoning("low")),
        ({"includeThoughts": True}, None),
    ],
)
def test_how_hard_to_think(config: dict[str, Any], want: Reasoning | None) -> None:
    r = _read(generationConfig={"thinkingConfig": config})
    assert r.reasoning == want
    body = json.loads(gemini.write_body(r, Target(provider="g", model="gemini-2.5-pro")).body)
    assert body["generationConfig"]["thinkingConfig"] == config


@pytest.mark.parametrize(
    ("calling", "want"),
    [
        ({"mode": "AUTO"}, ToolChoice("auto")),
        ({"mode": "any"}, ToolChoice("required")),
        ({"mode": "NONE"}, ToolChoice("none")),
        ({"mode": "VALIDATED"}, ToolChoice("auto")),
        ({"mode": "ANY", "allowedFunctionNames": ["f", "g"]}, ToolChoice("required")),
        ({"mode": "ODD"}, None),
    ],
)
def test_tool_choice(calling: dict[str, Any], want: ToolChoice | None) -> None:
    config = {"functionCallingConfig": calling}
    r = _read(toolConfig=config, tools=[{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}])
    assert r.tool_choice == want
    assert r.tools == (Tool("f"),)
    assert json.loads(bytes(r.extra["tools"])) == [{"googleSearch": {}}]
    body = json.loads(gemini.write_body(r, Target(provider="g", model="gemini-2.5-pro")).body)
    assert body["toolConfig"] == config


def test_an_enumeration_is_no_json() -> None:
    config = {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}}
    r = _read(generationConfig=config)
    assert r.format is None
    body = json.loads(gemini.write_body(r, Target(provider="g", model="gemini-2.5-pro")).body)
    assert body["generationConfig"] == config


def test_a_count_may_hold_the_request_inside() -> None:
    body = json.dumps({"generateContentRequest": {"model": "models/m", **HI}}).encode()
    assert gemini.read_request(body, "/v1beta/models/m:countTokens").messages == (Message("user", (Text("hi"),)),)


def test_the_rest_is_kept_as_it_came() -> None:
    r = _read(cachedContent="c/1", labels={"a_b": "c"}, generationConfig={"speechConfig": {"x_y": 1}, "seed": None})
    assert r.extra == {
        "cachedContent": Raw(b'"c/1"'),
        "labels": Raw(b'{"a_b": "c"}'),
        "generationConfig.speechConfig": Raw(b'{"x_y": 1}'),
    }
