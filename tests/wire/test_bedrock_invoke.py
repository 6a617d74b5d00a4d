"""What InvokeModel is asked: each model family in its own form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lilliput.neutral import Format, Media, Message, Problem, Reasoning, Refusal, Request, Target, Text, Thinking, Tool
from lilliput.wire.bedrock import invoke as bedrock_invoke

HI = Message("user", (Text("hi"),))
ASKED = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.25, "top_k": 3, "stop": ("|",)}


def ask(model: str, *messages: Message, **more: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    r = Request(model="m", messages=messages or (HI,), **more)
    sent = bedrock_invoke.write_body(r, Target(provider="bedrock", model=model, base="https://h"))
    assert set(sent.dropped) <= set(bedrock_invoke.SUPPORT)
    return json.loads(sent.body), sent.dropped


@pytest.mark.parametrize(
    ("model", "want", "lost"),
    [
        (
            "amazon.titan-text-lite-v1",
            {
                "inputText": "hi",
                "textGenerationConfig": {"maxTokenCount": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["|"]},
            },
            ("top_k",),
        ),
        (
            "meta.llama3-1-70b-instruct-v1:0",
            {"prompt": "hi", "max_gen_len": 9, "temperature": 0.5, "top_p": 0.25},
            ("top_k", "stop"),
        ),
        (
            "mistral.mistral-7b-instruct-v0:2",
            {"prompt": "hi", "max_tokens": 9, "temperature": 0.5, "top_p": 0.25, "top_k": 3, "stop": ["|"]},
            (),
        ),
        (
            "cohere.command-light-text-v14",
            {"prompt": "hi", "max_tokens": 9, "temperature": 0.5, "p": 0.25, "k": 3, "stop_sequences": ["|"]}
            | {"stream": True},
            (),
        ),
        (
            "cohere.command-r-v1:0",
            {"message": "hi", "max_tokens": 9, "temperature": 0.5, "p": 0.25, "k": 3, "stop_sequences": ["|"]},
            (),
        ),
        (
            "ai21.j2-mid-v1",
            {"prompt": "hi", "maxTokens": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["|"]},
            ("top_k",),
        ),
        (
            "us.deepseek.r1-v1:0",
            {"prompt": "hi", "max_tokens": 9, "temperature": 0.5, "top_p": 0.25, "stop": ["|"]},
            ("top_k",),
        ),
        (
            "us.amazon.nova-2-lite-v1:0",
            {
                "messages": [{"role": "user", "content": [{"text": "hi"}]}],
                "schemaVersion": "messages-v1",
                "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["|"]}
                | {"topK": 3, "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
            },
            (),
        ),
    ],
)
def test_families(model: str, want: dict[str, Any], lost: tuple[str, ...]) -> None:
    reasoning = Reasoning("low") if "nova" in model else None
    assert ask(model, stream=True, reasoning=reasoning, **ASKED) == (want, lost)


def test_a_conversation_becomes_a_dialogue() -> None:
    said = Message("assistant", (Thinking("t"), Text("a", "5m"), Refusal("")), name="n")
    body, lost = ask("ai21.j2-mid-v1", Message("system", (Text("s"),)), HI, said, HI)
    assert set(lost) == {"messages.thinking", "messages.name", "cache_control"}
    assert body["prompt"] == "s\n\nUser: hi\n\nAssistant: a\n\nUser: hi\n\nAssistant:"


def test_a_prompt_holds_text_alone() -> None:
    for r in (
        {"tools": (Tool("f"),)},
        {"messages": (Message("user", (Media("image", data="AA=="),)),)},
    ):
        asked = Request(model="m", **{"messages": (HI,), **r})  # type: ignore[arg-type]
        with pytest.raises(Problem) as caught:
            bedrock_invoke.write_body(asked, Target(provider="bedrock", model="ai21.j2-mid-v1"))
        assert caught.value.status == 400
    lost = ask("ai21.j2-mid-v1", format=Format("json"), reasoning=Reasoning(None, 9), seed=1)[1]
    assert set(lost) == {"response_format.json_object", "reasoning_budget", "seed"}


def test_claude_is_asked_as_anthropic_asks_it() -> None:
    body, lost = ask("us.anthropic.claude-sonnet-4-5-20250929-v1:0", stream=True, max_tokens=5)
    assert body == {
        "anthropic_version": "bedrock-2023-05-31",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "max_tokens": 5,
    }
    assert lost == ()


def test_others_chat_in_openais_form() -> None:
    body, _ = ask("openai.gpt-oss-120b-1:0", stream=True, max_tokens=5)
    assert body == {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
