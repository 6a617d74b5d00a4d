"""A neutral request as the call to an OpenAI-compatible provider (also Azure OpenAI)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Raw

from lilliput.neutral import (
    Call,
    Format,
    Media,
    Message,
    Opaque,
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
from lilliput.wire import openai_types as wire
from lilliput.wire import quirks
from lilliput.wire.openai_endpoint import endpoint
from lilliput.wire.openai_media import write_media
from lilliput.wire.openai_request import DIALECT, NULL, reasoning_in

THINKING_FIELD = "reasoning_content"
"""Where plain reasoning of earlier turns goes, unless the target's `drop` or `rename` names this field."""

LOSSES = {
    "developer": "the role developer becomes system",
    "empty text": "text parts without text go; empty content and no content are the same",
    "order": "an assistant's parts are regrouped: thinking, content, calls; content of one text part is plain text",
    "tool turns": "each tool result becomes a message of its own, before what stood beside it; is_error goes",
    "tool parts": "of a tool result's parts, those that are neither text nor media that we know go",
    "thinking": "unsigned thinking joins into one text; signatures and sealed blocks from another dialect go",
    "place": "parts that a role has no place for go, such as a user's thinking",
    "arguments": "empty arguments are written as {}",
    "usage": "a stream is always asked for usage; other stream options go",
    "names": "a message that is a tool's has no name; a tool without a schema takes any object; a schema needs a name",
    "media": "only files keep a name and only images a detail; a type is written for data without one; ids mean files",
    "foreign": "opaque parts and extra fields of another dialect go",
    "choice": "tool_choice and parallel_tools go where there are no tools",
    "budget": "a budget of thinking tokens becomes a word, unless the caller's own field for it is in extra",
    "legacy": "functions and function_call are written as tools and tool_choice",
    "marks": "fields that have no neutral name inside messages, parts and tools go, such as cache_control and prefix",
}
"""What `read_request(write_call(r).body)` may not give back; the tests hold each line to account."""

_SPELLINGS = frozenset(
    {
        *("max_completion_tokens", "functions", "function_call", "tools", "tool_choice"),
        *("response_format", "reasoning", "thinking"),
    }
)
"""Fields that `openai_request` keeps in `extra` for their spelling alone: written above, never copied."""
_EFFORTS = ((4_096, "low"), (16_384, "medium"))
_NO_ARGUMENTS = Raw(b'{"type":"object","properties":{}}')


def write_call(r: Request, target: Target) -> Call:
    """The HTTP call that asks `target` what `r` asks; a stream is always asked for its usage."""
    extra = r.extra if r.dialect == DIALECT else {}
    fields: dict[str, object] = {"model": target.model, "messages": _messages(r, target)}
    tools = [_tool(t) for t in r.tools] + _list(extra.get("tools"))
    if tools:
        fields["tools"] = tools
        if "tool_choice" in extra or r.tool_choice is not None:
            fields["tool_choice"] = extra.get("tool_choice") or _tool_choice(r.tool_choice)
        if r.parallel_tools is not None:
            fields["parallel_tool_calls"] = r.parallel_tools
    if "response_format" in extra or r.format is not None:
        fields["response_format"] = extra.get("response_format") or _format(r.format)
    if r.max_tokens is not None:
        fields["max_completion_tokens" if "max_completion_tokens" in extra else "max_tokens"] = r.max_tokens
    if r.stop:
        fields["stop"] = list(r.stop)
    fields |= _reasoning(r.reasoning, extra)
    for name in (
        *("temperature", "top_p", "top_k", "seed", "n", "presence_penalty", "frequency_penalty"),
        *("logprobs", "top_logprobs", "user"),
    ):
        value: float | str | None = getattr(r, name)
        if value is not None:
            fields[name] = value
    if r.stream:
        fields["stream"] = True
        fields["stream_options"] = {"include_usage": True}
    raws = {name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    for name, raw in extra.items():
        if name not in _SPELLINGS:
            raws.setdefault(name, raw)
    body = msgspec.json.encode(quirks.apply(raws, target))
    url, headers = endpoint(target, "/chat/completions")
    return Call("POST", url, headers, body, r.stream)


# -- messages ----------------------------------------------------------------------------------------------------


def _messages(r: Request, target: Target) -> list[dict[str, object]]:
    thinking_field = target.rename.get(THINKING_FIELD, THINKING_FIELD)
    if thinking_field in target.drop:
        thinking_field = ""
    out: list[dict[str, object]] = []
    for m in r.messages:
        out += [_result(p) for p in m.parts if isinstance(p, ToolResult)]
        if m.role == "assistant":
            out.append(_assistant(m, r.dialect == DIALECT, thinking_field))
        elif m.role != "tool":
            content = _content(m.parts)
            if content or not any(isinstance(p, ToolResult) for p in m.parts):
                out.append({"role": m.role, "content": content, **_name(m)})
    return out


def _assistant(m: Message, own: bool, thinking_field: str) -> dict[str, object]:
    calls = [_tool_call(p) for p in m.parts if isinstance(p, ToolCall)]
    content = _content(m.parts)
    out: dict[str, object] = {"role": "assistant", "content": content or (None if calls else ""), **_name(m)}
    thoughts = [p for p in m.parts if isinstance(p, Thinking)]
    if thinking_field and own and any(t.signature or t.sealed or t.family for t in thoughts):
        out["reasoning_details"] = write_details(thoughts)
    elif thinking_field and (text := "".join(t.text for t in thoughts if t.sealed is None)):
        out[thinking_field] = text
    if calls:
        out["tool_calls"] = calls
    return out


def write_details(thoughts: Iterable[Thinking]) -> list[dict[str, str]]:
    """OpenRouter's `reasoning_details`: the form that carries signatures and sealed blocks."""
    out = []
    for t in thoughts:
        sealed = t.sealed is not None
        named = {
            "type": "reasoning.encrypted" if sealed else "reasoning.text",
            "summary" if sealed else "text": t.text or None,
            "data": t.sealed,
            "signature": t.signature,
            "format": t.family,
        }
        out.append({name: value for name, value in named.items() if value is not None})
    return out


def _content(parts: Iterable[object]) -> str | list[object]:
    """Plain text where that says it all: not every provider reads lists."""
    out: list[object] = []
    for p in parts:
        if isinstance(p, Text) and p.text:
            out.append({"type": "text", "text": p.text})
        elif isinstance(p, Media):
            out.append(write_media(p))
        elif isinstance(p, Refusal) and p.text:
            out.append({"type": "refusal", "refusal": p.text})
        elif isinstance(p, Opaque) and p.dialect == DIALECT:
            out.append(p.raw)
    texts = [p.text for p in parts if isinstance(p, Text) and p.text]
    if len(out) == len(texts) <= 1:
        return texts[0] if texts else ""
    return out


def _result(p: ToolResult) -> dict[str, object]:
    name = {} if p.name is None else {"name": p.name}
    return {"role": "tool", "tool_call_id": p.call_id, **name, "content": _content(p.parts)}


def _tool_call(p: ToolCall) -> dict[str, object]:
    if p.kind == "custom":
        return {"id": p.id, "type": "custom", "custom": {"name": p.name, "input": p.arguments}}
    return {"id": p.id, "type": "function", "function": {"name": p.name, "arguments": p.arguments or "{}"}}


def _name(m: Message) -> dict[str, str]:
    return {} if m.name is None else {"name": m.name}


# -- the other fields --------------------------------------------------------------------------------------------


def _tool(t: Tool) -> dict[str, object]:
    function: dict[str, object] = {"name": t.name}
    if t.description is not None:
        function["description"] = t.description
    function["parameters"] = t.schema if t.schema is not None else _NO_ARGUMENTS
    if t.strict is not None:
        function["strict"] = t.strict
    return {"type": "function", "function": function}


def _tool_choice(c: ToolChoice | None) -> object:
    if c is not None and c.mode == "named":
        return {"type": "function", "function": {"name": c.name}}
    return c.mode if c is not None else None


def _format(f: Format | None) -> object:
    if f is None or f.kind == "text":
        return {"type": "text"}
    if f.kind == "json":
        return {"type": "json_object"}
    schema = {"name": f.name or "answer", "description": f.description, "schema": f.schema, "strict": f.strict}
    return {"type": "json_schema", "json_schema": {k: v for k, v in schema.items() if v is not None}}


def _reasoning(asked: Reasoning | None, extra: dict[str, Raw]) -> dict[str, object]:
    """The caller's own `reasoning` or `thinking` as it came, and `reasoning_effort` for what they do not say."""
    own: dict[str, object] = {name: extra[name] for name in ("reasoning", "thinking") if name in extra}
    if asked is None:
        return own
    said = reasoning_in(
        None,
        msgspec.json.decode(extra["reasoning"], type=wire.ReasoningBody) if "reasoning" in extra else None,
        msgspec.json.decode(extra["thinking"], type=wire.ThinkingBody) if "thinking" in extra else None,
    )
    if said == asked:
        return own
    effort = asked.effort
    if effort is None and asked.budget_tokens is not None:
        effort = next((word for most, word in _EFFORTS if asked.budget_tokens <= most), "high")
    return {**own, "reasoning_effort": effort} if effort is not None else own


def _list(raw: Raw | None) -> list[Raw]:
    return [] if raw is None or bytes(raw) in NULL else msgspec.json.decode(raw, type=list[Raw])
