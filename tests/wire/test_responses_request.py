"""Responses requests: a client's read, a provider's written, and what either refuses."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from tests.wire import responses_recordings as rec

from lilliput.neutral import (
    Format,
    Media,
    Message,
    Opaque,
    Problem,
    Reasoning,
    Refusal,
    Request,
    Sent,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from lilliput.wire import openai as chat
from lilliput.wire import port, responses
from lilliput.wire.families import ANTHROPIC, GEMINI, OPENAI
from lilliput.wire.fields import FIELDS
from lilliput.wire.responses.call import reasons

HERE = Target(provider="openai", model="gpt-4o", base="http://h/v1", dialect="openai_responses")
NEGATIVE = "openai-687ea36e6b"
"""A recorded request that asks for temperature -1, which OpenAI refused as we do."""
IMAGE_IDS = {"openai-10147e1a0f", "openai-1c47cc878d", "openai-4ad21f2d01", "openai-c6d3d08191"}
"""Images by file id: OpenAI's chat form has no part for these, only for files."""


def written(r: Request, target: Target = HERE) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(responses.write_body(r, target).body)
    return body


def read(**fields: Any) -> Request:
    return responses.read_request(json.dumps({"model": "m", "input": "hi", **fields}).encode(), "")


def asking(*parts: Any, role: Any = "user", **more: Any) -> Request:
    return Request(model="m", messages=(Message(role, parts),), **more)


def recorded() -> list[tuple[dict[str, Any], Any]]:
    """The recorded requests that need no server's tool, with what they ask."""
    expect = rec.kit().expect
    found = [(i, expect.request_facts(i)) for i in rec.calls()]
    return [(i, f) for i, f in found if f and not f["server_tools"] and i["id"] != NEGATIVE]


def test_what_chat_asks_is_written_as_recorded() -> None:
    expect = rec.kit().expect
    assert len(recorded()) > 290
    for i, want in recorded():
        model = want["model"] or "m"
        r = chat.read_request(json.dumps(expect.to_openai_request(want, model)).encode())
        got = written(r, Target(provider="x", model=model))
        assert expect.compare(want, expect.facts_of("openai.responses", "", got), ignore=()) == [], i["id"]


def test_what_a_client_asked_is_carried_over() -> None:
    expect = rec.kit().expect
    for i, want in recorded():
        body = expect.body_bytes(i["request"])
        if want["model"] is None:
            continue
        r = responses.read_request(body, "")
        target = Target(provider="x", model=r.model)
        fields = {name: Raw(json.dumps(value).encode()) for name, value in json.loads(body).items()}
        again = json.loads(responses.rewrite(fields, responses.check(body, ""), target))
        for got in (written(r, target), again):
            assert expect.compare(want, expect.facts_of("openai.responses", "", got), ignore=()) == [], i["id"]
        if i["id"] not in IMAGE_IDS:
            got = json.loads(chat.write_body(r, target).body)
            assert expect.compare(want, expect.facts_of("openai.chat", "", got), ignore=()) == [], i["id"]


def test_every_recorded_request_is_read_and_written_again() -> None:
    read_ones = 0
    for i in rec.calls():
        body = rec.kit().expect.body_bytes(i["request"])
        if i["id"] == NEGATIVE or not json.loads(body).get("model"):
            continue
        read_ones += 1
        r = responses.read_request(body, "")
        once = written(r)
        assert written(responses.read_request(json.dumps(once).encode(), "")) == once, i["id"]
    assert read_ones == 362


ITEMS: list[tuple[str, list[dict[str, Any]], tuple[Message, ...]]] = [
    ("a message without a type", [{"role": "user", "content": "hi"}], (Message("user", (Text("hi"),)),)),
    ("a developer", [{"role": "developer", "content": "be"}], (Message("system", (Text("be"),)),)),
    (
        "a turn of the assistant",
        [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}], "encrypted_content": "gA"},
            {
                "role": "assistant",
                "content": [{"type": "output_text", "text": "I"}, {"type": "refusal", "refusal": "no"}],
            },
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "2", "name": "g", "input": "x"},
            {"type": "function_call_output", "call_id": "1", "output": "ok"},
            {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "ok"}]},
        ],
        (
            Message(
                "assistant",
                (
                    Thinking("so", family=OPENAI),
                    Thinking(sealed="gA", family=OPENAI),
                    Text("I"),
                    Refusal("no"),
                    ToolCall("1", "f", "{}"),
                    ToolCall("2", "g", "x", "custom"),
                ),
            ),
            Message("tool", (ToolResult("1", (Text("ok"),)),)),
            Message("tool", (ToolResult("2", (Text("ok"),)),)),
        ),
    ),
    (
        "media",
        [
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "low"},
                    {"type": "input_image", "image_url": "https://x/a.png"},
                    {"type": "input_image", "file_id": "file-1"},
                    {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
                    {"type": "input_file", "file_url": "https://x/a.pdf"},
                    {"type": "input_file", "file_id": "file-2"},
                    {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                ],
            }
        ],
        (
            Message(
                "user",
                (
                    Media("image", mime="image/png", data="aGk=", detail="low"),
                    Media("image", url="https://x/a.png"),
                    Media("image", file_id="file-1"),
                    Media("file", mime="application/pdf", data="aGk=", name="a.pdf"),
                    Media("file", url="https://x/a.pdf"),
                    Media("file", file_id="file-2"),
                    Media("audio", mime="audio/wav", data="aGk="),
                ),
            ),
        ),
    ),
    (
        "Gemini's signature of a call",
        [
            {"type": "reasoning", "summary": [], "encrypted_content": f"{GEMINI}:sig"},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        ],
        (Message("assistant", (ToolCall("1", "f", "{}", signature="sig"),)),),
    ),
    (
        "Anthropic's signed and sealed thinking",
        [
            {"type": "reasoning", "summary": [{"text": "so"}], "encrypted_content": f"{ANTHROPIC}:sig"},
            {"type": "reasoning", "summary": [], "encrypted_content": f"{ANTHROPIC}:sealed:box"},
        ],
        (Message("assistant", (Thinking("so", "sig", None, ANTHROPIC), Thinking(sealed="box", family=ANTHROPIC))),),
    ),
    (
        "an item of the servers",
        [{"type": "web_search_call", "id": "ws", "action": {"a": 1}}],
        (
            Message(
                "assistant",
                (Opaque("openai_responses", Raw(b'{"type": "web_search_call", "id": "ws", "action": {"a": 1}}')),),
            ),
        ),
    ),
    ("an empty answer", [{"role": "assistant", "content": ""}], (Message("assistant"),)),
]


@pytest.mark.parametrize(("name", "items", "want"), ITEMS, ids=[i[0] for i in ITEMS])
def test_items(name: str, items: list[dict[str, Any]], want: tuple[Message, ...]) -> None:
    assert read(input=items).messages == want


def test_the_other_fields() -> None:
    tools = [
        {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False},
        {"type": "custom", "name": "g", "format": {"type": "text"}},
        {"type": "web_search"},
    ]
    asked: dict[str, Any] = {
        "instructions": "be",
        "tools": tools,
        "tool_choice": {"type": "custom", "name": "g"},
        "parallel_tool_calls": False,
        "max_output_tokens": 20,
        "temperature": 0.5,
        "top_p": 0.5,
        "top_logprobs": 2,
        "text": {
            "format": {"type": "json_schema", "name": "n", "schema": {"a": 1}, "strict": True},
            "verbosity": "low",
        },
        "reasoning": {"effort": "low", "summary": "auto"},
        "user": "u",
        "stream": True,
        "metadata": {"a": "b"},
        "store": True,
    }
    r = read(**asked)
    assert r.messages[0] == Message("system", (Text("be"),))
    assert [(t.name, t.kind, t.strict) for t in r.tools] == [("f", "function", False), ("g", "custom", None)]
    assert r.tool_choice == ToolChoice("named", "g")
    assert (r.parallel_tools, r.max_tokens, r.temperature, r.top_p, r.top_logprobs) == (False, 20, 0.5, 0.5, 2)
    assert (r.logprobs, r.user, r.stream, r.reasoning) == (True, "u", True, Reasoning("low"))
    assert r.format == Format("schema", Raw(b'{"a": 1}'), "n", True)
    assert {name: json.loads(bytes(raw)) for name, raw in r.extra.items()} == {
        "tools": [{"type": "web_search"}],
        "text": {"verbosity": "low"},
        "reasoning": {"summary": "auto"},
        "metadata": {"a": "b"},
        "store": True,
    }
    again = written(r)
    assert again.pop("include") == ["message.output_text.logprobs"]
    want = {name: value for name, value in asked.items() if name != "instructions"}
    items = [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}]
    assert again == {**want, "model": "gpt-4o", "store": False, "input": items}


REFUSED = [
    ({"model": "m", "input": [{"content": "x"}]}, "input[0].role"),
    ({"model": "m", "input": [{"role": "user"}]}, "input[0].content"),
    ({"model": "m", "input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ({"model": "m", "input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
    ({"model": "m", "input": [{"type": "custom_tool_call", "call_id": "1"}]}, "input[0].name"),
    ({"model": "m", "input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    ({"model": "m", "input": 7}, "input"),
    ({"model": "m"}, "input"),
    ({"input": "x"}, "model"),
    ({"model": "m", "input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
    ({"model": "m", "input": "x", "temperature": 3}, "temperature"),
    ({"model": "m", "input": "x", "max_output_tokens": 0}, "max_output_tokens"),
    ({"model": "m", "input": "x", "stream": "yes"}, "stream"),
    (
        {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        "input[0].content[0].image_url",
    ),
    ({"model": "m", "input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].file_data"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED, ids=[r[1] for r in REFUSED])
def test_what_is_refused_names_its_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Problem) as refused:
        responses.read_request(json.dumps(body).encode(), "")
    assert (refused.value.status, refused.value.param) == (400, param)


def test_mutated_requests_raise_only_problems() -> None:
    dice = random.Random(9)
    bodies = [rec.kit().expect.body_bytes(i["request"]) for i in rec.calls()]
    bodies = [b for b in bodies if 10 < len(b) < 10_000]
    words = [b"null", b"[]", b"{}", b"-1", b'""', b'"x"', b"true", b"\xff", b'"type"', b'"input"', b'"reasoning"', b","]
    good = 0
    for _ in range(3000):
        mutant = bytearray(dice.choice(bodies))
        for _ in range(dice.choice((1, 1, 2))):
            # at a token, so that much of it is still JSON
            at = dice.choice([m.start() for m in re.finditer(rb'[\[{":,]', mutant)] or [0])
            end = at + (dice.choice((0, 1, 2, 8)))
            mutant[at:end] = dice.choice(words)
        body = bytes(mutant)
        try:
            asked = responses.check(body, "")
            r = responses.read_request(body, "")
            responses.write_body(r, HERE)
            fields = msgspec.json.decode(body, type=dict[str, Raw])
            responses.rewrite(fields, asked, HERE)
            good += 1
        except Problem:
            continue
    assert good > 50


# -- to a provider -----------------------------------------------------------------------------------------------


def test_thinking_goes_back_to_its_own_family_alone() -> None:
    parts = (
        Thinking("plain"),
        Thinking(sealed="box", family=ANTHROPIC),
        Thinking("so", family=OPENAI),
        Thinking(sealed="gA", family=OPENAI),
        Thinking("then", "sig", None, ANTHROPIC),
        Text("hi"),
        ToolCall("1", "f", signature="sig"),
    )
    sent = responses.write_body(asking(*parts, role="assistant"), HERE)
    assert json.loads(sent.body)["input"] == [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}], "encrypted_content": "gA"},
        {"role": "assistant", "content": "hi"},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
    ]
    assert sent.dropped == ("messages.thinking", "messages.thinking_signature")


def test_a_custom_tool_stays_one() -> None:
    call = ToolCall("1", "g", "x = 1", "custom")
    r = Request(
        model="m",
        messages=(Message("assistant", (call,)), Message("tool", (ToolResult("1", (Text("ok"),)),))),
        tools=(Tool("g", "runs", kind="custom", grammar=Raw(b'{"type":"text"}')),),
        tool_choice=ToolChoice("named", "g"),
    )
    body = written(r)
    assert body["tools"] == [{"type": "custom", "name": "g", "description": "runs", "format": {"type": "text"}}]
    assert body["tool_choice"] == {"type": "custom", "name": "g"}
    assert [i["type"] for i in body["input"]] == ["custom_tool_call", "custom_tool_call_output"]


def test_strict_is_said_where_its_absence_means_something_else() -> None:
    tool = Tool("f", schema=Raw(b'{"type":"object"}'))
    assert written(asking(Text("x"), tools=(tool,)))["tools"][0]["strict"] is False
    assert "strict" not in written(asking(Text("x"), tools=(tool,), dialect="openai_responses"))["tools"][0]


@pytest.mark.parametrize(
    "media", [Media("video", data="aGk="), Media("video", url="u"), Media("audio", url="https://x")]
)
def test_media_without_a_part_is_refused(media: Media) -> None:
    with pytest.raises(Problem) as refused:
        responses.write_body(asking(media), HERE)
    assert (refused.value.status, refused.value.code) == (400, "unsupported_media")


MODELS = [
    ("gpt-5-mini", True),
    ("gpt-5.6-sol", True),
    ("openai/gpt-5-nano", True),
    ("openai.gpt-5.5", True),
    ("o4-mini", True),
    ("o3-2025-04-16", True),
    ("grok-4.3", True),
    ("codex-mini-latest", True),
    ("grok-4-fast-non-reasoning", False),
    ("gpt-5-chat-latest", False),
    ("gpt-5.2-chat", False),
    ("gpt-4o", False),
    ("gpt-4.1-nano", False),
    ("gpt-oss-120b", False),
    ("deepseek-v4-flash", False),
    ("omni-moderation", False),
]


@pytest.mark.parametrize(("model", "does"), MODELS)
def test_sealed_reasoning_is_asked_of_models_that_reason(model: str, does: bool) -> None:
    assert reasons(model) is does
    body = written(asking(Text("x")), Target(provider="x", model=model))
    assert ("reasoning.encrypted_content" in body.get("include", [])) is does
    assert body["store"] is False


def test_recorded_models_that_gave_sealed_reasoning_are_asked_for_it() -> None:
    for i in rec.calls():
        body = rec.kit().request(i) or {}
        asked = "reasoning.encrypted_content" in (body.get("include") or [])
        if asked and i["response"]["status"] == 200:
            assert reasons(body["model"]), body["model"]


LOST: list[tuple[str, Request]] = [
    ("top_k", asking(top_k=5)),
    ("stop", asking(stop=("x",))),
    ("seed", asking(seed=0)),
    ("n", asking(n=2)),
    ("presence_penalty", asking(presence_penalty=0.5)),
    ("frequency_penalty", asking(frequency_penalty=0.5)),
    ("reasoning_budget", asking(reasoning=Reasoning(budget_tokens=5000))),
    ("messages.name", Request(model="m", messages=(Message("user", (Text("x"),), "bob"),))),
    ("messages.thinking", asking(Thinking("so"), role="assistant")),
    ("messages.thinking", asking(Thinking("so", family=OPENAI), role="assistant")),
    ("messages.thinking_signature", asking(Thinking("", "s", None, ANTHROPIC), role="assistant")),
    ("messages.tool_result_error", asking(ToolResult("1", is_error=True), role="tool")),
    ("messages.other", asking(Opaque("anthropic", Raw(b"{}")))),
    ("messages.other", asking(Media("image", url="u"), role="assistant")),
    ("cache_control", asking(Text("x", "5m"))),
]


@pytest.mark.parametrize(("name", "r"), LOST, ids=[name for name, _ in LOST])
def test_what_is_lost_is_named(name: str, r: Request) -> None:
    sent: Sent = responses.write_body(r, HERE)
    assert sent.dropped == (name,)
    assert name in responses.SUPPORT


def test_nothing_else_is_lost() -> None:
    refused = {"audio_url", "video", "video_url"}
    assert set(responses.SUPPORT) - refused == {name for name, _ in LOST}
    assert set(responses.SUPPORT) <= {*FIELDS, "messages.other"}
    r = asking(
        Text("x"), Media("image", url="u"), max_tokens=5, temperature=0.1, top_p=0.2, user="u", logprobs=True, n=1,
        top_logprobs=2, reasoning=Reasoning("low"), extra={"metadata": Raw(b"{}")},
    )  # fmt: skip
    assert responses.write_body(r, HERE).dropped == ()
    assert responses.write_body(asking(extra={"logit_bias": Raw(b"{}")}), HERE).dropped == ("logit_bias",)


def test_the_module_fits_the_port() -> None:
    provider: port.Provider = responses
    client: port.Client = responses
    assert client.DIALECT == "openai_responses"
    assert provider.SUPPORT is responses.SUPPORT


def test_the_endpoint() -> None:
    url, headers = responses.endpoint(HERE, True)
    assert url == "http://h/v1/responses"
    assert dict(headers)["content-type"] == "application/json"
