"""An OpenAI chat request as a neutral one.

Where the wire has two spellings for one neutral field, the caller's own spelling also stays in `extra`, so that the
same dialect writes it back: `max_completion_tokens`, `functions`, `function_call`, `reasoning`, `thinking`, and the
forms of `tools`, `tool_choice`, `response_format` and `stop` (an empty list) that have no neutral name.
`call` undoes all this.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, field
from msgspec.structs import replace

from lilliput.neutral import (
    Cache,
    Format,
    Media,
    Message,
    Opaque,
    Part,
    Problem,
    Reasoning,
    Refusal,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from lilliput.wire.openai import types as wire
from lilliput.wire.openai.media import read_media

DIALECT = "openai_chat"
NULL = (b"", b"null")

READ = frozenset(
    {
        *("model", "messages", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
        *("response_format", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "seed"),
        *("n", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "user"),
        *("reasoning_effort", "reasoning", "thinking", "stream", "stream_options"),
    }
)
"""The fields that have a neutral name; every other one goes to `extra` as it is."""


_RESULTS = (wire.ToolMessage, wire.FunctionMessage)
_TEXTS = ("text", "input_text", "output_text", "")


class _RawMessage(Struct):
    content: Raw = field(default_factory=Raw)


class _RawFunction(Struct):
    parameters: Raw = field(default_factory=Raw)


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_raw_messages = msgspec.json.Decoder(list[_RawMessage]).decode


def read_request(body: bytes, path: str = "") -> Request:
    """The request in `body`. Raises Problem (400) where `check` does, and for media that cannot be told apart."""
    b = wire.check(body)
    try:
        fields = _fields(body.decode())
    except UnicodeDecodeError as e:
        say = f"the body is not UTF-8 (byte {e.start}); send JSON in UTF-8"
        raise Problem("client", say, code="invalid_json") from None
    return read_checked(b, fields)


def read_checked(b: wire.Body, fields: dict[str, Raw]) -> Request:
    """The request in a body that `check` has read, and in its fields."""
    extra: dict[str, Raw] = {}
    if not fields.keys() <= READ:
        extra = {name: raw for name, raw in fields.items() if name not in READ and bytes(raw) not in NULL}
    tools = _tools(b, fields, extra)
    max_tokens = b.max_tokens
    if b.max_completion_tokens is not None:
        max_tokens = b.max_completion_tokens
        extra["max_completion_tokens"] = fields["max_completion_tokens"]
    if b.stop == []:
        extra["stop"] = fields["stop"]
    options = b.stream_options
    return Request(
        model=b.model,
        messages=_messages(b.messages, fields["messages"]),
        dialect=DIALECT,
        tools=tools,
        tool_choice=_tool_choice(b, fields, extra),
        parallel_tools=b.parallel_tool_calls,
        format=_format(b.response_format, fields, extra),
        max_tokens=max_tokens,
        temperature=b.temperature,
        top_p=b.top_p,
        top_k=b.top_k,
        stop=(b.stop,) if isinstance(b.stop, str) else tuple(b.stop or ()),
        seed=b.seed,
        n=b.n,
        presence_penalty=b.presence_penalty,
        frequency_penalty=b.frequency_penalty,
        logprobs=b.logprobs,
        top_logprobs=b.top_logprobs,
        reasoning=_reasoning(b, fields, extra),
        user=b.user,
        stream=bool(b.stream),
        include_usage=bool(options and options.include_usage),
        extra=extra,
    )


def reasoning_in(
    effort: str | None, own: wire.ReasoningBody | None, thinking: wire.ThinkingBody | None
) -> Reasoning | None:
    """How hard to think: by OpenAI's word, OpenRouter's `reasoning`, Anthropic's `thinking`, the first that says."""
    budget = None
    if own is not None:
        effort, budget = effort or own.effort, own.max_tokens
    if thinking is not None:
        budget = budget if budget is not None else thinking.budget_tokens
        effort = effort or ("none" if thinking.type == "disabled" else None)
    return Reasoning(effort, budget) if effort is not None or budget is not None else None


# -- messages ----------------------------------------------------------------------------------------------------


def _messages(bodies: list[wire.MessageBody], raw: Raw) -> tuple[Message, ...]:
    raws: list[_RawMessage] = []
    legacy: dict[str, str] = {}  # function name -> id given to its latest call in the old form
    open_ids: list[str] = []  # calls that no message has answered yet
    out: list[Message] = []
    for i, m in enumerate(bodies):
        if isinstance(m, _RESULTS):
            out.append(Message("tool", (_result(m, f"messages[{i}].content", legacy, open_ids),)))
            continue
        content: list[Part]
        if isinstance(m.content, list):
            raws = raws or _raw_messages(raw)
            content = _content(m.content, raws[i].content, f"messages[{i}].content")
        else:
            content = [Text(m.content)] if m.content else []
        if isinstance(m, wire.Assistant):
            parts = _assistant(m, content, i, legacy)
            open_ids = [p.id for p in parts if isinstance(p, ToolCall)]
            out.append(Message("assistant", tuple(parts), m.name or None))
        else:
            out.append(Message("user" if isinstance(m, wire.User) else "system", tuple(content), m.name or None))
    return tuple(out)


def _result(
    m: wire.ToolMessage | wire.FunctionMessage, at: str, legacy: dict[str, str], open_ids: list[str]
) -> ToolResult:
    """What a tool gave back; an answer that names no call is the answer to the first open one."""
    name = None
    if isinstance(m, wire.FunctionMessage):
        call_id = legacy.get(m.name, f"call_{m.name}")
    else:
        call_id, name = m.tool_call_id or (open_ids[0] if open_ids else "call"), m.name or None
    if call_id in open_ids:
        open_ids.remove(call_id)
    return ToolResult(call_id, tuple(_result_parts(m.content, at)), name)


def _assistant(m: wire.Assistant, content: list[Part], i: int, legacy: dict[str, str]) -> list[Part]:
    """Thinking first, then what was said, then the calls: the order of the wire's fields."""
    thinking = [p for p in content if isinstance(p, Thinking)] or read_thinking(m)
    parts: list[Part] = [*thinking, *(p for p in content if not isinstance(p, Thinking))]
    if m.refusal:
        parts.append(Refusal(m.refusal))
    for j, call in enumerate(m.tool_calls or ()):
        parts.append(_tool_call(call, call.id or f"call_{i}_{j}"))
    if m.function_call is not None:
        legacy[m.function_call.name] = f"call_{i}"
        parts.append(ToolCall(f"call_{i}", m.function_call.name, _arguments(m.function_call.arguments)))
    return parts


def read_thinking(m: wire.Assistant) -> list[Thinking]:
    """The reasoning of an earlier turn; details win over plain text, which repeats them."""
    out = []
    for d in m.reasoning_details or ():
        text = d.text or d.summary or ""
        if text or d.signature or d.data:
            out.append(Thinking(text, d.signature or None, d.data or None, d.format or None))
    plain = m.reasoning_content or m.reasoning
    return out or ([Thinking(plain)] if plain else [])


def _content(content: list[wire.Part], raw: Raw, at: str) -> list[Part]:
    """The parts of a message; empty text is none, and a part of a type that is not known stays as it came."""
    out: list[Part] = []
    raws: list[Raw] = []
    for k, p in enumerate(content):
        if p.type in _TEXTS and (p.type or p.text):
            out += [Text(p.text, _cache(p.cache_control))] if p.text else []
        elif p.type == "refusal":
            out += [Refusal(p.refusal)] if p.refusal else []
        elif p.type == "thinking" and p.thinking:
            text = p.thinking if isinstance(p.thinking, str) else "".join(t.text or "" for t in p.thinking)
            out += [Thinking(text)] if text else []
        else:
            media = _media(p, f"{at}[{k}]")
            raws = raws if raws or media else _raws(raw)
            out.append(media or Opaque(DIALECT, Raw(bytes(raws[k]))))
    return out


def _media(p: wire.Part, at: str) -> Media | None:
    media = read_media(p, at)
    return media if media is None or p.cache_control is None else replace(media, cache=_cache(p.cache_control))


def _cache(mark: wire.CacheControl | None) -> Cache | None:
    return None if mark is None else mark.ttl or "5m"


def _result_parts(content: wire.Content | None, at: str) -> list[Text | Media]:
    if content is None or isinstance(content, str):
        return [Text(content)] if content else []
    out: list[Text | Media] = []
    for k, p in enumerate(content):
        media = _media(p, f"{at}[{k}]")
        if media is not None:
            out.append(media)
        elif p.text:
            out.append(Text(p.text, _cache(p.cache_control)))
    return out


def _tool_call(call: wire.ToolCallBody, call_id: str) -> ToolCall:
    if call.custom is not None and (call.type == "custom" or call.function is None):
        return ToolCall(call_id, call.custom.name, call.custom.input or "", "custom")
    assert call.function is not None  # `check` has seen to it
    google = call.extra_content.google if call.extra_content is not None else None
    signature = google.thought_signature if google is not None else None
    return ToolCall(call_id, call.function.name, _arguments(call.function.arguments), "function", signature)


def _arguments(arguments: str | dict[str, object] | None) -> str:
    if isinstance(arguments, dict):
        return msgspec.json.encode(arguments).decode()
    return arguments or ""


# -- the other fields --------------------------------------------------------------------------------------------


def _tools(b: wire.Body, fields: dict[str, Raw], extra: dict[str, Raw]) -> tuple[Tool, ...]:
    """Functions and custom tools; those of other types go to `extra["tools"]`, a JSON array."""
    out: list[Tool] = []
    if b.tools:
        others = []
        for tool, raw in zip(b.tools, _raws(fields["tools"]), strict=True):
            if tool.custom is not None:
                grammar = None if tool.custom.format is None else _inside(raw, "custom", "format")
                name, say = tool.custom.name, tool.custom.description
                out.append(Tool(name, say, cache=_cache(tool.cache_control), kind="custom", grammar=grammar))
            elif tool.function is None:
                others.append(bytes(raw))
            else:
                parameters = _inside(raw, "function", "parameters")
                out.append(_tool(tool.function, parameters, _cache(tool.cache_control)))
        if others:
            extra["tools"] = Raw(b"[" + b",".join(others) + b"]")
    if b.functions:
        raws = msgspec.json.decode(fields["functions"], type=list[_RawFunction])
        out += [_tool(f, r.parameters) for f, r in zip(b.functions, raws, strict=True)]
        extra["functions"] = Raw(b"[]")
    return tuple(out)


def _tool(f: wire.Function, parameters: Raw, cache: Cache | None = None) -> Tool:
    schema = None if f.parameters is None else Raw(bytes(parameters))
    return Tool(f.name, f.description, schema, f.strict, cache)


def _inside(raw: Raw, *path: str) -> Raw:
    """The value at `path` of a JSON object, which `check` has found there."""
    for name in path:
        raw = _fields(raw).get(name, Raw())
    return Raw(bytes(raw))


def _tool_choice(b: wire.Body, fields: dict[str, Raw], extra: dict[str, Raw]) -> ToolChoice | None:
    c = b.tool_choice
    if c is None and b.function_call is not None:
        extra["function_call"] = fields["function_call"]
        if isinstance(b.function_call, wire.Name):
            return ToolChoice("named", b.function_call.name)
        return ToolChoice(b.function_call)
    if c is None:
        return None
    if isinstance(c, wire.ToolChoiceBody):
        if c.function is not None or c.custom is not None:
            return ToolChoice("named", (c.function or c.custom).name)  # type: ignore[union-attr]
        extra["tool_choice"] = fields["tool_choice"]
        return None
    return ToolChoice("required" if c == "any" else c)


def _format(f: wire.ResponseFormat | None, fields: dict[str, Raw], extra: dict[str, Raw]) -> Format | None:
    if f is None:
        return None
    if f.type == "text":
        return Format("text")
    raw = fields["response_format"]
    if f.type == "json_schema" and f.json_schema is not None:
        s = f.json_schema
        of = None if s.schema is None else _inside(raw, "json_schema", "schema")
        return Format("schema", of, s.name, s.strict, s.description)
    schema = _fields(raw).get("schema", Raw())
    if f.type == "json_object" and bytes(schema) in NULL:
        return Format("json")
    extra["response_format"] = raw
    if f.type == "json_object":  # Together's, Fireworks' and llama.cpp's own spelling of a schema
        return Format("schema", Raw(bytes(schema)))
    return None


def _reasoning(b: wire.Body, fields: dict[str, Raw], extra: dict[str, Raw]) -> Reasoning | None:
    for name, value in (("reasoning", b.reasoning), ("thinking", b.thinking)):
        if value is not None:
            extra[name] = fields[name]
    return reasoning_in(b.reasoning_effort, b.reasoning, b.thinking)
