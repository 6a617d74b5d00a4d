"""A neutral request as the body of a Cohere v2 chat (docs.cohere.com/reference/chat, checked 2026-11-22)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec
from msgspec import Raw

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
    ToolResult,
)
from lilliput.wire import custom_tools, quirks
from lilliput.wire.openai import address as openai_endpoint
from lilliput.wire.openai.media import write_media
from lilliput.wire.port import Headers

DIALECT = "cohere"
REFUSED = "dropped: refused with 400"

SUPPORT: Mapping[str, str] = MappingProxyType(
    {
        "n": "dropped: there is one answer",
        "top_logprobs": "dropped: only the chosen tokens have one",
        "user": "dropped",
        "tools.strict": "approximated: all tools are strict when every one is asked to be, else none",
        "tools.custom": "approximated: a function with one text argument, input",
        "tool_choice": "approximated: a named tool is required and offered alone",
        "parallel_tool_calls": "dropped: the model decides",
        "reasoning_effort": "approximated: thinking is on, or off for none",
        "messages.name": "dropped",
        "messages.thinking_signature": "dropped: the text goes without it",
        "messages.tool_result_error": "dropped: only the text tells",
        "messages.tool_result_media": "approximated: images follow in a user message",
        "messages.refusal": "approximated: plain text",
        "messages.other": "dropped",
        **dict.fromkeys(("audio", "audio_url", "video", "video_url", "file", "file_url", "file_id"), REFUSED),
        "cache_control": "dropped: caching is the provider's own affair",
    }
)

_OWN = frozenset({"safety_mode", "documents", "citation_options", "strict_tools", "priority", "raw_prompting"})
"""Fields of Cohere's own: a caller of any dialect who writes one means it."""

_SILENT = frozenset(
    {
        *("stream_options", "store", "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
        *("max_completion_tokens", "functions", "function_call", "reasoning", "thinking", "stop"),
    }
)
"""Fields in `extra` that change nothing in the answer, or whose meaning the request has under its neutral name."""

_NO_ARGUMENTS = Raw(b'{"type":"object","properties":{}}')


def endpoint(target: Target, stream: bool) -> tuple[str, Headers]:
    return openai_endpoint.endpoint(target, "/v2/chat")


def write_body(r: Request, target: Target) -> Sent:
    """The body that asks `target` what `r` asks; raises Problem (400) for media other than images."""
    dropped: dict[str, None] = {}
    fields: dict[str, object] = {"model": target.model, "messages": _messages(r.messages, dropped)}
    if r.tools:
        fields |= _tools(r, dropped)
    if r.format is not None and r.format.kind != "text":
        fields["response_format"] = _format(r.format)
    if r.reasoning is not None:
        fields["thinking"] = _thinking(r.reasoning, dropped)
    fields |= sampling(r)
    if r.logprobs is not None:
        fields["logprobs"] = r.logprobs
    note(dropped, n=r.n not in (None, 1), top_logprobs=r.top_logprobs, user=r.user)
    fields["stream"] = r.stream
    return sent(fields, own_fields(r, DIALECT, _OWN, dropped), target, dropped)


def sampling(r: Request) -> dict[str, object]:
    """How the answer is drawn and when it ends, the same in v1 and v2."""
    named = {
        "max_tokens": r.max_tokens,
        "temperature": r.temperature,
        "p": r.top_p,
        "k": None if r.top_k is None else max(0, r.top_k),  # vLLM's -1 is Cohere's 0
        "seed": r.seed,
        "stop_sequences": r.stop or None,
        "presence_penalty": r.presence_penalty,
        "frequency_penalty": r.frequency_penalty,
    }
    return {name: value for name, value in named.items() if value is not None}


def sent(fields: dict[str, object], own: dict[str, Raw], target: Target, dropped: dict[str, None]) -> Sent:
    """The body of `fields` and of the caller's own, the row's quirks applied, and all that was dropped."""
    raws = own | {name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    dropped |= dict.fromkeys(quirks.dropped(raws, target))
    return Sent(msgspec.json.encode(quirks.apply(raws, target)), tuple(dropped))


def note(dropped: dict[str, None], **lost: object) -> None:
    """Names those of `lost` that were asked for."""
    dropped |= dict.fromkeys(name for name, asked in lost.items() if asked)


def own_fields(r: Request, dialect: str, own: frozenset[str], dropped: dict[str, None]) -> dict[str, Raw]:
    """The caller's fields for this provider: all in its own dialect, else those that are the provider's own alone."""
    if r.dialect == dialect:
        return r.extra
    read = {"response_format": r.format, "tool_choice": r.tool_choice}
    for name in r.extra:
        if name not in own and name not in _SILENT and read.get(name) is None:
            dropped[name] = None
    return {name: raw for name, raw in r.extra.items() if name in own}


# -- messages ----------------------------------------------------------------------------------------------------


def _messages(messages: Iterable[Message], dropped: dict[str, None]) -> list[dict[str, object]]:
    out: list[dict[str, object]] = []
    images: list[Media] = []  # of tool results, which have no place for them
    for m in messages:
        for p in m.parts:
            if isinstance(p, ToolResult):
                out.append(_result(p, images, dropped))
        if m.role == "tool":
            continue
        note_message(m, dropped)
        if images:
            out.append({"role": "user", "content": _content(images, dropped)})
            images.clear()
        if m.role == "assistant":
            out.append(_assistant(m, dropped))
        elif (content := _content(m.parts, dropped)) or not any(isinstance(p, ToolResult) for p in m.parts):
            out.append({"role": m.role, "content": content})
    if images:
        out.append({"role": "user", "content": _content(images, dropped)})
    return out


def _result(p: ToolResult, images: list[Media], dropped: dict[str, None]) -> dict[str, object]:
    note_result(p, dropped)
    images += [media for media in p.parts if isinstance(media, Media)]
    texts = [text for text in p.parts if isinstance(text, Text)]
    return {"role": "tool", "tool_call_id": p.call_id, "content": _content(texts, dropped)}


def _assistant(m: Message, dropped: dict[str, None]) -> dict[str, object]:
    """What was said beside tool calls is their plan."""
    calls = [_tool_call(p, dropped) for p in m.parts if isinstance(p, ToolCall)]
    out: dict[str, object] = {"role": "assistant"}
    thinking: list[dict[str, object]] = [{"type": "thinking", "thinking": text} for text in thoughts(m, dropped)]
    if calls:
        texts = [p.text for p in m.parts if isinstance(p, Text | Refusal) and p.text]
        if thinking:
            out["content"] = thinking
        if texts:
            out["tool_plan"] = "\n".join(texts)
        out["tool_calls"] = calls
        return out
    said = _content(m.parts, dropped)
    if thinking and isinstance(said, str):
        said = [{"type": "text", "text": said}] if said else []
    out["content"] = [*thinking, *said] if thinking else said
    return out


def thoughts(m: Message, dropped: dict[str, None]) -> list[str]:
    """The open text of earlier thinking; neither signatures nor sealed blocks mean anything here."""
    thinking = [p for p in m.parts if isinstance(p, Thinking)]
    if any(t.signature or t.sealed is not None for t in thinking):
        dropped["messages.thinking_signature"] = None
    return [t.text for t in thinking if t.text and t.sealed is None]


def _content(parts: Iterable[object], dropped: dict[str, None]) -> str | list[dict[str, object]]:
    """Plain text where that says it all."""
    out: list[dict[str, object]] = []
    for p in parts:
        if isinstance(p, Text | Refusal) and p.text:
            out.append({"type": "text", "text": p.text})
        elif isinstance(p, Media):
            if p.kind != "image" or p.file_id is not None:
                raise no_place(p, "Cohere takes only images, as data or by URL")
            out.append(write_media(p))
        elif isinstance(p, Opaque):
            dropped["messages.other"] = None
    if not out:
        return ""
    if len(out) == 1 and "text" in out[0]:
        return str(out[0]["text"])
    return out


def note_message(m: Message, dropped: dict[str, None]) -> None:
    """Names what of a message neither Cohere nor Ollama has a place for."""
    if m.name is not None:
        dropped["messages.name"] = None
    for p in m.parts:
        if isinstance(p, Refusal):
            dropped["messages.refusal"] = None
        if isinstance(p, Text | Media | ToolCall) and p.cache is not None:
            dropped["cache_control"] = None


def note_result(p: ToolResult, dropped: dict[str, None]) -> None:
    if p.is_error:
        dropped["messages.tool_result_error"] = None
    if p.cache is not None or any(part.cache is not None for part in p.parts):
        dropped["cache_control"] = None
    if any(isinstance(part, Media) for part in p.parts):
        dropped["messages.tool_result_media"] = None


def no_place(m: Media, takes: str) -> Problem:
    """The refusal of media that a provider cannot be shown."""
    way = "id" if m.file_id is not None else "URL" if m.url is not None else "data"
    say = f"{takes}: this request has {m.kind} by {way}; leave it out or ask another model"
    return Problem("client", say, code="unsupported_media", param="messages")


def _tool_call(p: ToolCall, dropped: dict[str, None]) -> dict[str, object]:
    function = {"name": p.name, "arguments": arguments(p, dropped)}
    return {"id": p.id, "type": "function", "function": function}


def arguments(p: ToolCall, dropped: dict[str, None]) -> str:
    """A call's arguments as JSON text, a custom tool's free text as its one argument."""
    if p.kind == "custom":
        dropped["tools.custom"] = None
    if p.signature is not None:
        dropped["messages.thinking_signature"] = None
    return custom_tools.call_as_function(p).arguments or "{}"


# -- the other fields --------------------------------------------------------------------------------------------


def _tools(r: Request, dropped: dict[str, None]) -> dict[str, object]:
    tools, choice = r.tools, r.tool_choice
    out: dict[str, object] = {}
    if choice is not None and choice.mode == "named":
        tools = tuple(t for t in tools if t.name == choice.name) or tools
        dropped["tool_choice"] = None
    out["tools"] = [write_function(t, dropped) for t in tools]
    if choice is not None and choice.mode != "auto":
        out["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    if any(t.strict is not None for t in r.tools):
        if all(t.strict for t in tools):
            out["strict_tools"] = True
        else:
            dropped["tools.strict"] = None
    if r.parallel_tools is not None:
        dropped["parallel_tool_calls"] = None
    return out


def write_function(t: Tool, dropped: dict[str, None]) -> dict[str, object]:
    """A tool in OpenAI's form, a custom one as a function of one text."""
    if t.cache is not None:
        dropped["cache_control"] = None
    if t.kind == "custom":
        dropped["tools.custom"] = None
    t = custom_tools.as_function(t)
    description = {} if t.description is None else {"description": t.description}
    parameters = t.schema if t.schema is not None else _NO_ARGUMENTS
    return {"type": "function", "function": {"name": t.name, **description, "parameters": parameters}}


def _format(f: Format) -> dict[str, object]:
    return {"type": "json_object", **({"json_schema": f.schema} if f.schema is not None else {})}


def _thinking(asked: Reasoning, dropped: dict[str, None]) -> dict[str, object]:
    if asked.effort == "none":
        return {"type": "disabled"}
    if asked.effort is not None:
        dropped["reasoning_effort"] = None
    budget = {} if asked.budget_tokens is None else {"token_budget": asked.budget_tokens}
    return {"type": "enabled", **budget}
