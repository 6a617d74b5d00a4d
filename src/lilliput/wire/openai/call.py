"""A neutral request as the body for an OpenAI-compatible provider (also Azure OpenAI)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import msgspec
from msgspec import Raw

from lilliput.neutral import (
    Cache,
    Format,
    Media,
    Message,
    Opaque,
    Part,
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
from lilliput.wire import quirks
from lilliput.wire.openai import mistral as openai_mistral
from lilliput.wire.openai import types as wire
from lilliput.wire.openai.media import write_media
from lilliput.wire.openai.request import DIALECT, NULL, reasoning_in

THINKING_FIELD = "reasoning_content"
"""Where plain reasoning of earlier turns goes, unless the target's `drop` or `rename` names this field."""

LOSSES = {
    "developer": "the role developer becomes system",
    "empty text": "text parts without text go; empty content and no content are the same",
    "order": "an assistant's parts are regrouped: thinking, content, calls; content of one text part is plain text",
    "tool turns": "each tool result becomes a message of its own, before what stood beside it; is_error goes",
    "cache marks": "only text, media and tools keep a mark, and only for a caller of this dialect",
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
"""What `read_request(write_body(r).body)` may not give back; the tests hold each line to account."""

SUPPORT: Mapping[str, str] = MappingProxyType(
    {
        "reasoning_budget": "approximated: the nearest word of reasoning_effort",
        "messages.thinking_signature": "dropped: it means nothing outside its own family",
        "messages.tool_result_error": "dropped",
        "messages.other": "dropped",
        "cache_control": "dropped: these providers cache by themselves",
    }
)
"""What a caller of another dialect loses here (see `fields`)."""

_SPELLINGS = frozenset(
    {
        *("max_completion_tokens", "functions", "function_call", "tools", "tool_choice"),
        *("response_format", "reasoning", "thinking"),
    }
)
"""Fields that `request` keeps in `extra` for their spelling alone: written above, never copied."""
_PLAIN = (
    *("temperature", "top_p", "top_k", "seed", "n", "presence_penalty", "frequency_penalty"),
    *("logprobs", "top_logprobs", "user"),
)
"""Fields of the same name and kind on both sides."""
_EFFORTS = ((4_096, "low"), (16_384, "medium"))
_NO_ARGUMENTS = Raw(b'{"type":"object","properties":{}}')


def write_body(r: Request, target: Target) -> Sent:
    """The body that asks `target` what `r` asks; a stream is always asked for its usage."""
    if target.dialect == "mistral":
        r = openai_mistral.fitted(r)
    own = r.dialect == DIALECT
    extra = r.extra if own else {}
    fields: dict[str, object] = {"model": target.model, "messages": _messages(r, target)}
    tools = [_tool(t, own) for t in r.tools] + _list(extra.get("tools"))
    if tools:
        fields["tools"] = tools
        if "tool_choice" in extra or r.tool_choice is not None:
            fields["tool_choice"] = extra.get("tool_choice") or _tool_choice(r)
        if r.parallel_tools is not None:
            fields["parallel_tool_calls"] = r.parallel_tools
    if "response_format" in extra or r.format is not None:
        fields["response_format"] = extra.get("response_format") or _format(r.format)
    if r.max_tokens is not None:
        fields["max_completion_tokens" if "max_completion_tokens" in extra else "max_tokens"] = r.max_tokens
    if r.stop:
        fields["stop"] = list(r.stop)
    fields |= _reasoning(r.reasoning, extra)
    for name in _PLAIN:
        value: float | str | None = getattr(r, name)
        if value is not None:
            fields[name] = value
    if r.stream:
        fields["stream"] = True
        fields["stream_options"] = {"include_usage": True}
    for name, raw in extra.items():
        if name not in _SPELLINGS:
            fields.setdefault(name, raw)
    dropped = (*_dropped(r, own), *quirks.dropped(fields, target))
    return Sent(quirks.body(fields, target), tuple(dict.fromkeys(dropped)))


def _dropped(r: Request, own: bool) -> Iterator[str]:
    """What of `r` this dialect has no place for."""
    if r.reasoning is not None and r.reasoning.effort is None and r.reasoning.budget_tokens is not None:
        yield "reasoning_budget"
    if not own:
        yield from r.extra
        if any(t.cache for t in r.tools):
            yield "cache_control"
    for m in r.messages:
        for p in m.parts:
            if isinstance(p, Text) and p.cache is None:
                continue
            if isinstance(p, ToolResult) and p.is_error:
                yield "messages.tool_result_error"
            if not own and isinstance(p, Opaque):
                yield "messages.other"
            elif (not own and isinstance(p, Thinking) and (p.signature or p.sealed)) or (
                not own and isinstance(p, ToolCall) and p.signature
            ):
                yield "messages.thinking_signature"
            if not own and not isinstance(p, (Thinking, Refusal, Opaque)) and p.cache:
                yield "cache_control"


# -- messages ----------------------------------------------------------------------------------------------------


def _messages(r: Request, target: Target) -> list[dict[str, object]]:
    thinking_field = target.rename.get(THINKING_FIELD, THINKING_FIELD)
    if thinking_field in target.drop:
        thinking_field = ""
    own = r.dialect == DIALECT
    out: list[dict[str, object]] = []
    for m in r.messages:
        out += [_result(p, own) for p in m.parts if isinstance(p, ToolResult)]
        if m.role == "assistant":
            out.append(_assistant(m, own, thinking_field))
        elif m.role != "tool":
            content = _content(m.parts, own)
            if content or not any(isinstance(p, ToolResult) for p in m.parts):
                out.append({"role": m.role, "content": content, **_name(m)})
    return out


def _assistant(m: Message, own: bool, thinking_field: str) -> dict[str, object]:
    calls = [_tool_call(p, own) for p in m.parts if isinstance(p, ToolCall)]
    content = _content(m.parts, own)
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


def _content(parts: tuple[Part, ...], own: bool) -> str | list[object]:
    """Plain text where that says it all: not every provider reads lists."""
    if len(parts) == 1 and isinstance(text := parts[0], Text) and not (own and text.cache):
        return text.text
    out: list[object] = []
    for p in parts:
        if isinstance(p, Text) and p.text:
            out.append({"type": "text", "text": p.text, **_marked(p.cache, own)})
        elif isinstance(p, Media):
            out.append(write_media(p) | _marked(p.cache, own))
        elif isinstance(p, Refusal) and p.text:
            out.append({"type": "refusal", "refusal": p.text})
        elif isinstance(p, Opaque) and p.dialect == DIALECT:
            out.append(p.raw)
    texts = [p for p in parts if isinstance(p, Text) and p.text]
    if len(out) == len(texts) <= 1 and not (own and texts and texts[0].cache):
        return texts[0].text if texts else ""
    return out


def _marked(cache: Cache | None, own: bool) -> dict[str, object]:
    """A cache mark, for a caller of this dialect: its provider knows the mark, others may refuse it."""
    if cache is None or not own:
        return {}
    return {"cache_control": {"type": "ephemeral"} if cache == "5m" else {"type": "ephemeral", "ttl": cache}}


def _result(p: ToolResult, own: bool) -> dict[str, object]:
    name = {} if p.name is None else {"name": p.name}
    return {"role": "tool", "tool_call_id": p.call_id, **name, "content": _content(p.parts, own)}


def _tool_call(p: ToolCall, own: bool) -> dict[str, object]:
    signed = signed_call(p.signature) if own else {}
    if p.kind == "custom":
        return {"id": p.id, "type": "custom", "custom": {"name": p.name, "input": p.arguments}, **signed}
    function = {"name": p.name, "arguments": p.arguments or "{}"}
    return {"id": p.id, "type": "function", "function": function, **signed}


def signed_call(signature: str | None) -> dict[str, object]:
    """Gemini's signature of a call, where Gemini's own OpenAI endpoint puts it."""
    return {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}


def _name(m: Message) -> dict[str, str]:
    return {} if m.name is None else {"name": m.name}


# -- the other fields --------------------------------------------------------------------------------------------


def _tool(t: Tool, own: bool) -> dict[str, object]:
    if t.kind == "custom":
        custom = {"name": t.name, "description": t.description, "format": t.grammar}
        custom = {name: value for name, value in custom.items() if value is not None}
        return {"type": "custom", "custom": custom, **_marked(t.cache, own)}
    function: dict[str, object] = {"name": t.name}
    if t.description is not None:
        function["description"] = t.description
    function["parameters"] = t.schema if t.schema is not None else _NO_ARGUMENTS
    if t.strict is not None:
        function["strict"] = t.strict
    return {"type": "function", "function": function, **_marked(t.cache, own)}


def _tool_choice(r: Request) -> object:
    c = r.tool_choice
    if c is not None and c.mode == "named":
        kind = next((t.kind for t in r.tools if t.name == c.name), "function")
        return {"type": kind, kind: {"name": c.name}}
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
