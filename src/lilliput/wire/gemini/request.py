"""A Gemini request as a neutral one.

What has no neutral name stays in `extra` under its dotted name, as `generationConfig.speechConfig`; `call`
puts it back. So do fields whose neutral form says less: `toolConfig`, `generationConfig.thinkingConfig`. `alt` there
says that the client wants a stream as an array, for it did not ask with `?alt=sse`.
"""

from __future__ import annotations

import base64
import binascii

import msgspec
from msgspec import Raw, Struct, field

from lilliput.neutral import (
    Format,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from lilliput.wire.families import GEMINI, untagged
from lilliput.wire.gemini import types as wire
from lilliput.wire.gemini.answer import media_kind
from lilliput.wire.gemini.schema import json_schema
from lilliput.wire.openai.media import URL_SAFE
from lilliput.wire.openai.request import NULL
from lilliput.wire.openai.types import typed

DIALECT = "gemini"
_READ = frozenset({"model", "contents", "systemInstruction", "generationConfig", "tools", "toolConfig"})
_GENERATION = frozenset(
    {
        *("candidateCount", "frequencyPenalty", "logprobs", "maxOutputTokens", "presencePenalty", "responseLogprobs"),
        *("seed", "stopSequences", "temperature", "topK", "topP"),
        *("responseJsonSchema", "responseMimeType", "responseSchema", "thinkingConfig"),
    }
)
"""The fields of `generationConfig` that have a neutral name."""
_MODES = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}
_WRAPPERS = ("result", "output", "content", "return_value", "error")


class _RawCall(Struct, gc=False):
    args: Raw = field(default_factory=Raw)


class _RawResponse(Struct, gc=False):
    response: Raw = field(default_factory=Raw)


class _RawPart(Struct, gc=False, rename="camel"):
    function_call: _RawCall | None = None
    function_response: _RawResponse | None = None


class _RawDeclaration(Struct, rename="camel"):
    parameters: Raw = field(default_factory=Raw)
    parameters_json_schema: Raw = field(default_factory=Raw)


class _RawTool(Struct, rename="camel"):
    function_declarations: list[_RawDeclaration] | None = None


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw]).decode
_raw_part = msgspec.json.Decoder(_RawPart).decode
_raw_tool = msgspec.json.Decoder(_RawTool).decode


def read_request(body: bytes, path: str) -> Request:
    """The request in `body`, its model in `path`. Raises Problem (400) where `check` does."""
    b, body = wire.parse(body)
    asked = wire.asked(path)
    return typed(lambda body: _request(b, body, asked), body)


def _request(b: wire.Body, body: bytes, asked: wire.Asked) -> Request:
    fields = _fields(body)
    extra = {name: raw for name, raw in fields.items() if name not in _READ and bytes(raw) not in NULL}
    if asked.stream and not asked.sse:
        extra["$alt"] = Raw(b'"json"')
    g = b.generation_config or wire.Generation()
    said = _fields(fields["generationConfig"]) if b.generation_config is not None else {}
    for name, raw in said.items():
        if name not in _GENERATION and bytes(raw) not in NULL:
            extra[f"generationConfig.{name}"] = raw
    return Request(
        model=asked.model,
        messages=_messages(b, fields),
        dialect=DIALECT,
        tools=_tools(b, fields, extra),
        tool_choice=_tool_choice(b, fields, extra),
        format=_format(g, said, extra),
        max_tokens=g.max_output_tokens,
        temperature=g.temperature,
        top_p=g.top_p,
        top_k=None if g.top_k is None else int(g.top_k),
        stop=tuple(g.stop_sequences or ()),
        seed=g.seed,
        n=g.candidate_count,
        presence_penalty=g.presence_penalty,
        frequency_penalty=g.frequency_penalty,
        logprobs=g.response_logprobs,
        top_logprobs=g.logprobs,
        reasoning=_reasoning(g.thinking_config, said, extra),
        stream=asked.stream,
        include_usage=True,
        extra=extra,
    )


# -- contents ----------------------------------------------------------------------------------------------------


class _Names(Struct):
    """Which calls wait for their answer: most carry no id, so the name tells, and then the order."""

    made: int = 0
    waiting: list[tuple[str, str]] = field(default_factory=list)  # (id, name)

    def call(self, c: wire.FunctionCall) -> str:
        call_id = c.id or f"call_{self.made}"
        self.made += 1
        self.waiting.append((call_id, c.name))
        return call_id

    def answer(self, f: wire.FunctionResponse) -> str:
        found = next((w for w in self.waiting if f.id and w[0] == f.id), None)
        if found is None and not f.id:
            found = next((w for w in self.waiting if w[1] == f.name), self.waiting[0] if self.waiting else None)
        if found is None:
            return f.id or f.name
        self.waiting.remove(found)
        return found[0]


def _messages(b: wire.Body, fields: dict[str, Raw]) -> tuple[Message, ...]:
    names = _Names()
    out: list[Message] = []
    if b.system_instruction is not None:
        parts, _ = _parts(b.system_instruction, fields["systemInstruction"], names)
        out += [Message("system", tuple(parts))] if parts else []
    contents = b.contents if isinstance(b.contents, list) else [b.contents]
    raws = _items(fields["contents"]) if isinstance(b.contents, list) else [fields["contents"]]
    for c, raw in zip(contents, raws, strict=True):
        parts, results = _parts(c, raw, names)
        out += [Message("tool", (r,)) for r in results]
        if parts and not isinstance(c, str) and c.role == "model":
            before = out.pop().parts if out and out[-1].role == "assistant" else ()
            out.append(Message("assistant", _joined(before, parts)))
        elif parts:
            out.append(Message("user", tuple(parts)))
    return tuple(out)


def _joined(before: tuple[Part, ...], parts: list[Part]) -> tuple[Part, ...]:
    """A model's turn with what follows it: SDKs keep a streamed answer as the turns and thoughts that came."""
    out = list(before)
    for p in parts:
        last = out[-1] if out else None
        if isinstance(p, Thinking) and isinstance(last, Thinking) and not (p.sealed or last.sealed or last.signature):
            out[-1] = Thinking(last.text + p.text, p.signature, None, p.family)
        else:
            out.append(p)
    return tuple(out)


def _parts(c: wire.Content | wire.Instruction | str, raw: Raw, names: _Names) -> tuple[list[Part], list[ToolResult]]:
    if isinstance(c, str):
        return [Text(c)] if c else [], []
    if c.parts is None:
        return [], []
    inside = _fields(raw)["parts"]
    is_list = isinstance(c.parts, list)
    parts = c.parts if isinstance(c.parts, list) else [c.parts]
    out: list[Part] = []
    results: list[ToolResult] = []
    for p, raw_part in zip(parts, _items(inside) if is_list else [inside], strict=True):
        if p.function_response is not None:
            results.append(_result(p.function_response, raw_part, names))
        else:
            out += _part(p, raw_part, names)
    return out, results


def _part(p: wire.Part, raw: Raw, names: _Names) -> list[Part]:
    media = _media(p)
    if p.function_call is not None:
        args = _raw_part(raw).function_call
        text = bytes(args.args).decode() if args is not None and bytes(args.args) not in NULL else ""
        call = p.function_call
        return [ToolCall(names.call(call), call.name, text, "function", p.thought_signature or None)]
    signed: list[Part] = [_signed("", p.thought_signature)] if p.thought_signature else []
    if p.thought:
        return [_signed(p.text or "", p.thought_signature)]
    if p.text is not None:
        return [*([Text(p.text)] if p.text else []), *signed]
    if media is not None:
        return [media, *signed]
    return signed if set(_fields(raw)) <= {"thoughtSignature", "thought"} else [Opaque(DIALECT, Raw(bytes(raw)))]


def _signed(text: str, signature: str | None) -> Thinking:
    """A thought with its signature, or the sealed block that `seal` put into one."""
    value, family = _unsealed(signature or "")
    if family == GEMINI:
        return Thinking(text, value or None, None, GEMINI)
    kind, _, value = value.partition(":")
    return Thinking(text, None, value, family) if kind == "sealed" else Thinking(text, value, None, family)


def _unsealed(signature: str) -> tuple[str, str]:
    try:
        value, family = untagged(base64.b64decode(signature.translate(URL_SAFE), validate=True).decode(), GEMINI)
    except (binascii.Error, ValueError):
        return signature, GEMINI
    return (signature, GEMINI) if family == GEMINI else (value, family)


def _media(p: wire.Part | wire.ResultPart) -> Media | None:
    if p.inline_data is not None:
        blob = p.inline_data
        data = (blob.data or "").translate(URL_SAFE)
        return Media(media_kind(blob.mime_type), mime=blob.mime_type, data=data, name=blob.display_name)
    if p.file_data is not None:
        blob = p.file_data
        return Media(media_kind(blob.mime_type), mime=blob.mime_type, url=blob.file_uri or "", name=blob.display_name)
    return None


def _result(f: wire.FunctionResponse, raw: Raw, names: _Names) -> ToolResult:
    response = _raw_part(raw).function_response
    text, is_error = _result_text(response.response if response is not None else Raw())
    media = [m for m in map(_media, f.parts or ()) if m is not None]
    return ToolResult(names.answer(f), (*([Text(text)] if text else []), *media), f.name, is_error)


def _result_text(raw: Raw) -> tuple[str, bool]:
    """What a tool gave back as text: a lone text or list under one key stands for itself, the rest stays an object.

    A response is an object by rule, so the SDKs wrap what is none; the key `error` says that the call failed.
    """
    if bytes(raw) in NULL:
        return "", False
    fields = _fields(raw)
    if len(fields) == 1:
        name, value = next(iter(fields.items()))
        start = bytes(value)[:1]
        if start == b'"':
            return msgspec.json.decode(value, type=str), name == "error"
        if start in (b"[", b"{") or name in _WRAPPERS:
            return bytes(value).decode(), name == "error"
    return bytes(raw).decode(), False


# -- the other fields --------------------------------------------------------------------------------------------


def _tools(b: wire.Body, fields: dict[str, Raw], extra: dict[str, Raw]) -> tuple[Tool, ...]:
    """The functions; tools that Google runs itself go to `extra["tools"]`, a JSON array."""
    out: list[Tool] = []
    others: list[Raw] = []
    if b.tools is None:
        return ()
    bodies = b.tools if isinstance(b.tools, list) else [b.tools]
    raws = _items(fields["tools"]) if isinstance(b.tools, list) else [fields["tools"]]
    for body, raw in zip(bodies, raws, strict=True):
        for d, r in zip(body.function_declarations or (), _raw_tool(raw).function_declarations or (), strict=True):
            schema = None
            if d.parameters_json_schema is not None:
                schema = Raw(bytes(r.parameters_json_schema))
            elif d.parameters is not None:
                schema = json_schema(r.parameters)
            out.append(Tool(d.name, d.description, schema))
        rest = {name: value for name, value in _fields(raw).items() if name != "functionDeclarations"}
        if rest:
            others.append(Raw(msgspec.json.encode(rest)))
    if others:
        extra["tools"] = Raw(msgspec.json.encode(others))
    return tuple(out)


def _tool_choice(b: wire.Body, fields: dict[str, Raw], extra: dict[str, Raw]) -> ToolChoice | None:
    if b.tool_config is None:
        return None
    extra["toolConfig"] = fields["toolConfig"]
    calling = b.tool_config.function_calling_config
    if calling is None:
        return None
    mode = _MODES.get((calling.mode or "").upper())
    if mode == "required" and len(calling.allowed_function_names or ()) == 1:
        return ToolChoice("named", (calling.allowed_function_names or [""])[0])
    return ToolChoice(mode) if mode is not None else None  # type: ignore[arg-type]


def _format(g: wire.Generation, said: dict[str, Raw], extra: dict[str, Raw]) -> Format | None:
    if g.response_mime_type not in (None, "text/plain", "application/json"):
        for name in ("responseMimeType", "responseSchema", "responseJsonSchema"):
            if name in said:
                extra[f"generationConfig.{name}"] = said[name]
        return None
    if g.response_json_schema is not None:
        return Format("schema", Raw(bytes(said["responseJsonSchema"])))
    if g.response_schema is not None:
        return Format("schema", json_schema(said["responseSchema"]))
    return Format("json") if g.response_mime_type == "application/json" else None


def _reasoning(t: wire.ThinkingConfig | None, said: dict[str, Raw], extra: dict[str, Raw]) -> Reasoning | None:
    if t is None:
        return None
    extra["generationConfig.thinkingConfig"] = said["thinkingConfig"]
    if t.thinking_level:
        return Reasoning(t.thinking_level.lower())
    if t.thinking_budget == 0:
        return Reasoning("none")
    return Reasoning(budget_tokens=t.thinking_budget) if (t.thinking_budget or 0) > 0 else None
