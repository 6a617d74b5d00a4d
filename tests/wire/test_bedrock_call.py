"""What Amazon Bedrock is asked, field by field, and what it cannot be asked."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from msgspec import Raw

from lilliput.neutral import (
    Aws,
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
from lilliput.wire import bedrock, families
from lilliput.wire.bedrock import invoke as bedrock_invoke
from lilliput.wire.bedrock.call import maker

CLAUDE, NOVA, LLAMA = "us.anthropic.claude-sonnet-4-6", "us.amazon.nova-2-lite-v1:0", "meta.llama3-1-70b-instruct-v1:0"
OLD_CLAUDE, QWEN, GPT = "anthropic.claude-3-7-sonnet-20250219-v1:0", "qwen.qwen3-32b-v1:0", "openai.gpt-oss-120b-1:0"
PNG = "iVBORw0KGgo="
HI = Message("user", (Text("hi"),))
SCHEMA = Raw(b'{"type":"object","properties":{"a":{"type":"string","minLength":2}}}')


def _target(model: str, **more: Any) -> Target:
    return Target(provider="bedrock", model=model, base="https://h", dialect="bedrock", **more)


def ask(*messages: Message, model: str = CLAUDE, **more: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body, and what was lost."""
    sent = bedrock.write_body(Request(model="m", messages=messages or (HI,), **more), _target(model))
    assert set(sent.dropped) <= set(bedrock.SUPPORT) | set(more.get("extra", ()))
    return json.loads(sent.body), sent.dropped


def blocks(*parts: Part, model: str = CLAUDE) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The blocks of one user turn, and what was lost."""
    body, lost = ask(Message("user", parts), model=model)
    return [block for m in body["messages"] for block in m["content"]], lost


@pytest.mark.parametrize(
    ("model", "want"),
    [
        (CLAUDE, "anthropic"),
        ("global.amazon.nova-2-lite-v1:0", "amazon"),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-tg1-large", "amazon"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-v2:1", "anthropic"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", ""),
    ],
)
def test_maker(model: str, want: str) -> None:
    assert maker(model) == want


def test_endpoint_carries_a_key_and_leaves_signing_to_the_gateway() -> None:
    url, headers = bedrock.endpoint(_target("a.b-v1:0", key=Secret("k")), True)
    assert url == "https://h/model/a.b-v1%3A0/converse-stream"
    assert dict(headers)["authorization"] == "Bearer k"
    assert "accept" not in dict(headers)
    url, headers = bedrock_invoke.endpoint(_target("a.b", aws=Aws("A", Secret("s"), "r")), False)
    assert url == "https://h/model/a.b/invoke"
    assert "authorization" not in dict(headers)
    assert bedrock_invoke.endpoint(_target("a.b"), True)[0].endswith("/invoke-with-response-stream")


def test_turns_of_one_side_become_one() -> None:
    body, lost = ask(
        Message("system", (Text("s1", "1h"),)),
        Message("user", (Text("a"), Text("  "))),
        Message("user", (Text("b"),)),
        Message("assistant", ()),
        Message("system", (Text("s2"),)),
        Message("assistant", (Text("c"), ToolCall("id 1/é", "f", '{"x": 1}'), ToolCall("2", "f", "[1"))),
        Message("tool", (ToolResult("id 1/é", (Text("r"), Media("image", data=PNG)), is_error=True),)),
        Message("tool", (ToolResult("2", (Text(""),), cache="5m"),)),
        Message("user", (Refusal("no"),), name="n"),
        tools=(Tool("f"),),
    )
    assert body["system"] == [{"text": "s1"}, {"cachePoint": {"type": "default", "ttl": "1h"}}, {"text": "s2"}]
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"] == [{"text": "a"}, {"text": "b"}]
    calls = [block["toolUse"] for block in body["messages"][1]["content"][1:]]
    assert calls == [
        {"toolUseId": "id_1__", "name": "f", "input": {"x": 1}},
        {"toolUseId": "2", "name": "f", "input": {"input": "[1"}},
    ]
    image = {"image": {"format": "png", "source": {"bytes": PNG}}}
    assert body["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "id_1__", "content": [{"text": "r"}, image], "status": "error"}},
        {"toolResult": {"toolUseId": "2", "content": []}},
        {"cachePoint": {"type": "default"}},
        {"text": "no"},
    ]
    assert set(lost) == {"messages.name", "messages.refusal"}


def test_what_only_some_models_take() -> None:
    parts = (Text("a", "5m"), ToolResult("1", is_error=True))
    assert {"cachePoint": {"type": "default"}} in blocks(*parts, model=NOVA)[0]
    assert blocks(*parts, model=LLAMA) == (
        [{"text": "a"}, {"toolResult": {"toolUseId": "1", "content": []}}],
        ("cache_control", "messages.tool_result_error"),
    )
    assert blocks(Text("a", "1h"), model=NOVA) == ([{"text": "a"}], ("cache_control",))


def test_thinking_goes_back_to_its_family_alone() -> None:
    signed = Thinking("t", "sig", family=families.ANTHROPIC)
    sealed = Thinking(sealed="c2VhbA==", family=families.ANTHROPIC)
    assert blocks(signed, sealed)[0] == [
        {"reasoningContent": {"reasoningText": {"text": "t", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": base64.b64encode(b"c2VhbA==").decode()}},
    ]
    assert blocks(Thinking("", "sig", family=families.ANTHROPIC))[0] == [
        {"reasoningContent": {"reasoningText": {"text": "", "signature": "sig"}}}
    ]
    for other in (Thinking("t"), Thinking("t", "sig", family=families.GEMINI), Thinking("t", "sig")):
        assert blocks(other)[0] == []
        assert "messages.thinking" in blocks(other)[1]
    assert blocks(signed, model=NOVA) == ([], ("messages.thinking_signature", "messages.thinking"))
    assert blocks(Opaque("openai_chat", Raw(b"{}"))) == ([], ("messages.other",))


@pytest.mark.parametrize(
    ("media", "want"),
    [
        (Media("image", "image/jpg", PNG), {"image": {"format": "jpeg", "source": {"bytes": PNG}}}),
        (Media("image", data=PNG), {"image": {"format": "png", "source": {"bytes": PNG}}}),
        (Media("file", "image/webp", PNG), {"image": {"format": "webp", "source": {"bytes": PNG}}}),
        (Media("audio", "audio/mpeg", "AA=="), {"audio": {"format": "mp3", "source": {"bytes": "AA=="}}}),
        (Media("video", "video/3gpp", "AA=="), {"video": {"format": "three_gp", "source": {"bytes": "AA=="}}}),
        (Media("file", data=PNG, name="x.png"), {"image": {"format": "png", "source": {"bytes": PNG}}}),
        (
            Media("video", url="s3://b/a.MOV"),
            {"video": {"format": "mov", "source": {"s3Location": {"uri": "s3://b/a.MOV"}}}},
        ),
        (
            Media("file", "text/x-python", "AA==", name="dir/a_b  (1).py"),
            {"document": {"format": "txt", "name": "dir a b (1)", "source": {"bytes": "AA=="}}},
        ),
        (
            Media("file", data="AA==", name="é.docx"),
            {"document": {"format": "docx", "name": "Document", "source": {"bytes": "AA=="}}},
        ),
    ],
)
def test_media(media: Media, want: dict[str, Any]) -> None:
    assert blocks(media)[0] == [want]


def test_documents_have_names_of_their_own() -> None:
    pdf = Media("file", "application/pdf", "AA==", name="a.pdf")
    names = [block["document"]["name"] for block in blocks(pdf, pdf, Media("file", "application/pdf", "AA=="))[0]]
    assert names == ["a", "a 2", "Document"]


@pytest.mark.parametrize(
    "media",
    [
        Media("image", url="https://x/a.png"),
        Media("file", file_id="f1"),
        Media("image", "image/tiff", "AA=="),
        Media("file", "application/zip", "AA=="),
    ],
)
def test_media_that_cannot_be_sent_is_refused(media: Media) -> None:
    with pytest.raises(Problem) as caught:
        blocks(media)
    assert caught.value.status == 400


def test_a_system_message_holds_text_alone() -> None:
    with pytest.raises(Problem, match="system"):
        ask(Message("system", (Media("image", data=PNG),)))


@pytest.mark.parametrize(
    ("choice", "called", "want", "lost"),
    [
        (None, False, None, ()),
        (ToolChoice("auto"), False, None, ()),
        (ToolChoice("required"), False, {"any": {}}, ()),
        (ToolChoice("named", "f"), False, {"tool": {"name": "f"}}, ()),
        (ToolChoice("none"), True, None, ("tool_choice",)),
    ],
)
def test_tool_choice(choice: ToolChoice | None, called: bool, want: object, lost: tuple[str, ...]) -> None:
    history = (Message("assistant", (ToolCall("1", "f"),)),) if called else ()
    body, dropped = ask(HI, *history, tools=(Tool("f", "d", SCHEMA, True, "5m"),), tool_choice=choice)
    assert body["toolConfig"].get("toolChoice") == want
    spec = body["toolConfig"]["tools"][0]["toolSpec"]
    assert (spec["name"], spec["description"], spec["strict"]) == ("f", "d", True)
    assert body["toolConfig"]["tools"][1] == {"cachePoint": {"type": "default"}}
    assert dropped == lost


def test_tools_come_and_go_with_the_calls() -> None:
    assert "toolConfig" not in ask(tools=(Tool("f"),), tool_choice=ToolChoice("none"))[0]
    body, lost = ask(HI, Message("assistant", (ToolCall("1", "g"),)))
    assert [t["toolSpec"]["name"] for t in body["toolConfig"]["tools"]] == ["g"]
    assert lost == ("tools",)
    body, lost = ask(tools=(Tool("c", kind="custom"), Tool("s", strict=True)), model=OLD_CLAUDE, parallel_tools=False)
    assert body["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]["required"] == ["input"]
    assert "strict" not in body["toolConfig"]["tools"][1]["toolSpec"]
    assert set(lost) == {"tools.custom", "tools.strict", "parallel_tool_calls"}


def test_one_call_at_a_time() -> None:
    once = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    body, lost = ask(tools=(Tool("f"),), parallel_tools=False)
    assert (body["additionalModelRequestFields"], lost) == (once, ())
    assert ask(parallel_tools=False) == ask()
    for more in ({"tool_choice": ToolChoice("required")}, {"model": NOVA}):
        assert ask(tools=(Tool("f"),), parallel_tools=False, **more)[1] == ("parallel_tool_calls",)


@pytest.mark.parametrize(
    ("model", "asked", "want", "lost"),
    [
        (CLAUDE, Reasoning("high"), {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, ()),
        (OLD_CLAUDE, Reasoning(None, 2000), {"thinking": {"type": "enabled", "budget_tokens": 2000}}, ()),
        (NOVA, Reasoning("low"), {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}, ()),
        (NOVA, Reasoning("none"), {"reasoningConfig": {"type": "disabled"}}, ()),
        (QWEN, Reasoning("high"), {"reasoning_config": "high"}, ()),
        (GPT, Reasoning("medium"), {"reasoning_effort": "medium"}, ()),
        (GPT, Reasoning(None, 5), None, ("reasoning_budget",)),
        (LLAMA, Reasoning("low"), None, ("reasoning_effort",)),
    ],
)
def test_reasoning(model: str, asked: Reasoning, want: object, lost: tuple[str, ...]) -> None:
    body, dropped = ask(model=model, reasoning=asked)
    assert body.get("additionalModelRequestFields") == want
    assert dropped == lost


def test_a_budget_leaves_room_for_the_answer() -> None:
    body, _ = ask(model=OLD_CLAUDE, reasoning=Reasoning(None, 2000))
    assert body["inferenceConfig"]["maxTokens"] > 2000


def test_parameters() -> None:
    body, lost = ask(
        model=NOVA,
        max_tokens=5,
        temperature=1.5,
        top_p=0.5,
        top_k=3,
        stop=("x",),
        seed=1,
        n=2,
        user="u",
        logprobs=True,
        presence_penalty=0.1,
        extra={"store": Raw(b"true"), "verbosity": Raw(b'"low"'), "max_completion_tokens": Raw(b"5")},
    )
    assert body["inferenceConfig"] == {"maxTokens": 5, "temperature": 1, "topP": 0.5, "stopSequences": ["x"]}
    assert body["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 3}}
    assert set(lost) == {"temperature", "n", "seed", "user", "logprobs", "presence_penalty", "verbosity"}
    body, lost = ask(temperature=0.5, top_p=0.5, top_k=3, max_tokens=9)
    assert body["inferenceConfig"] == {"maxTokens": 9, "temperature": 0.5}
    assert body["additionalModelRequestFields"] == {"top_k": 3}
    assert lost == ("top_p",)
    assert ask(model=LLAMA, top_k=3)[1] == ("top_k",)


def test_formats() -> None:
    body, lost = ask(model=NOVA, format=Format("schema", SCHEMA, "n"))
    text = body["outputConfig"]["textFormat"]
    assert text["type"] == "json_schema"
    assert text["structure"]["jsonSchema"] == {"name": "n", "schema": bytes(SCHEMA).decode()}
    assert lost == ()
    body, lost = ask(format=Format("schema", SCHEMA))
    schema = json.loads(body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"])
    assert schema["additionalProperties"] is False
    assert lost == ("response_format.json_schema",)
    assert ask(format=Format("json")) == (ask()[0], ("response_format.json_object",))


def test_an_anthropic_client_keeps_its_own_words_for_thinking() -> None:
    extra = {
        "thinking": Raw(b'{"type":"enabled","budget_tokens":1500}'),
        "output_config": Raw(b'{"effort":"low","format":{"type":"json_schema","schema":{}}}'),
    }
    body, lost = ask(dialect="anthropic", reasoning=Reasoning("low", 1500), max_tokens=4000, extra=extra)
    assert body["additionalModelRequestFields"] == {
        "thinking": {"type": "enabled", "budget_tokens": 1500},
        "output_config": {"effort": "low"},
    }
    assert lost == ()


def test_quirks_of_the_row_are_applied() -> None:
    target = _target(NOVA, drop=("system",), force={"serviceTier": {"type": "flex"}})
    sent = bedrock.write_body(Request(model="m", messages=(Message("system", (Text("s"),)), HI)), target)
    assert json.loads(sent.body).keys() == {"messages", "serviceTier"}
    assert sent.dropped == ("system",)
