"""A neutral request as the body for a provider of OpenAI's Responses dialect.

The gateway keeps its callers' history itself, so a provider is asked to store nothing and, where the model reasons, to
give its reasoning sealed, so that the next request can carry it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
from lilliput.wire import families, quirks
from lilliput.wire.openai import address as openai_endpoint
from lilliput.wire.openai.media import data_url, write_media

DIALECT = "openai_responses"
SEALED = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"

SUPPORT: Mapping[str, str] = MappingProxyType(
    {
        "top_k": "dropped",
        "stop": "dropped",
        "seed": "dropped",
        "n": "dropped",
        "presence_penalty": "dropped",
        "frequency_penalty": "dropped",
        "reasoning_budget": "approximated: the nearest word of reasoning.effort",
        "messages.name": "dropped",
        "messages.thinking": "dropped: only reasoning that the provider sealed itself can be given back",
        "messages.thinking_signature": "dropped: it means nothing outside its own family",
        "messages.tool_result_error": "dropped: the text of the result tells",
        "messages.other": "dropped",
        "audio_url": "dropped: refused with 400",
        "video": "dropped: refused with 400",
        "video_url": "dropped: refused with 400",
        "cache_control": "dropped: these providers cache by themselves",
    }
)
"""What a caller of another dialect loses here (see `fields`)."""

_HARMLESS = frozenset(
    {
        *("max_completion_tokens", "functions", "function_call", "response_format", "reasoning", "thinking"),
        *("metadata", "store", "stream_options"),
    }
)
"""Fields of other dialects that change nothing here, or whose meaning is in a neutral one."""
_EFFORTS = ((4_096, "low"), (16_384, "medium"))
_NO_ARGUMENTS = Raw(b'{"type":"object","properties":{}}')
_REASONS = re.compile(r"(?:.*[/.])?(?:o[1-9]|gpt-(?:[5-9]|[1-9]\d)|codex|grok-(?:[4-9]|[1-9]\d))(?!.*non-reasoning)")
_CHAT_ONLY = re.compile(r"gpt-\d[\d.]*-chat")

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


def endpoint(target: Target, stream: bool) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The URL of responses at the target, and the headers that every call there carries."""
    return openai_endpoint.endpoint(target, "/responses")


def reasons(model: str) -> bool:
    """True for the models known to reason: others refuse to be asked for sealed reasoning (OpenAI answers 400)."""
    return _REASONS.match(model) is not None and _CHAT_ONLY.search(model) is None


def write_body(r: Request, target: Target) -> Sent:
    """The body that asks `target` what `r` asks; raises Problem (400) for media that the form has no part for."""
    own = r.dialect == DIALECT
    extra = r.extra if own else {}
    fields: dict[str, object] = {"model": target.model, "input": _input(r)}
    tools: list[object] = [write_tool(t, own) for t in r.tools]
    if "tools" in extra:
        tools += _raws(extra["tools"])
    if tools:
        fields["tools"] = tools
        if "tool_choice" in extra or r.tool_choice is not None:
            fields["tool_choice"] = extra.get("tool_choice") or write_tool_choice(r)
        if r.parallel_tools is not None:
            fields["parallel_tool_calls"] = r.parallel_tools
    text = merged(extra.get("text"), {"format": write_format(r.format)} if r.format is not None else {})
    if text:
        fields["text"] = text
    reasoning = merged(extra.get("reasoning"), write_effort(r.reasoning))
    if reasoning:
        fields["reasoning"] = reasoning
    for name, value in (
        ("max_output_tokens", r.max_tokens),
        ("temperature", r.temperature),
        ("top_p", r.top_p),
        ("top_logprobs", r.top_logprobs),
        ("user", r.user),
    ):
        if value is not None:
            fields[name] = value
    include = msgspec.json.decode(extra["include"], type=list[str]) if "include" in extra else []
    if r.logprobs and LOGPROBS not in include:
        include.append(LOGPROBS)
    if reasons(target.model) and SEALED not in include:
        include.append(SEALED)
    if include:
        fields["include"] = include
    fields["store"] = False
    if r.stream:
        fields["stream"] = True
    raws = {name: Raw(_encode(value)) for name, value in fields.items()}
    for name, raw in extra.items():
        if name != "previous_response_id":
            raws.setdefault(name, raw)
    dropped = (*_dropped(r, own), *quirks.dropped(raws, target))
    return Sent(_encode(quirks.apply(raws, target)), tuple(dict.fromkeys(dropped)))


def _dropped(r: Request, own: bool) -> Iterator[str]:
    """What of `r` this dialect has no place for."""
    for name in ("top_k", "stop", "seed"):
        if getattr(r, name) not in (None, ()):
            yield name
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(r, name):
            yield name
    if r.n is not None and r.n > 1:
        yield "n"
    if r.reasoning is not None and r.reasoning.effort is None and r.reasoning.budget_tokens is not None:
        yield "reasoning_budget"
    if not own:
        yield from (name for name in r.extra if name not in _HARMLESS)
    if any(t.cache for t in r.tools):
        yield "cache_control"
    for m in r.messages:
        if m.name is not None:
            yield "messages.name"
        sealed = any(isinstance(p, Thinking) and p.sealed and _is_ours(p) for p in m.parts)
        for p in m.parts:
            if isinstance(p, Opaque):
                if p.dialect != DIALECT:
                    yield "messages.other"
            elif isinstance(p, Thinking):
                if p.text and not (sealed and _is_ours(p)):
                    yield "messages.thinking"
                if (p.signature or p.sealed) and not _is_ours(p):
                    yield "messages.thinking_signature"
            elif not isinstance(p, Refusal):
                if p.cache:
                    yield "cache_control"
                if isinstance(p, Media) and m.role == "assistant":
                    yield "messages.other"
                if isinstance(p, ToolCall) and p.signature:
                    yield "messages.thinking_signature"
                if isinstance(p, ToolResult) and p.is_error:
                    yield "messages.tool_result_error"


# -- items -------------------------------------------------------------------------------------------------------


def _input(r: Request) -> list[object]:
    out: list[object] = []
    customs: set[str] = set()
    for m in r.messages:
        if m.role == "assistant":
            _assistant(m, customs, out)
            continue
        content: list[Text | Media | Opaque] = []
        for p in m.parts:
            if isinstance(p, ToolResult):
                kind = "custom_tool_call_output" if p.call_id in customs else "function_call_output"
                out.append({"type": kind, "call_id": p.call_id, "output": _content(p.parts)})
            elif isinstance(p, Text | Media) or (isinstance(p, Opaque) and p.dialect == DIALECT):
                content.append(p)
        if content or not m.parts:
            out.append({"role": m.role, "content": _content(content)})
    return out


def _assistant(m: Message, customs: set[str], out: list[object]) -> None:
    """The assistant's parts as items, in their order; texts that stand together are one message."""
    said: list[dict[str, str]] = [] if m.parts else [{"type": "output_text", "text": ""}]
    summary = ""

    def message() -> None:
        if said:
            plain = len(said) == 1 and said[0]["type"] == "output_text"
            out.append({"role": "assistant", "content": said[0]["text"] if plain else said.copy()})
            said.clear()

    for p in m.parts:
        if isinstance(p, Text):
            if p.text:
                said.append({"type": "output_text", "text": p.text})
            continue
        if isinstance(p, Refusal):
            said.append({"type": "refusal", "refusal": p.text})
            continue
        message()
        if isinstance(p, Thinking):
            if not _is_ours(p):
                continue
            summary += p.text
            if p.sealed:
                shown = [{"type": "summary_text", "text": summary}] if summary else []
                out.append({"type": "reasoning", "summary": shown, "encrypted_content": p.sealed})
                summary = ""
        elif isinstance(p, ToolCall) and p.kind == "custom":
            customs.add(p.id)
            out.append({"type": "custom_tool_call", "call_id": p.id, "name": p.name, "input": p.arguments})
        elif isinstance(p, ToolCall):
            arguments = p.arguments or "{}"
            out.append({"type": "function_call", "call_id": p.id, "name": p.name, "arguments": arguments})
        elif isinstance(p, Opaque) and p.dialect == DIALECT:
            out.append(p.raw)
    message()


def _is_ours(p: Thinking) -> bool:
    """True for reasoning of this family: sealed, or the summary that goes before a seal."""
    return p.family == families.OPENAI


def _content(parts: tuple[Text | Media, ...] | list[Text | Media | Opaque]) -> str | list[object]:
    out: list[object] = []
    for p in parts:
        if isinstance(p, Text):
            out.append({"type": "input_text", "text": p.text})
        elif isinstance(p, Media):
            out.append(_media(p))
        else:
            out.append(p.raw)
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return out or ""


def _media(m: Media) -> dict[str, object]:
    if m.kind == "image":
        source = {"file_id": m.file_id} if m.file_id is not None else {"image_url": data_url(m)}
        return {"type": "input_image", **source, "detail": m.detail or "auto"}
    if m.kind == "file":
        if m.file_id is not None:
            return {"type": "input_file", "file_id": m.file_id}
        if m.data is None:
            return {"type": "input_file", "file_url": m.url or ""}
        return {"type": "input_file", "filename": m.name or "file", "file_data": data_url(m)}
    if m.kind == "audio" and m.data is not None:
        return write_media(m)
    say = f"this model's provider takes no {m.kind}{' by URL' if m.kind == 'audio' else ''}; leave it out"
    raise Problem("client", say, code="unsupported_media", param="messages")


# -- the other fields --------------------------------------------------------------------------------------------


def write_tool(t: Tool, own: bool) -> dict[str, object]:
    """A tool as this dialect has it. Without `strict` it means true here, and false everywhere else."""
    if t.kind == "custom":
        custom = {"type": "custom", "name": t.name, "description": t.description, "format": t.grammar}
        return {name: value for name, value in custom.items() if value is not None}
    out: dict[str, object] = {"type": "function", "name": t.name}
    if t.description is not None:
        out["description"] = t.description
    out["parameters"] = _NO_ARGUMENTS if t.schema is None else t.schema
    if t.strict is not None or not own:
        out["strict"] = bool(t.strict)
    return out


def write_tool_choice(r: Request) -> object:
    c = r.tool_choice
    if c is None or c.mode != "named":
        return c.mode if c is not None else None
    return {"type": next((t.kind for t in r.tools if t.name == c.name), "function"), "name": c.name}


def write_format(f: Format) -> dict[str, object]:
    if f.kind == "text":
        return {"type": "text"}
    if f.kind == "json":
        return {"type": "json_object"}
    schema = {"type": "json_schema", "name": f.name or "answer", "description": f.description, "schema": f.schema}
    return {name: value for name, value in (schema | {"strict": f.strict}).items() if value is not None}


def write_effort(asked: Reasoning | None) -> dict[str, object]:
    if asked is None:
        return {}
    effort = asked.effort
    if effort is None and asked.budget_tokens is not None:
        effort = next((word for most, word in _EFFORTS if asked.budget_tokens <= most), "high")
    return {} if effort is None else {"effort": effort}


def merged(own: Raw | None, ours: dict[str, object]) -> dict[str, object]:
    """The caller's own object, with the fields in it that have neutral names put back."""
    return {**(_fields(own) if own is not None else {}), **ours}


def echo(r: Request) -> bytes:
    """What of the request a Response object repeats, as the fields of a JSON object."""
    tools: list[object] = [write_tool(t, own=True) for t in r.tools]
    if "tools" in r.extra:
        tools += _raws(r.extra["tools"])
    ours: dict[str, object] = {"format": write_format(r.format or Format())}
    fields: dict[str, object] = {
        "background": False,
        "instructions": None,
        "max_output_tokens": r.max_tokens,
        "max_tool_calls": None,
        "metadata": {},
        "parallel_tool_calls": r.parallel_tools is not False,
        "previous_response_id": r.extra.get("$previous_response_id"),
        "reasoning": merged(r.extra.get("reasoning"), write_effort(r.reasoning)) or {"effort": None, "summary": None},
        "store": True,
        "temperature": r.temperature,
        "text": merged(r.extra.get("text"), ours),
        "tool_choice": r.extra.get("tool_choice") or write_tool_choice(r) or "auto",
        "tools": tools,
        "top_logprobs": r.top_logprobs or 0,
        "top_p": r.top_p,
        "truncation": "disabled",
        "user": r.user,
    }
    for name in ("metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "truncation"):
        if name in r.extra:
            fields[name] = r.extra[name]
    return _encode(fields)[1:-1]
