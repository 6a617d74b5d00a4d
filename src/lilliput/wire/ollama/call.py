"""A neutral request as the body of Ollama's own chat (docs.ollama.com/api/chat, checked 2026-11-22)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec
from msgspec import Raw

from lilliput.neutral import (
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
    ToolCall,
    ToolResult,
)
from lilliput.wire.cohere.call import (
    REFUSED,
    arguments,
    no_place,
    note,
    note_message,
    note_result,
    own_fields,
    sent,
    thoughts,
    write_function,
)
from lilliput.wire.openai import address as openai_endpoint
from lilliput.wire.port import Headers

DIALECT = "ollama"

SUPPORT: Mapping[str, str] = MappingProxyType(
    {
        "n": "dropped: there is one answer",
        "user": "dropped",
        "tools.strict": "dropped: arguments are not held to their schema",
        "tools.custom": "approximated: a function with one text argument, input",
        "tool_choice": "approximated: none sends no tools, a named tool goes alone, required is dropped",
        "parallel_tool_calls": "dropped: the model decides",
        "reasoning_effort": "approximated: a level for gpt-oss models, on or off for others",
        "reasoning_budget": "approximated: thinking is on",
        "messages.name": "dropped",
        "messages.thinking_signature": "dropped: the text goes without it",
        "messages.tool_result_error": "dropped: only the text tells",
        "messages.refusal": "approximated: plain text",
        "messages.other": "dropped",
        "image.detail": "dropped",
        **dict.fromkeys(("image_url", "audio", "audio_url", "video", "video_url"), REFUSED),
        **dict.fromkeys(("file", "file_url", "file_id"), REFUSED),
        "cache_control": "dropped: caching is the provider's own affair",
    }
)

OWN = frozenset({"options", "keep_alive", "think", "truncate", "shift"})
"""Fields of Ollama's own: a caller of any dialect who writes one means it."""

CONTEXT_TOKENS = 4096
"""What fits when a request does not say `num_ctx`. What does not is cut off in silence: hence `truncate` is false."""
_ANSWER_TOKENS = 2048
_MOST_ANSWER_TOKENS = 16_384
_IMAGE_TOKENS = 2048
_BYTES_A_TOKEN = 3
_LEVELS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


def endpoint(target: Target, stream: bool) -> tuple[str, Headers]:
    return openai_endpoint.endpoint(target, "/api/chat")


def write_body(r: Request, target: Target) -> Sent:
    """The body that asks `target` what `r` asks; raises Problem (400) for media other than images as data."""
    dropped: dict[str, None] = {}
    fields: dict[str, object] = {"messages": _messages(r.messages, dropped)}
    choice = r.tool_choice
    tools = () if choice is not None and choice.mode == "none" else r.tools
    if choice is not None and choice.mode in ("required", "named") and tools:
        dropped["tool_choice"] = None
        tools = tuple(t for t in tools if t.name == choice.name) or tools
    if tools:
        fields["tools"] = [write_function(t, dropped) for t in tools]
        note(dropped, parallel_tool_calls=r.parallel_tools is not None)
        if any(t.strict is not None for t in tools):
            dropped["tools.strict"] = None
    return body(r, target, fields, dropped)


def body(
    r: Request,
    target: Target,
    fields: dict[str, object],
    dropped: dict[str, None],
    dialect: str = DIALECT,
    own_names: frozenset[str] = OWN,
) -> Sent:
    """`fields`, which hold the prompt, with all that chat and generate have in common."""
    if r.format is not None and r.format.kind != "text":
        fields["format"] = "json" if r.format.schema is None else r.format.schema
    if r.reasoning is not None:
        fields["think"] = _think(r.reasoning, target.model, dropped)
    if r.logprobs is not None:
        fields["logprobs"] = r.logprobs
    if r.top_logprobs is not None:
        fields["top_logprobs"] = r.top_logprobs
    note(dropped, n=r.n not in (None, 1), user=r.user)
    own = own_fields(r, dialect, own_names, dropped)
    options = _options(r, own.get("options"))
    prompt = {name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    context_tokens = _context_tokens(r, sum(len(bytes(raw)) for raw in prompt.values()))
    if context_tokens > CONTEXT_TOKENS:
        options.setdefault("num_ctx", context_tokens)
    fields = {"model": target.model, "truncate": False, **prompt, "stream": r.stream}
    if options:
        fields["options"] = options
    fields |= {name: own[name] for name in ("think", "truncate") if name in own}
    return sent(fields, own, target, dropped)


def _options(r: Request, own: Raw | None) -> dict[str, object]:
    """The sampling parameters; the caller's own `options` win."""
    out: dict[str, object] = {
        "num_predict": r.max_tokens,
        "temperature": r.temperature,
        "top_p": r.top_p,
        "top_k": r.top_k,
        "seed": r.seed,
        "stop": r.stop if r.stop or "stop" in r.extra else None,  # an empty list undoes the model's own
        "presence_penalty": r.presence_penalty,
        "frequency_penalty": r.frequency_penalty,
    }
    out = {name: value for name, value in out.items() if value is not None}
    if own is not None:
        try:
            out |= msgspec.json.decode(own, type=dict[str, Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            say = "options is no JSON object; write it as {} with Ollama's parameters"
            raise Problem("client", say, code="invalid_type", param="options") from None
    return out


def _context_tokens(r: Request, prompt_bytes: int) -> int:
    """The power of two that holds prompt and answer, the prompt counted from its size and rather too long.

    Powers of two, for each new size makes Ollama load the model again.
    """
    parts = [q for m in r.messages for p in m.parts for q in (p.parts if isinstance(p, ToolResult) else (p,))]
    images = [len(p.data or "") for p in parts if isinstance(p, Media)]
    text_bytes = prompt_bytes - sum(images)
    answer = min(_ANSWER_TOKENS if r.max_tokens is None else r.max_tokens, _MOST_ANSWER_TOKENS)
    return 1 << (text_bytes // _BYTES_A_TOKEN + len(images) * _IMAGE_TOKENS + answer).bit_length()


# -- messages ----------------------------------------------------------------------------------------------------


def _messages(messages: Iterable[Message], dropped: dict[str, None]) -> list[dict[str, object]]:
    out: list[dict[str, object]] = []
    names: dict[str, str] = {}
    for m in messages:
        for p in m.parts:
            if isinstance(p, ToolResult):
                note_result(p, dropped)
                dropped.pop("messages.tool_result_media", None)  # images have a place on every message
                name = p.name or names.get(p.call_id)
                named = {} if name is None else {"tool_name": name}
                out.append({"role": "tool", **content(p.parts, dropped), **named, "tool_call_id": p.call_id})
        if m.role == "tool":
            continue
        note_message(m, dropped)
        said = content(m.parts, dropped)
        if m.role == "assistant":
            calls = [p for p in m.parts if isinstance(p, ToolCall)]
            names |= {p.id: p.name for p in calls}
            thinking = "\n".join(thoughts(m, dropped))
            more = {"thinking": thinking or None, "tool_calls": [_tool_call(p, dropped) for p in calls] or None}
            out.append({"role": m.role, **said, **{name: value for name, value in more.items() if value}})
        elif said != {"content": ""} or not any(isinstance(p, ToolResult) for p in m.parts):
            out.append({"role": m.role, **said})
    return out


def content(parts: Iterable[object], dropped: dict[str, None]) -> dict[str, object]:
    """One text, and the images beside it."""
    texts, images = [], []
    for p in parts:
        if isinstance(p, Text | Refusal) and p.text:
            texts.append(p.text)
        elif isinstance(p, Media):
            if p.kind != "image" or p.data is None:
                raise no_place(p, "Ollama takes only images, as data")
            if p.detail is not None:
                dropped["image.detail"] = None
            images.append(p.data)
        elif isinstance(p, Opaque):
            dropped["messages.other"] = None
    said: dict[str, object] = {"content": "\n".join(texts)}
    return {**said, "images": images} if images else said


def _tool_call(p: ToolCall, dropped: dict[str, None]) -> dict[str, object]:
    """Arguments are an object here; text that is none goes as a custom tool's does, lest the conversation end."""
    raw = arguments(p, dropped).encode()
    try:
        value = msgspec.json.decode(raw, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        value = {"input": p.arguments}
    return {"id": p.id, "function": {"name": p.name, "arguments": value}}


# -- the other fields --------------------------------------------------------------------------------------------


def _think(asked: Reasoning, model: str, dropped: dict[str, None]) -> bool | str:
    """Only gpt-oss takes levels in every version; others refuse them (ollama/ollama#12561)."""
    if asked.effort == "none":
        return False
    if asked.budget_tokens is not None:
        dropped["reasoning_budget"] = None
    level = _LEVELS.get(asked.effort or "") if "gpt-oss" in model else None
    if asked.effort is not None and asked.effort != level:
        dropped["reasoning_effort"] = None
    return level or True
