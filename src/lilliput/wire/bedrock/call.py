"""A neutral request as the body of Amazon Bedrock's Converse (botocore 1.44.5's service model, checked 2026-11-22)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from lilliput.neutral import (
    Cache,
    Format,
    Media,
    Message,
    Part,
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
from lilliput.wire.anthropic import call as anthropic_call
from lilliput.wire.anthropic.call import version_of as claude_version
from lilliput.wire.anthropic.schema import narrowed
from lilliput.wire.bedrock.media import Documents, write_media
from lilliput.wire.custom_tools import as_function, call_as_function
from lilliput.wire.openai import address as openai_endpoint
from lilliput.wire.port import Headers

SUPPORT = {
    "temperature": "approximated: at most 1; dropped where Claude refuses it",
    "top_p": "dropped where Claude refuses it",
    "top_k": "dropped except for Anthropic's, Amazon's, Cohere's and Mistral's models",
    "seed": "dropped",
    "n": "dropped: there is one answer",
    "presence_penalty": "dropped",
    "frequency_penalty": "dropped",
    "logprobs": "dropped",
    "top_logprobs": "dropped",
    "user": "dropped",
    "tools": "approximated: without any, those that earlier calls name are declared, since calls need them",
    "tools.strict": "dropped for Claude before 4.5, which has no strict tools",
    "tools.custom": "approximated: a function with one text argument, input",
    "tool_choice": "approximated: for none, tools that no earlier call needs are left out; dropped without tools",
    "parallel_tool_calls": "dropped except for Claude since 4.5 where no tool is forced",
    "response_format.json_object": "dropped",
    "response_format.json_schema": "approximated: keywords that Claude refuses move into the description",
    "reasoning_effort": "approximated: a budget or a word, as the model takes it; dropped where it takes none",
    "reasoning_budget": "dropped except for Anthropic's models; for Claude 4.7 and later an effort",
    "messages.name": "dropped",
    "messages.thinking": "dropped except that what Anthropic signed goes to Anthropic's models",
    "messages.thinking_signature": "dropped except that what Anthropic signed goes to Anthropic's models",
    "messages.tool_result_error": "dropped except for Anthropic's and Amazon's models",
    "messages.refusal": "approximated: plain text",
    "messages.other": "dropped",
    "image_url": "dropped: refused with 400, but for s3://",
    "image.detail": "dropped",
    "audio_url": "dropped: refused with 400, but for s3://",
    "video_url": "dropped: refused with 400, but for s3://",
    "file_url": "dropped: refused with 400, but for s3://",
    "file_id": "dropped: refused with 400",
    "cache_control": "dropped except for Anthropic's models, and Amazon's prompts for five minutes",
}

_MAKERS = frozenset(
    {
        *("ai21", "amazon", "anthropic", "cohere", "deepseek", "google", "meta", "minimax", "mistral", "moonshot"),
        *("moonshotai", "nvidia", "openai", "qwen", "writer", "zai"),
    }
)
_ANY_OBJECT = Raw(b'{"type":"object","properties":{}}')
_SPELLINGS = frozenset(
    {
        *("stream_options", "store", "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
        *("max_completion_tokens", "functions", "function_call", "reasoning", "thinking", "stop", "output_config"),
    }
)
"""Fields in `extra` that change nothing in the answer, or whose meaning the request has under its neutral name."""

_object = msgspec.json.Decoder(dict[str, Raw]).decode
Block = dict[str, object]


def maker(model: str) -> str:
    """Who made a model, by its id, inference profile or ARN; "" where that does not tell."""
    words = model.rpartition("/")[2].split(".")
    return next((word for word in words if word in _MAKERS), "")


def endpoint(target: Target, stream: bool) -> tuple[str, Headers]:
    """Where Converse is called; a signature for `target.aws` is the caller's to add (see `sigv4`)."""
    return at(target, "converse-stream" if stream else "converse")


def at(target: Target, operation: str) -> tuple[str, Headers]:
    """The URL of one operation on the target's model, in AWS's own encoding, and its headers."""
    url, headers = openai_endpoint.endpoint(target, f"/model/{quote(target.model, safe='')}/{operation}")
    # InvokeModel takes `accept` for the model's own form (botocore 1.44.5); the SDKs send none.
    return url, tuple(pair for pair in headers if pair[0] != "accept")


def write_body(r: Request, target: Target) -> Sent:
    """The body that asks `target` what `r` asks; raises Problem (400) for media that Bedrock cannot be sent."""
    fields, dropped = write_fields(r, target)
    raws = {name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    return Sent(msgspec.json.encode(quirks.apply(raws, target)), (*dropped, *quirks.dropped(raws, target)))


def write_fields(r: Request, target: Target) -> tuple[dict[str, object], tuple[str, ...]]:
    """The body's fields, and what of `r` has no place among them."""
    w = _Messages(target.model)
    fields = w.write(r.messages)
    tools = _tools(r, w)
    if tools:
        fields["toolConfig"] = tools
    is_claude = w.maker == "anthropic"
    inference, more = _of_claude(r, target, w) if is_claude else _of_others(r, target.model, w)
    if r.parallel_tools is False and tools:
        if is_claude and not w.is_old_claude and "toolChoice" not in tools:  # it conflicts with one (litellm#36536)
            more["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
        else:
            w.lose("parallel_tool_calls")
    if r.stop or "stop" in r.extra:
        inference["stopSequences"] = r.stop
    if inference:
        fields["inferenceConfig"] = inference
    if r.format is not None and r.format.kind != "text":
        fields |= _format(r.format, w)
    if more:
        fields["additionalModelRequestFields"] = more
    lose_fields(r, w.dropped)
    return fields, tuple(w.dropped)


def lose_fields(r: Request, dropped: dict[str, None]) -> None:
    """Names the fields of `r` that no model on Bedrock is asked."""
    if r.n not in (None, 1):
        dropped["n"] = None
    for name in ("seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "user"):
        if getattr(r, name) not in (None, False):
            dropped[name] = None
    known = {"response_format": r.format, "tool_choice": r.tool_choice}
    for name in r.extra:
        if name not in _SPELLINGS and known.get(name) is None:
            dropped[name] = None


# -- messages ----------------------------------------------------------------------------------------------------


class _Messages:
    """Messages for one model; `dropped` names what has no place there."""

    def __init__(self, model: str) -> None:
        self.maker = maker(model)
        self.is_old_claude = self.maker == "anthropic" and (claude_version(model) or (4, 5)) < (4, 5)
        self.dropped: dict[str, None] = {}
        self._documents = Documents()

    def lose(self, name: str) -> None:
        self.dropped[name] = None

    def write(self, messages: Iterable[Message]) -> dict[str, object]:
        """`system` and `messages`: turns of one side in a row become one, and empty ones none."""
        system: list[Block] = []
        turns: list[dict[str, object]] = []
        last: list[Block] = []
        for m in messages:
            if m.name is not None:
                self.lose("messages.name")
            blocks = [block for part in m.parts for block in self._blocks(part)]
            role = "assistant" if m.role == "assistant" else "user"
            if m.role == "system":
                system += _only_text(blocks)
            elif turns and turns[-1]["role"] == role:
                last += blocks
            elif blocks:
                last = blocks
                turns.append({"role": role, "content": last})
        return {"messages": turns, **({"system": system} if system else {})}

    def cache(self, cache: Cache | None, in_tools: bool = False) -> list[Block]:
        """The mark that asks to keep the prompt up to here."""
        if cache is None:
            return []
        if self.maker != "anthropic" and (self.maker != "amazon" or in_tools or cache != "5m"):
            self.lose("cache_control")
            return []
        return [{"cachePoint": {"type": "default"} if cache == "5m" else {"type": "default", "ttl": cache}}]

    def _blocks(self, p: Part) -> list[Block]:
        if isinstance(p, Text):
            return [{"text": p.text}, *self.cache(p.cache)] if p.text.strip() else []  # a blank text is refused
        if isinstance(p, Media):
            return [self._media(p), *self.cache(p.cache)]
        if isinstance(p, Thinking):
            return self._thinking(p)
        if isinstance(p, ToolCall):
            call = call_as_function(p)
            use = {"toolUseId": _tool_id(p.id), "name": p.name, "input": _arguments(call.arguments)}
            if p.signature:
                self.lose("messages.thinking_signature")
            return [{"toolUse": use}, *self.cache(p.cache)]
        if isinstance(p, ToolResult):
            return self._result(p)
        if isinstance(p, Refusal):
            self.lose("messages.refusal")
            return [{"text": p.text}] if p.text.strip() else []
        self.lose("messages.other")
        return []

    def _media(self, m: Media) -> Block:
        if m.detail is not None:
            self.lose("image.detail")
        return write_media(m, self._documents)

    def _thinking(self, t: Thinking) -> list[Block]:
        """Reasoning goes back to the family that signed or sealed it alone: others refuse it."""
        if t.family == families.ANTHROPIC and self.maker == "anthropic":
            if t.sealed is not None:
                return [{"reasoningContent": {"redactedContent": t.sealed.encode()}}]
            if t.signature:
                return [{"reasoningContent": {"reasoningText": {"text": t.text, "signature": t.signature}}}]
        if t.signature or t.sealed:
            self.lose("messages.thinking_signature")
        if t.text:
            self.lose("messages.thinking")
        return []

    def _result(self, p: ToolResult) -> list[Block]:
        content: list[Block] = []
        marks = self.cache(p.cache)
        for part in p.parts:
            if isinstance(part, Media):
                content.append(self._media(part))
            elif part.text.strip():
                content.append({"text": part.text})
            marks = marks or self.cache(part.cache)  # a mark has no place inside the result
        result: Block = {"toolUseId": _tool_id(p.call_id), "content": content}
        if p.is_error and self.maker in ("anthropic", "amazon"):
            result["status"] = "error"
        elif p.is_error:
            self.lose("messages.tool_result_error")
        return [{"toolResult": result}, *marks]


def _only_text(blocks: list[Block]) -> list[Block]:
    if any("text" not in block and "cachePoint" not in block for block in blocks):
        raise Problem("client", "a system message for Amazon Bedrock holds text alone; move the rest to a user message")
    return blocks


def _tool_id(id: str) -> str:
    """`id` as Bedrock takes it: letters, digits and `_.:-`, at most 64."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.:-") else "_" for c in id)[-64:]


def _arguments(text: str) -> Raw:
    """A call's arguments as the object that must stand there; what is none goes under `input`."""
    try:
        _object(text or "{}")
    except (msgspec.MsgspecError, RecursionError):
        return Raw(msgspec.json.encode({"input": text}))
    return Raw((text or "{}").encode())


# -- the other fields --------------------------------------------------------------------------------------------


def _tools(r: Request, w: _Messages) -> dict[str, object]:
    """`toolConfig`: history with calls needs one, and Bedrock has no word for no call at all."""
    called = {p.name: None for m in r.messages for p in m.parts if isinstance(p, ToolCall)}
    tools = r.tools
    mode = r.tool_choice.mode if r.tool_choice is not None else "auto"
    if mode == "none" and tools:
        w.lose("tool_choice")
        tools = tools if called else ()
    elif called and not tools:
        w.lose("tools")
        tools = tuple(Tool(name) for name in called)
    if not tools:
        if mode in ("required", "named"):
            w.lose("tool_choice")
        return {}
    config: dict[str, object] = {"tools": [entry for tool in tools for entry in _tool(tool, w)]}
    if mode == "required":
        config["toolChoice"] = {"any": {}}
    elif r.tool_choice is not None and mode == "named":
        config["toolChoice"] = {"tool": {"name": r.tool_choice.name}}
    return config


def _tool(t: Tool, w: _Messages) -> list[Block]:
    if t.kind == "custom":
        w.lose("tools.custom")
    schema = as_function(t).schema or _ANY_OBJECT
    spec: Block = {"name": t.name, "inputSchema": {"json": schema}}
    if t.description:
        spec["description"] = t.description
    if t.strict and w.is_old_claude:
        w.lose("tools.strict")
    elif t.strict:
        spec["strict"] = True
        if w.maker == "anthropic":
            spec["inputSchema"] = {"json": narrowed(schema)}
    return [{"toolSpec": spec}, *w.cache(t.cache, in_tools=True)]


def _format(f: Format, w: _Messages) -> dict[str, object]:
    if f.schema is None:
        w.lose("response_format.json_object")
        return {}
    raw = narrowed(f.schema) if w.maker == "anthropic" else f.schema
    if bytes(raw) != bytes(f.schema):
        w.lose("response_format.json_schema")
    schema = {"schema": bytes(raw).decode(), "name": f.name, "description": f.description}
    named = {name: value for name, value in schema.items() if value}
    return {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": named}}}}


def _of_claude(r: Request, target: Target, w: _Messages) -> tuple[Block, Block]:
    """`inferenceConfig` and what Converse passes on, by the rules of Anthropic's own dialect."""
    calls = [[p for p in m.parts if isinstance(p, Thinking | ToolCall)] for m in r.messages if m.role == "assistant"]
    last = tuple(Message("assistant", tuple(parts)) for parts in calls[-1:])
    extra = {name: raw for name, raw in r.extra.items() if name in ("thinking", "output_config")}
    if "output_config" in extra:  # its format goes into `outputConfig`
        config = {name: raw for name, raw in _object(extra["output_config"]).items() if name != "format"}
        extra["output_config"] = Raw(msgspec.json.encode(config))
    fields, dropped = anthropic_call.write_fields(replace(r, messages=last, tools=(), format=None, extra=extra), target)
    for name in dropped:
        if name in ("temperature", "top_p", "top_k", "reasoning_effort", "reasoning_budget"):
            w.lose(name)
    inference: Block = {"temperature": fields.get("temperature"), "topP": fields.get("top_p")}
    if r.max_tokens is not None or b'"budget_tokens"' in bytes(fields.get("thinking", b"")):
        inference["maxTokens"] = fields["max_tokens"]
    more: Block = {name: fields.get(name) for name in ("top_k", "thinking", "output_config")}
    return _given(inference), _given(more)


def _of_others(r: Request, model: str, w: _Messages) -> tuple[Block, Block]:
    """`inferenceConfig`, and what the makers' models take under their own names."""
    temperature, more = r.temperature, Block()
    if temperature is not None and temperature > 1:
        temperature = 1
        w.lose("temperature")
    if r.top_k is not None and r.top_k > 0:
        if w.maker == "amazon":
            more["inferenceConfig"] = {"topK": r.top_k}
        elif w.maker in ("cohere", "mistral"):
            more["k" if w.maker == "cohere" else "top_k"] = r.top_k
        else:
            w.lose("top_k")
    if r.reasoning is not None:
        more |= _reasoning(r.reasoning, model, w)
    return _given({"maxTokens": r.max_tokens, "temperature": temperature, "topP": r.top_p}), more


def _reasoning(asked: Reasoning, model: str, w: _Messages) -> Block:
    if asked.budget_tokens is not None:
        w.lose("reasoning_budget")
    effort = asked.effort
    if effort is None:
        return {}
    if w.maker == "openai":
        return {"reasoning_effort": effort}
    if w.maker == "qwen":
        return {"reasoning_config": effort}
    if w.maker == "amazon" and "nova-2" in model:
        if effort not in ("none", "low", "medium", "high"):
            w.lose("reasoning_effort")
            effort = "low" if effort == "minimal" else "high"
        kind = {"type": "disabled"} if effort == "none" else {"type": "enabled", "maxReasoningEffort": effort}
        return {"reasoningConfig": kind}
    w.lose("reasoning_effort")
    return {}


def _given(fields: Block) -> Block:
    return {name: value for name, value in fields.items() if value is not None}
