"""What becomes of each field on the way to each dialect is what the dialect's `SUPPORT` says.

A field that is translated changes the body; one that is not is named in `Sent.dropped`, or refused where it says so.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw, Struct, structs

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
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from lilliput.wire import cohere, dialects, ollama
from lilliput.wire.fields import FIELDS

PNG = "iVBORw0KGgo="
OBJECT = Raw(b'{"type":"object","properties":{"q":{"type":"string"}}}')
LENGTHY = Raw(b'{"type":"object","properties":{"q":{"type":"string","minLength":7}}}')
TOOL = Tool("look_up", "finds", OBJECT)
CALL = ToolCall("c", "look_up", '{"q":"x"}')


class Ask(Struct, frozen=True):
    """A request that has a field, the same without it, and what of the value is seen in a body that carries it."""

    with_it: Request
    without: Request
    seen: bytes = b""


def hi(**fields: Any) -> Request:
    return Request(model="m", messages=(Message("user", (Text("hi"),)),), **fields)


def user(*parts: Part) -> Request:
    return structs.replace(hi(), messages=(Message("user", parts),))


def spoken(*parts: Part) -> Request:
    told = (Message("user", (Text("hi"),)), Message("assistant", (*parts, Text("a"))), Message("user", (Text("so"),)))
    return structs.replace(hi(), messages=told)


def result(*parts: Text | Media, is_error: bool = False) -> Request:
    turns = (
        Message("user", (Text("hi"),)),
        Message("assistant", (CALL,)),
        Message("tool", (ToolResult("c", parts, "look_up", is_error),)),
    )
    return structs.replace(hi(tools=(TOOL,)), messages=turns)


def plain(seen: bytes = b"", **fields: Any) -> Ask:
    return Ask(hi(**fields), hi(), seen)


def media(seen: bytes, kind: Any, **fields: Any) -> Ask:
    return Ask(user(Text("hi"), Media(kind, **fields)), hi(), seen)


ASKS = {
    "max_tokens": plain(b"4321", max_tokens=4321),
    "temperature": plain(b"0.625", temperature=0.625),
    "top_p": plain(b"0.375", top_p=0.375),
    "top_k": plain(b"37", top_k=37),
    "stop": plain(b"HALT", stop=("HALT",)),
    "seed": plain(b"70707", seed=70707),
    "n": plain(b":3", n=3),
    "presence_penalty": plain(b"0.125", presence_penalty=0.125),
    "frequency_penalty": plain(b"0.25", frequency_penalty=0.25),
    "logprobs": plain(b"ogprobs", logprobs=True),
    "top_logprobs": Ask(hi(logprobs=True, top_logprobs=4), hi(logprobs=True), b":4"),
    "user": plain(b"u-77", user="u-77"),
    "tools": plain(b"look_up", tools=(TOOL,)),
    "tools.strict": Ask(hi(tools=(structs.replace(TOOL, strict=True),)), hi(tools=(TOOL,)), b"strict"),
    "tools.custom": plain(b'"custom"', tools=(Tool("f", kind="custom"),)),
    "tool_choice": Ask(hi(tools=(TOOL,), tool_choice=ToolChoice("named", "look_up")), hi(tools=(TOOL,)), b"look_up"),
    "parallel_tool_calls": Ask(hi(tools=(TOOL,), parallel_tools=False), hi(tools=(TOOL,)), b"arallel"),
    "response_format.json_object": plain(b"json", format=Format("json")),
    "response_format.json_schema": plain(b'"q"', format=Format("schema", OBJECT, "n")),
    "reasoning_effort": plain(b"high", reasoning=Reasoning("high")),
    "reasoning_budget": plain(b"3333", reasoning=Reasoning(budget_tokens=3333)),
    "messages.name": Ask(structs.replace(hi(), messages=(Message("user", (Text("hi"),), "Ann"),)), hi(), b"Ann"),
    "messages.thinking": Ask(spoken(Thinking("so it is")), spoken(), b"so it is"),
    "messages.thinking_signature": Ask(
        spoken(Thinking("so it is", "SIGNED", None, "elsewhere-v1")), spoken(Thinking("so it is")), b"SIGNED"
    ),
    "messages.tool_result_error": Ask(result(Text("no"), is_error=True), result(Text("no"))),
    "messages.tool_result_media": Ask(
        result(Text("no"), Media("image", "image/png", PNG)), result(Text("no")), b"iVBOR"
    ),
    "messages.refusal": Ask(spoken(Refusal("never")), spoken(), b'"refusal"'),
    "messages.other": Ask(user(Text("hi"), Opaque("other", Raw(b'{"a":"ODD"}'))), hi(), b"ODD"),
    "image": media(b"iVBOR", "image", data=PNG, mime="image/png"),
    "image_url": media(b"x.test/a.png", "image", url="https://x.test/a.png"),
    "image.detail": Ask(
        user(Media("image", data=PNG, mime="image/png", detail="low")),
        user(Media("image", data=PNG, mime="image/png")),
        b'"low"',
    ),
    "audio": media(b"AAAA", "audio", data="AAAA", mime="audio/wav"),
    "audio_url": media(b"x.test/a.wav", "audio", url="https://x.test/a.wav"),
    "video": media(b"AAAA", "video", data="AAAA", mime="video/mp4"),
    "video_url": media(b"x.test/a.mp4", "video", url="https://x.test/a.mp4"),
    "file": media(b"AAAA", "file", data="AAAA", mime="application/pdf", name="a.pdf"),
    "file_url": media(b"x.test/a.pdf", "file", url="https://x.test/a.pdf"),
    "file_id": media(b"file-1", "file", file_id="file-1"),
    "cache_control": Ask(user(Text("hi", "5m")), hi()),
}

CLAUDE, NEWER, LLAMA = "claude-sonnet-4-5", "claude-opus-4-7", "meta.llama3-1-8b-instruct-v1:0"
MODELS = {
    "anthropic": CLAUDE,
    "anthropic_vertex": CLAUDE,
    "gemini": "gemini-2.5-pro",
    "bedrock": f"anthropic.{CLAUDE}-20250929-v1:0",
    "bedrock_invoke": f"anthropic.{CLAUDE}-20250929-v1:0",
}
THINKS = Reasoning(budget_tokens=2048)
LOSES: dict[tuple[str, str], tuple[str, Request]] = {
    ("anthropic", "temperature"): (CLAUDE, hi(temperature=1.5)),
    ("anthropic", "top_p"): (CLAUDE, hi(top_p=0.5, temperature=0.5)),
    ("anthropic", "top_k"): (CLAUDE, hi(top_k=5, reasoning=THINKS)),
    ("anthropic", "tools.strict"): (CLAUDE, hi(tools=(Tool("f", None, LENGTHY, True),))),
    ("anthropic", "tool_choice"): (CLAUDE, hi(tool_choice=ToolChoice("required"))),
    ("anthropic", "response_format.json_schema"): (CLAUDE, hi(format=Format("schema", LENGTHY))),
    ("anthropic", "reasoning_budget"): (NEWER, hi(reasoning=THINKS)),
    ("gemini", "messages.thinking"): ("gemini-2.0-flash", spoken(Thinking("so it is"))),
    ("bedrock", "temperature"): (f"anthropic.{CLAUDE}-v1:0", hi(temperature=1.5)),
    ("bedrock", "top_p"): (f"anthropic.{NEWER}", hi(top_p=0.5)),
    ("bedrock", "top_k"): (LLAMA, hi(top_k=5)),
    ("bedrock", "tools"): (LLAMA, structs.replace(result(Text("no")), tools=())),
    ("bedrock", "tools.strict"): ("anthropic.claude-3-5-sonnet-20241022-v2:0", ASKS["tools.strict"].with_it),
    ("bedrock", "tool_choice"): (LLAMA, hi(tool_choice=ToolChoice("required"))),
    ("bedrock", "parallel_tool_calls"): (LLAMA, ASKS["parallel_tool_calls"].with_it),
    ("bedrock", "response_format.json_schema"): (f"anthropic.{CLAUDE}-v1:0", hi(format=Format("schema", LENGTHY))),
    ("bedrock", "reasoning_budget"): (LLAMA, hi(reasoning=THINKS)),
    ("bedrock", "messages.tool_result_error"): (LLAMA, ASKS["messages.tool_result_error"].with_it),
    ("bedrock", "cache_control"): (LLAMA, ASKS["cache_control"].with_it),
    ("gemini", "reasoning_budget"): ("gemini-2.0-flash", hi(reasoning=THINKS)),
    ("bedrock.invoke", "temperature"): (f"anthropic.{CLAUDE}-v1:0", hi(temperature=1.5)),
    ("bedrock.invoke", "top_p"): (f"anthropic.{CLAUDE}-v1:0", hi(top_p=0.5, temperature=0.5)),
    **{
        ("bedrock.invoke", field): (LLAMA, ASKS[field].with_it)
        for field in (
            *(
                "top_k",
                "stop",
                "user",
                "tools",
                "tools.strict",
                "tool_choice",
                "parallel_tool_calls",
                "reasoning_budget",
            ),
            *("response_format.json_schema", "messages.tool_result_error", "messages.tool_result_media"),
            *("image", "image_url", "file", "file_url", "file_id", "cache_control"),
        )
    },
    ("cohere", "tools.strict"): ("m", hi(tools=(TOOL, Tool("g", None, OBJECT, True)))),
    ("completions", "top_logprobs"): ("m", hi(logprobs=True, top_logprobs=9)),
}
"""Where a loss depends on the model or on what else is asked: a request that shows it, by module and field."""


def outcome(dialect: str, r: Request, field: str, model: str | None = None) -> tuple[str, bytes]:
    """ "sent", "named" or "refused", and the body. The caller's dialect is another than the provider's."""
    asked = structs.replace(r, dialect="anthropic" if dialects.PROVIDERS[dialect] == "openai" else "openai_chat")
    target = Target(provider="p", model=model or MODELS.get(dialect, "m"), dialect=dialect)
    try:
        sent = dialects.provider(dialect).write_body(asked, target)
    except Problem as p:
        return "refused" if p.status == 400 else str(p.status), b""
    # a module without tools names the tools, whatever is special about them
    named = field in sent.dropped or (field.startswith("tools.") and "tools" in sent.dropped)
    return "named" if named else "sent", sent.body


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("dialect", dialects.PROVIDERS)
def test_a_field_fares_as_is_said(dialect: str, field: str) -> None:
    module, ask = dialects.PROVIDERS[dialect], ASKS[field]
    says = dialects.provider(dialect).SUPPORT.get(field, "")
    lost = {"refused"} if says.startswith("dropped: refused with 400") else {"named"}
    if "refused with 400" in says:
        lost.add("refused")
    how, body = outcome(dialect, ask.with_it, field)
    if how != "sent":
        assert how in lost, says
        assert says, f"{how}, and SUPPORT does not tell"
        return
    assert body != outcome(dialect, ask.without, field)[1], "it changes nothing, and is not named"
    assert ask.seen in body or says, body
    if says:
        assert not says.startswith("dropped:"), "that says always: it is dropped where, for or except"
        assert (module, field) in LOSES, f"not lost here, though: {says}"
        model, r = LOSES[module, field]
        assert outcome(dialect, r, field, model)[0] in lost, says


@pytest.mark.parametrize("dialect", dialects.PROVIDERS)
def test_support_speaks_of_fields_alone(dialect: str) -> None:
    support = dialects.provider(dialect).SUPPORT
    assert set(support) <= set(FIELDS)
    assert all(says.startswith(("dropped", "approximated: ")) for says in support.values())


def test_every_field_is_asked_for() -> None:
    assert list(ASKS) == list(FIELDS)


def test_a_caller_field_is_named_unless_it_changes_nothing_or_is_the_providers_own() -> None:
    extra = {
        "verbosity": Raw(b'"low"'),
        "store": Raw(b"true"),
        "safety_mode": Raw(b'"OFF"'),
        "keep_alive": Raw(b'"1h"'),
    }
    for module, dropped, kept in (
        (cohere, ("verbosity", "keep_alive"), b'"safety_mode":"OFF"'),
        (ollama, ("verbosity", "safety_mode"), b'"keep_alive":"1h"'),
    ):
        sent = module.write_body(hi(extra=extra), Target(provider="p", model="m"))
        assert sent.dropped == dropped
        assert kept in sent.body


def test_the_row_has_the_last_word() -> None:
    target = Target(provider="p", model="m", clamp={"p": (0.01, 0.99)}, drop=("seed",), force={"safety_mode": "OFF"})
    sent = cohere.write_body(hi(top_p=1.0, seed=1), target)
    assert sent.dropped == ("seed",)
    assert sent.body.endswith(b'"p":0.99,"stream":false,"safety_mode":"OFF"}')


PATHS = [
    ("cohere", "/v2/chat"),
    ("cohere_v1", "/v1/chat"),
    ("ollama", "/api/chat"),
    ("ollama_generate", "/api/generate"),
    ("openai_completions", "/completions"),
    ("openai_chat", "/chat/completions"),
    ("openai_responses", "/responses"),
    ("anthropic", "/v1/messages"),
]


@pytest.mark.parametrize(("dialect", "path"), PATHS)
def test_the_endpoint_is_the_dialects_own(dialect: str, path: str) -> None:
    for stream in (False, True):
        target = Target(provider="p", model="m", base="https://x.test", dialect=dialect)
        url, headers = dialects.provider(dialect).endpoint(target, stream)
        assert url == f"https://x.test{path}"
        assert ("content-type", "application/json") in headers
