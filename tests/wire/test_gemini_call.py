"""What a Gemini provider is sent: bodies, addresses, and what is told to be lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from lilliput.neutral import (
    Format,
    Media,
    Message,
    Opaque,
    Part,
    Problem,
    Reasoning,
    Refusal,
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
from lilliput.wire import gemini
from lilliput.wire.families import ANTHROPIC, GEMINI
from lilliput.wire.fields import FIELDS

BASE = "https://generativelanguage.googleapis.com/v1beta"
VERTEX = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google"
TARGET = Target(provider="g", model="gemini-2.5-flash", dialect="gemini", base=BASE, key_header="x-goog-api-key")
HI = Message("user", (Text("hi"),))
SCHEMA = Raw(b'{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}}}')


def _sent(*messages: Message, model: str = "gemini-2.5-flash", **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    r = Request(model="m", messages=messages or (HI,), **fields)
    sent = gemini.write_body(r, replace(TARGET, model=model))
    return json.loads(sent.body), sent.dropped


def _parts(*parts: Part, role: Any = "user", **fields: Any) -> list[dict[str, Any]]:
    body, _ = _sent(*(() if role == "user" else (HI,)), Message(role, parts), **fields)
    found: list[dict[str, Any]] = body["contents"][-1]["parts"]
    return found


@pytest.mark.parametrize(
    ("base", "model", "stream", "want"),
    [
        (BASE, "gemini-2.5-flash", False, f"{BASE}/models/gemini-2.5-flash:generateContent"),
        (BASE, "gemini-2.5-flash", True, f"{BASE}/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
        (BASE, "models/x", False, f"{BASE}/models/x:generateContent"),
        (BASE, "tunedModels/my-1", False, f"{BASE}/tunedModels/my-1:generateContent"),
        (BASE, "a b?c", False, f"{BASE}/models/a%20b%3Fc:generateContent"),
        (VERTEX, "gemini-2.5-pro", True, f"{VERTEX}/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        (VERTEX, "endpoints/123", False, f"{VERTEX[:-18]}/endpoints/123:generateContent"),
        (VERTEX, "publishers/x/models/y", False, f"{VERTEX[:-18]}/publishers/x/models/y:generateContent"),
    ],
)
def test_where_a_call_goes(base: str, model: str, stream: bool, want: str) -> None:
    assert gemini.endpoint(replace(TARGET, base=base, model=model), stream)[0] == want


def test_a_call_carries_key_query_and_headers() -> None:
    target = replace(TARGET, key=Secret("k"), key_prefix="", query="quota=1", headers={"x-goog-user-project": "p"})
    url, headers = gemini.endpoint(target, True)
    assert url.endswith(":streamGenerateContent?quota=1&alt=sse")
    assert dict(headers)["x-goog-api-key"] == "k"
    assert dict(headers)["x-goog-user-project"] == "p"


def test_turns_are_joined_and_system_messages_too() -> None:
    body, dropped = _sent(
        Message("system", (Text("a"),)),
        HI,
        Message("user", (Text("you"), Text(""))),
        Message("system", (Text("b"),)),
        Message("assistant", (Text("yes"), Refusal("no")), name="bob"),
    )
    assert body["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "b"}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "hi"}, {"text": "you"}]},
        {"role": "model", "parts": [{"text": "yes"}, {"text": "no"}]},
    ]
    assert dropped == ("messages.name", "messages.refusal")


@pytest.mark.parametrize("messages", [(Message("system", (Text("s"),)),), (Message("assistant", (Text("x"),)),)])
def test_the_first_turn_is_the_users(messages: tuple[Message, ...]) -> None:
    body, _ = _sent(*messages)
    assert body["contents"][0] == {"role": "user", "parts": [{"text": ""}]}


def test_calls_and_results_go_by_name() -> None:
    body, _ = _sent(
        HI,
        Message("assistant", (ToolCall("1", "f", '{"a":1}'), ToolCall("2", "g", ""))),
        Message("tool", (ToolResult("1", (Text("ok"),)),)),
        Message("tool", (ToolResult("2", (Text('{"x": 1, "y": 2.0}'),)),)),
        Message("tool", (ToolResult("3", (Text("lost"),), is_error=True),)),
        Message("user", (Text("go on"),)),
    )
    assert [c["role"] for c in body["contents"]] == ["user", "model", "user"]
    assert body["contents"][1]["parts"] == [
        {"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}},
        {"functionCall": {"id": "2", "name": "g", "args": {}}},
    ]
    assert body["contents"][2]["parts"] == [
        {"functionResponse": {"id": "1", "name": "f", "response": {"result": "ok"}}},
        {"functionResponse": {"id": "2", "name": "g", "response": {"x": 1, "y": 2.0}}},
        {"functionResponse": {"id": "3", "name": "3", "response": {"error": "lost"}}},
        {"text": "go on"},
    ]


@pytest.mark.parametrize(
    ("text", "args"), [("", {}), ("null", {}), ("[1]", {"arguments": "[1]"}), ("{bad", {"arguments": "{bad"})]
)
def test_arguments_are_always_an_object(text: str, args: object) -> None:
    assert _parts(ToolCall("1", "f", text), role="assistant")[0]["functionCall"]["args"] == args


def test_an_object_of_one_key_stays_a_text() -> None:
    """Else it could not be told from a result that was wrapped."""
    (part,) = _parts(ToolResult("1", (Text('{"deleted": true}'),), "f"))
    assert part["functionResponse"]["response"] == {"result": '{"deleted": true}'}


def test_pictures_of_a_system_message_go_to_the_user() -> None:
    body, _ = _sent(Message("system", (Text("s"), Media("image", mime="image/png", data="AA"))), HI)
    assert body["systemInstruction"] == {"parts": [{"text": "s"}]}
    assert [sorted(p) for p in body["contents"][0]["parts"]] == [["inlineData"], ["text"]]


def test_no_signature_is_lost_to_another() -> None:
    parts = _parts(Thinking("", "S1", None, GEMINI), Thinking("", "S2", None, GEMINI), Text("a"), role="assistant")
    assert parts == [{"text": "", "thoughtSignature": "S1"}, {"text": "a", "thoughtSignature": "S2"}]


def test_media_in_results_stand_inside_since_the_third_generation() -> None:
    result = ToolResult("1", (Text("see"), Media("image", mime="image/png", data="AAAA")), "f")
    blob = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    answer = {"id": "1", "name": "f", "response": {"result": "see"}}
    assert _parts(result, model="gemini-2.5-pro") == [{"functionResponse": answer}, blob]
    assert _parts(result, model="gemini-3-pro-preview") == [{"functionResponse": {**answer, "parts": [blob]}}]


@pytest.mark.parametrize(
    ("media", "want"),
    [
        (Media("image", data="iVBORw0KGgo="), {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}),
        (
            Media("file", url="https://a/b.pdf?x=1.png"),
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://a/b.pdf?x=1.png"}},
        ),
        (
            Media("video", url="https://youtu.be/x"),
            {"fileData": {"mimeType": "video/mp4", "fileUri": "https://youtu.be/x"}},
        ),
        (
            Media("audio", mime="audio/wav", url="gs://b/c"),
            {"fileData": {"mimeType": "audio/wav", "fileUri": "gs://b/c"}},
        ),
        (Media("file", file_id="files/abc"), {"fileData": {"fileUri": f"{BASE}/files/abc"}}),
    ],
)
def test_media(media: Media, want: object) -> None:
    assert _parts(media) == [want]


def test_a_file_of_another_provider_is_refused() -> None:
    with pytest.raises(Problem, match="no file of Google's") as e:
        _parts(Media("file", file_id="file-abc"))
    assert (e.value.status, e.value.param) == (400, "file_id")


def test_signatures_go_back_where_they_came_from() -> None:
    parts = _parts(
        Thinking("hm", "S1", None, GEMINI),
        Text("a"),
        Thinking("", "S2", None, GEMINI),
        ToolCall("1", "f", "", signature="S3"),
        ToolCall("2", "f"),
        Thinking("", "S4", None, GEMINI),
        role="assistant",
        model="gemini-3-flash",
    )
    assert parts == [
        {"text": "hm", "thought": True},
        {"text": "a", "thoughtSignature": "S1"},
        {"text": "", "thoughtSignature": "S2"},
        {"functionCall": {"id": "1", "name": "f", "args": {}}, "thoughtSignature": "S3"},
        {"functionCall": {"id": "2", "name": "f", "args": {}}},
        {"text": "", "thoughtSignature": "S4"},
    ]


def test_an_empty_signed_thought_is_the_next_calls() -> None:
    parts = _parts(Thinking("", "S", None, GEMINI), ToolCall("1", "f"), role="assistant")
    assert parts == [{"functionCall": {"id": "1", "name": "f", "args": {}}, "thoughtSignature": "S"}]


def test_a_signature_after_a_text_is_that_texts() -> None:
    parts = _parts(Text("a"), Thinking("", "S", None, GEMINI), role="assistant")
    assert parts == [{"text": "a", "thoughtSignature": "S"}]


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        ("gemini-3-pro-preview", "skip_thought_signature_validator"),
        ("gemini-3.5-flash", "skip_thought_signature_validator"),
        ("gemini-flash-latest", "skip_thought_signature_validator"),
        ("gemini-2.5-flash", None),
        ("gemma-3-27b-it", None),
    ],
)
def test_calls_of_other_models_are_excused(model: str, signature: str | None) -> None:
    parts = _parts(ToolCall("1", "f"), ToolCall("2", "f"), role="assistant", model=model)
    assert [p.get("thoughtSignature") for p in parts] == [signature, None]


def test_thoughts_of_others_lose_their_seals() -> None:
    thoughts = (Thinking("t", "S", None, ANTHROPIC), Thinking("", None, "SEALED", ANTHROPIC), Text("a"))
    body, dropped = _sent(HI, Message("assistant", thoughts))
    assert body["contents"][1]["parts"] == [{"text": "t", "thought": True}, {"text": "a"}]
    assert dropped == ("messages.thinking_signature",)
    body, dropped = _sent(HI, Message("assistant", thoughts[:1] + thoughts[2:]), model="gemini-2.0-flash")
    assert body["contents"][1]["parts"] == [{"text": "a"}]
    assert dropped == ("messages.thinking_signature", "messages.thinking")


def test_tools_and_formats_are_json_schema() -> None:
    tools = (Tool("f", "does", SCHEMA, strict=True), Tool("g"), Tool("c", kind="custom", grammar=Raw(b"{}")))
    body, dropped = _sent(tools=tools, format=Format("schema", SCHEMA), parallel_tools=False, user="me")
    f, g, c = body["tools"][0]["functionDeclarations"]
    assert f == {"name": "f", "description": "does", "parametersJsonSchema": json.loads(bytes(SCHEMA))}
    assert g == {"name": "g"}
    assert c["parametersJsonSchema"]["required"] == ["input"]
    assert body["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": json.loads(bytes(SCHEMA)),
    }
    assert set(dropped) == {"tools.strict", "tools.custom", "parallel_tool_calls", "user"}


@pytest.mark.parametrize(
    ("choice", "want"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("named", "f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tool_choice(choice: ToolChoice, want: object) -> None:
    assert _sent(tools=(Tool("f"),), tool_choice=choice)[0]["toolConfig"] == {"functionCallingConfig": want}
    assert "toolConfig" not in _sent(tool_choice=choice)[0]


def test_the_numbers() -> None:
    body, dropped = _sent(
        max_tokens=5, temperature=0.5, top_p=0.9, top_k=3, stop=("a",), seed=1, n=2, presence_penalty=0.1,
        frequency_penalty=0.2, logprobs=True, top_logprobs=4, stream=True, format=Format("json"),
    )  # fmt: skip
    assert body["generationConfig"] == {
        **{"maxOutputTokens": 5, "temperature": 0.5, "topP": 0.9, "topK": 3, "stopSequences": ["a"], "seed": 1},
        **{"candidateCount": 2, "presencePenalty": 0.1, "frequencyPenalty": 0.2, "responseLogprobs": True},
        **{"logprobs": 4, "responseMimeType": "application/json"},
    }
    assert set(body) == {"contents", "generationConfig"}
    assert dropped == ()


@pytest.mark.parametrize(
    ("model", "asked", "config", "is_near"),
    [
        ("gemini-2.5-flash", Reasoning("low"), {"thinkingBudget": 1024, "includeThoughts": True}, True),
        ("gemini-2.5-flash", Reasoning("high"), {"thinkingBudget": 24576, "includeThoughts": True}, True),
        ("gemini-2.5-flash", Reasoning("none"), {"thinkingBudget": 0, "includeThoughts": False}, False),
        ("gemini-2.5-pro", Reasoning("none"), {"thinkingBudget": 128, "includeThoughts": False}, True),
        ("gemini-2.5-pro", Reasoning(None, 50_000), {"thinkingBudget": 32768, "includeThoughts": True}, True),
        ("gemini-2.5-flash-lite", Reasoning(None, 5), {"thinkingBudget": 512, "includeThoughts": True}, True),
        ("gemini-3-flash-preview", Reasoning("medium"), {"thinkingLevel": "medium", "includeThoughts": True}, False),
        ("gemini-3-flash-preview", Reasoning("none"), {"thinkingLevel": "minimal", "includeThoughts": False}, True),
        ("gemini-3-flash-preview", Reasoning("xhigh"), {"thinkingLevel": "high", "includeThoughts": True}, True),
        ("gemini-3-pro-preview", Reasoning("medium"), {"thinkingLevel": "high", "includeThoughts": True}, True),
        ("gemini-3.1-pro", Reasoning("medium"), {"thinkingLevel": "medium", "includeThoughts": True}, False),
        ("gemini-3.1-pro", Reasoning("minimal"), {"thinkingLevel": "low", "includeThoughts": True}, True),
        ("gemini-3.5-flash", Reasoning(None, 512), {"thinkingBudget": 512, "includeThoughts": True}, False),
        ("gemini-flash-latest", Reasoning("low"), {"thinkingBudget": 1024, "includeThoughts": True}, True),
        ("gemini-2.0-flash", Reasoning("low"), None, True),
        ("gemini-2.0-flash", Reasoning("none"), None, False),
        ("gemma-3-27b-it", Reasoning(None, 512), None, True),
    ],
)
def test_how_hard_to_think(model: str, asked: Reasoning, config: object, is_near: bool) -> None:
    body, dropped = _sent(model=model, reasoning=asked)
    assert body.get("generationConfig", {}).get("thinkingConfig") == config
    assert dropped == ((("reasoning_effort",) if asked.effort else ("reasoning_budget",)) if is_near else ())


def test_fields_of_other_dialects_are_told_and_our_own_come_back() -> None:
    extra = {
        "safetySettings": Raw(b"[]"),
        "generationConfig.speechConfig": Raw(b"{}"),
        "tools": Raw(b'[{"googleSearch":{}}]'),
    }
    body, dropped = _sent(dialect="gemini", extra={**extra, "$alt": Raw(b'"json"')}, tools=(Tool("f"),))
    assert body["safetySettings"] == []
    assert body["generationConfig"] == {"speechConfig": {}}
    assert body["tools"] == [{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}]
    assert dropped == ()
    body, dropped = _sent(dialect="openai_chat", extra={"logit_bias": Raw(b"{}"), "metadata": Raw(b"{}")})
    assert set(body) == {"contents"}
    assert dropped == ("logit_bias",)


def test_opaque_parts_go_to_their_own_dialect() -> None:
    code = Opaque("gemini", Raw(b'{"executableCode":{"code":"1"}}'))
    assert _parts(Text("a"), code, role="assistant")[1] == {"executableCode": {"code": "1"}}
    body, dropped = _sent(HI, Message("user", (Opaque("openai_chat", Raw(b'{"type":"x"}')),)))
    assert body["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]
    assert dropped == ("messages.other",)


def test_quirks_reach_the_generation_config() -> None:
    target = replace(TARGET, drop=("generationConfig.seed",), clamp={"generationConfig.temperature": (0, 1)})
    sent = gemini.write_body(Request(model="m", messages=(HI,), seed=1, temperature=2.0), target)
    assert json.loads(sent.body)["generationConfig"] == {"temperature": 1.0}
    assert sent.dropped == ("generationConfig.seed",)


def test_what_is_lost_has_a_name_that_callers_know() -> None:
    assert set(gemini.SUPPORT) <= set(FIELDS)


def test_counting_tokens() -> None:
    r = Request(model="m", messages=(Message("system", (Text("s"),)), HI), tools=(Tool("f"),), temperature=0.5)
    assert gemini.count_endpoint(TARGET)[0] == f"{BASE}/models/gemini-2.5-flash:countTokens"
    inside = json.loads(gemini.count_body(r, TARGET))["generateContentRequest"]
    assert inside["model"] == "models/gemini-2.5-flash"
    assert inside["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]
    assert set(json.loads(gemini.count_body(r, replace(TARGET, base=VERTEX)))) == {
        *("contents", "systemInstruction", "tools", "generationConfig")
    }
    assert gemini.read_count(b'{"totalTokens": 7, "promptTokensDetails": []}') == 7
    assert json.loads(gemini.write_count(7)) == {"totalTokens": 7}
    for bad in (b"", b"{}", b'{"totalTokens":"x"}', b"\xff"):
        with pytest.raises(Problem) as e:
            gemini.read_count(bad)
        assert e.value.code == "upstream_invalid"
