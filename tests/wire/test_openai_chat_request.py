"""Chat requests: what is read of a client's body, and what a provider is then sent."""

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
from lilliput.wire import openai as chat

HI: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TARGET = Target(provider="p", model="m", base="http://localhost/v1")


def _read(**fields: Any) -> Request:
    return chat.read_request(json.dumps(HI | fields).encode())


def _sent(r: Request, target: Target = TARGET) -> dict[str, Any]:
    return json.loads(chat.write_body(r, target).body)  # type: ignore[no-any-return]


def _message(**fields: Any) -> dict[str, Any]:
    return {"messages": [fields]}


# -- what is read ------------------------------------------------------------------------------------------------


def test_bad_utf8_where_nobody_looks_is_refused_too() -> None:
    for body in (b'{"x":"\xff",', b'{"\xff":1,'):
        with pytest.raises(Problem, match="not UTF-8"):
            chat.read_request(body + json.dumps(HI).encode()[1:])


def test_what_providers_allow_is_allowed() -> None:
    fields = {"tool_choice": "any", "temperature": 1, "top_k": -1, "stop": None, "unknown": {"a": [1]}, "seed": -1}
    messages = [
        {"role": "developer", "content": "be brief", "cache_control": {"type": "ephemeral"}},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
        {"role": "tool", "tool_call_id": "call_1_0", "content": None},
        {"role": "user", "content": [{"type": "hologram", "x": 1}]},
    ]
    r = _read(**fields, messages=messages)
    assert r.tool_choice == ToolChoice("required")
    assert r.messages[1].parts == (ToolCall("call_1_0", "f", '{"a":1}'),)
    assert r.messages[2].parts == (ToolResult("call_1_0"),)
    assert r.extra["unknown"] == Raw(b'{"a": [1]}')


PNG, WAV = "iVBORw0KGgo=", "UklGRgAA"
PARTS: list[tuple[dict[str, Any], Part]] = [
    ({"type": "text", "text": "a"}, Text("a")),
    (
        {"type": "image_url", "image_url": {"url": "http://x/y.png", "detail": "low"}},
        Media("image", url="http://x/y.png", detail="low"),
    ),
    ({"type": "image_url", "image_url": "http://x/y.png"}, Media("image", url="http://x/y.png")),
    ({"type": "image_url", "image_url": {"url": f"data:image/PNG;base64,{PNG}"}}, Media("image", "image/png", PNG)),
    ({"type": "image_url", "image_url": {"url": "data:;base64,-_-_"}}, Media("image", None, "+/+/")),
    ({"type": "image_url", "image_url": {"url": PNG}}, Media("image", data=PNG)),
    ({"type": "image_url", "image_url": {"url": "data:text/plain,a%20b"}}, Media("image", "text/plain", "YSBi")),
    ({"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}, Media("audio", "audio/wav", WAV)),
    ({"type": "input_audio", "input_audio": {"data": WAV, "format": "mp3"}}, Media("audio", "audio/mpeg", WAV)),
    ({"type": "input_audio", "input_audio": WAV}, Media("audio", data=WAV)),
    ({"type": "input_audio", "input_audio": "http://x/y.wav"}, Media("audio", url="http://x/y.wav")),
    ({"type": "audio_url", "audio_url": {"url": "http://x/y.wav"}}, Media("audio", url="http://x/y.wav")),
    ({"type": "video_url", "video_url": {"url": "http://x/y.mp4"}}, Media("video", url="http://x/y.mp4")),
    ({"type": "file", "file": {"file_id": "file-1"}}, Media("file", file_id="file-1")),
    (
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
        Media("file", "application/pdf", "JVBERi0=", name="a.pdf"),
    ),
    ({"type": "file", "file": {"file_data": "JVBERi0_", "filename": "a"}}, Media("file", data="JVBERi0/", name="a")),
    ({"type": "document_url", "document_url": "https://x/y.pdf"}, Media("file", url="https://x/y.pdf")),
    ({"type": "file_url", "file_url": {"url": "JVBERi0="}}, Media("file", data="JVBERi0=")),
    ({"type": "refusal", "refusal": "no"}, Refusal("no")),
    ({"type": "hologram", "x": 1}, Opaque("openai_chat", Raw(b'{"type": "hologram", "x": 1}'))),
]


@pytest.mark.parametrize(("part", "want"), PARTS, ids=[json.dumps(p)[:60] for p, _ in PARTS])
def test_parts(part: dict[str, Any], want: Part) -> None:
    assert _read(**_message(role="user", content=[part])).messages[0].parts == (want,)
    if isinstance(want, Text | Media):
        messages = [HI["messages"][0], {"role": "tool", "tool_call_id": "c", "content": [part]}]
        assert _read(messages=messages).messages[1].parts == (ToolResult("c", (want,)),)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url"},
        {"type": "image_url", "image_url": {"url": ""}},
        {"type": "image_url", "image_url": {"url": "data:image/png"}},
        {"type": "input_audio"},
        {"type": "file"},
        {"type": "file", "file": {}},
    ],
)
def test_media_that_is_not_there(part: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        _read(**_message(role="user", content=["x", part][1:]))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("media", "part"),
    [
        (
            Media("audio", "audio/mpeg", "AAAA"),
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        ),
        (Media("audio", None, "SUQz"), {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}}),
        (Media("audio", None, "UklGR"), {"type": "input_audio", "input_audio": {"data": "UklGR", "format": "wav"}}),
        (Media("image", None, "UklGR"), {"type": "image_url", "image_url": {"url": "data:image/webp;base64,UklGR"}}),
        (Media("image", None, "/9j/"), {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/"}}),
        (Media("video", None, "AAAA"), {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}),
        (Media("image", file_id="f"), {"type": "file", "file": {"file_id": "f"}}),
    ],
)
def test_media_written(media: Media, part: dict[str, Any]) -> None:
    """Data without a type gets the one that its first bytes tell."""
    r = Request(model="m", messages=(Message("user", (media,)),))
    assert _sent(r)["messages"] == [{"role": "user", "content": [part]}]


def test_base64_is_told_from_other_text_in_linear_time() -> None:
    part = {"type": "image_url", "image_url": {"url": "A" + " " * 200_000 + "!"}}
    assert isinstance(_read(**_message(role="user", content=[part])).messages[0].parts[0], Media)


def test_history_of_a_tool_call() -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}},
        {"id": "b", "type": "custom", "custom": {"name": "g", "input": "4 + 4"}},
    ]
    messages = [
        {"role": "assistant", "content": "well", "reasoning_content": "hm", "refusal": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "8"}], "name": "g"},
    ]
    r = _read(messages=messages)
    want = (Thinking("hm"), Text("well"), ToolCall("a", "f", "{"), ToolCall("b", "g", "4 + 4", "custom"))
    assert r.messages == (
        Message("assistant", want),
        Message("tool", (ToolResult("b", (Text("8"),), "g"),)),
    )
    assert [m["role"] for m in _sent(r)["messages"]] == ["assistant", "tool"]
    assert _sent(r)["messages"][0]["tool_calls"] == calls


def test_what_a_tool_message_does_not_name_is_the_first_open_call() -> None:
    calls = [{"function": {"name": "f"}}, {"id": "b", "function": {"name": "g"}}, {"function": {"name": "h"}}]
    answers = [{}, {"tool_call_id": "b"}, {}, {}]
    messages = [
        {"role": "assistant", "tool_calls": calls},
        *({"role": "tool", "content": "8", **a} for a in answers),
        {"role": "user", "content": [{"text": "typeless"}, {"role": "user"}]},
    ]
    r = _read(messages=messages)
    results = [m.parts[0] for m in r.messages[1:5]]
    assert [p.call_id for p in results if isinstance(p, ToolResult)] == ["call_0_0", "b", "call_0_2", "call"]
    assert r.messages[5].parts == (Text("typeless"), Opaque("openai_chat", Raw(b'{"role": "user"}')))


def test_the_legacy_form_is_read_into_tools() -> None:
    r = _read(
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "8"},
        ],
    )
    assert r.tools == (Tool("f", schema=Raw(b'{"type": "object"}')),)
    assert r.tool_choice == ToolChoice("named", "f")
    assert r.messages[1].parts == (ToolCall("call_1", "f", "{}"),)
    assert r.messages[2].parts == (ToolResult("call_1", (Text("8"),)),)
    assert {"functions", "function_call"} <= r.extra.keys()
    sent = _sent(r)
    assert "functions" not in sent
    assert "function_call" not in sent
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("fields", "neutral"),
    [
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"stop": []}, {"stop": ()}),
        ({"reasoning_effort": "low"}, {"reasoning": Reasoning("low")}),
        ({"reasoning": {"max_tokens": 99, "exclude": True}}, {"reasoning": Reasoning(None, 99)}),
        ({"reasoning": {"effort": "low"}}, {"reasoning": Reasoning("low")}),
        ({"thinking": {"type": "disabled"}}, {"reasoning": Reasoning("none")}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 9}, "reasoning_effort": "low"},
            {"reasoning": Reasoning("low", 9)},
        ),
        ({"response_format": {"type": "text"}}, {"format": Format("text")}),
        ({"response_format": {"type": "json_object"}}, {"format": Format("json")}),
        (
            {"response_format": {"type": "json_object", "schema": {"a": 1}}},
            {"format": Format("schema", Raw(b'{"a": 1}'))},
        ),
        ({"response_format": {"type": "grammar", "grammar": "x"}}, {"format": None}),
        (
            {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}},
            {"tools": (), "tool_choice": None},
        ),
        (
            {
                "tools": [{"type": "custom", "custom": {"name": "g"}}],
                "tool_choice": {"type": "custom", "custom": {"name": "g"}},
            },
            {"tool_choice": ToolChoice("named", "g")},
        ),
        ({"logit_bias": {"1": -100}, "store": True, "metadata": {"a": "b"}, "verbosity": "low"}, {}),
        ({"web_search_options": {}, "service_tier": "flex", "prediction": {"type": "content"}}, {}),
    ],
    ids=lambda v: str(v)[:60],
)
def test_a_callers_own_spelling_comes_back(fields: dict[str, Any], neutral: dict[str, Any]) -> None:
    """What has no neutral name, or has two, is written to the same dialect as it was read."""
    r = _read(**fields)
    for name, want in neutral.items():
        assert getattr(r, name) == want
    sent = _sent(r)
    assert {name: sent.get(name) for name in fields} == fields
    assert sent.keys() - HI.keys() == fields.keys()
    foreign = _sent(replace(r, dialect="anthropic"))
    assert foreign.keys() <= HI.keys() | {"max_tokens", "reasoning_effort", "response_format", "tools", "tool_choice"}


# -- what is written ---------------------------------------------------------------------------------------------


def test_the_call() -> None:
    target = Target(
        provider="p", model="their/name", base="https://x/v1", key=Secret("k"), query="a=b", headers={"x-y": "z"}
    )
    url, headers = chat.endpoint(target, True)
    assert url == "https://x/v1/chat/completions?a=b"
    assert {"authorization": "Bearer k", "x-y": "z", "content-type": "application/json"}.items() <= dict(
        headers
    ).items()
    sent = json.loads(chat.write_body(_read(stream=True), target).body)
    assert (sent["model"], sent["stream_options"]) == ("their/name", {"include_usage": True})


def test_azure_names_the_deployment_in_the_path() -> None:
    target = Target(
        provider="azure",
        model="my gpt",
        dialect="azure",
        base="https://x",
        key=Secret("k"),
        key_header="api-key",
        key_prefix="",
    )
    url, headers = chat.endpoint(target, False)
    assert url == "https://x/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"
    assert dict(headers)["api-key"] == "k"


def test_quirks_are_applied() -> None:
    target = Target(
        provider="p", model="m", rename={"max_tokens": "max_completion_tokens"}, drop=("seed",), force={"store": False}
    )
    sent = _sent(_read(max_tokens=5, seed=1), target)
    assert sent == {**HI, "max_completion_tokens": 5, "store": False}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({}, "reasoning_content"),
        ({"rename": {"reasoning_content": "reasoning"}}, "reasoning"),
        ({"drop": ("reasoning_content",)}, None),
    ],
)
def test_a_row_says_where_earlier_reasoning_goes(row: dict[str, Any], name: str | None) -> None:
    r = _read(messages=[{"role": "assistant", "content": "a", "reasoning": "hm"}])
    message = _sent(r, Target(provider="p", model="m", **row))["messages"][0]
    assert message == {"role": "assistant", "content": "a", **({name: "hm"} if name else {})}


def test_signed_reasoning_goes_back_as_details_and_to_its_own_dialect_only() -> None:
    details = [
        {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1"},
        {"type": "reasoning.encrypted", "summary": "secret", "data": "xyz", "format": "anthropic-claude-v1"},
    ]
    r = _read(messages=[{"role": "assistant", "content": "a", "reasoning": "hm", "reasoning_details": details}])
    assert r.messages[0].parts[:2] == (
        Thinking("hm", "s", None, "anthropic-claude-v1"),
        Thinking("secret", None, "xyz", "anthropic-claude-v1"),
    )
    assert _sent(r)["messages"][0]["reasoning_details"] == details
    foreign = _sent(replace(r, dialect="anthropic"))["messages"][0]
    assert foreign == {"role": "assistant", "content": "a", "reasoning_content": "hm"}


def test_reading_loses_what_has_no_neutral_name() -> None:
    marked = {"type": "text", "text": "a", "annotations": []}
    messages = [
        {"role": "developer", "content": [marked], "cache_control": {}},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "hologram"}, {"type": "text", "text": "b"}]},
    ]
    r = _read(messages=messages)
    assert r.messages == (Message("system", (Text("a"),)), Message("tool", (ToolResult("c", (Text("b"),)),)))


def test_mistral_gets_ids_that_it_takes() -> None:
    target = Target(provider="mistral", model="m", dialect="mistral")
    messages = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "toolu_01", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "abcDEF123", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_01", "content": "a"},
        {"role": "tool", "tool_call_id": "abcDEF123", "content": "b"},
    ]
    sent = _sent(_read(messages=messages), target)["messages"]
    ids = [call["id"] for call in sent[1]["tool_calls"]]
    assert ids[1] == "abcDEF123"
    assert len(ids[0]) == 9
    assert ids[0].isalnum()
    assert [m["tool_call_id"] for m in sent[2:]] == ids
