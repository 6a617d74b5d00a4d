"""An OpenAI Responses request as a neutral one.

Items of the assistant that follow each other are one message of the assistant. What has no neutral name stays raw: an
item or a part as `Opaque`, a field in `extra`; there `text`, `reasoning` and `tool_choice` keep only what `Request`
does not say. `call` undoes all this.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, field

from lilliput.neutral import (
    Format,
    Media,
    Message,
    Opaque,
    Part,
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
from lilliput.wire import families
from lilliput.wire.openai.media import from_link, read_media
from lilliput.wire.openai.request import NULL
from lilliput.wire.openai.types import Part as ChatPart
from lilliput.wire.openai.types import missing
from lilliput.wire.responses import types as wire
from lilliput.wire.responses.call import DIALECT, LOGPROBS

READ = frozenset(
    {
        *("model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens"),
        *("temperature", "top_p", "top_logprobs", "text", "reasoning", "user", "stream", "stream_options"),
    }
)
"""The fields that have a neutral name; every other one goes to `extra` as it is."""

_SEALED = "sealed:"
"""Stands before a sealed block of another family in `encrypted_content`, which holds that family's signatures too."""


class _RawItem(Struct):
    content: Raw = field(default_factory=Raw)


class _RawTool(Struct):
    parameters: Raw = field(default_factory=Raw)
    format: Raw = field(default_factory=Raw)


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_raw_item = msgspec.json.Decoder(_RawItem).decode
_raw_tool = msgspec.json.Decoder(_RawTool).decode
_encode = msgspec.json.Encoder().encode


def read_request(body: bytes, path: str = "") -> Request:
    """The request in `body`. Raises Problem (400) where `check` does, and for media that cannot be told apart."""
    b = wire.check(body)
    fields = _fields(body)
    extra = {name: raw for name, raw in fields.items() if name not in READ and bytes(raw) not in NULL}
    logprobs = LOGPROBS in (b.include or ()) or bool(b.top_logprobs)
    if b.include is not None and set(b.include) <= {LOGPROBS}:
        extra.pop("include", None)
    return Request(
        model=b.model,
        messages=_messages(b, fields.get("input", Raw(b"[]"))),
        dialect=DIALECT,
        tools=_tools(b, fields, extra),
        tool_choice=_tool_choice(b, fields, extra),
        parallel_tools=b.parallel_tool_calls,
        format=_format(b, fields, extra),
        max_tokens=b.max_output_tokens,
        temperature=b.temperature,
        top_p=b.top_p,
        logprobs=logprobs or None,
        top_logprobs=b.top_logprobs if logprobs else None,
        reasoning=_reasoning(b, fields, extra),
        user=b.user,
        stream=bool(b.stream),
        include_usage=True,
        extra=extra,
    )


def read_sealed(value: str) -> Thinking:
    """What `write_sealed` made, taken apart."""
    value, family = families.untagged(value, families.OPENAI)
    if family == families.OPENAI or value.startswith(_SEALED):
        return Thinking(sealed=value.removeprefix(_SEALED), family=family)
    return Thinking(signature=value, family=family)


def write_sealed(t: Thinking) -> str | None:
    """A signature or a sealed block of any family as `encrypted_content`; None without one."""
    if t.sealed is not None:
        native = t.family in (None, families.OPENAI)
        return families.tagged(t.sealed if native else _SEALED + t.sealed, t.family, families.OPENAI)
    return families.tagged(t.signature, t.family, families.OPENAI) if t.signature else None


# -- items -------------------------------------------------------------------------------------------------------


def _messages(b: wire.Body, raw: Raw) -> tuple[Message, ...]:
    out: list[Message] = []
    if b.instructions:
        out.append(Message("system", (Text(b.instructions),)))
    if isinstance(b.input, str):
        return (*out, Message("user", (Text(b.input),) if b.input else ()))
    said: list[Part] | None = None  # by the assistant, not yet a message
    for i, (item, as_it_came) in enumerate(zip(b.input or (), _raws(raw) if b.input else (), strict=True)):
        if item.type in wire.OUTPUTS or (item.type in (None, "message") and item.role != "assistant"):
            if said is not None:
                out.append(Message("assistant", tuple(said)))
                said = None
            out.append(_message(item, as_it_came, f"input[{i}]"))
        else:
            said = said or []
            said += _assistant(item, as_it_came, said)
    if said is not None:
        out.append(Message("assistant", tuple(said)))
    return tuple(out)


def _message(item: wire.Item, raw: Raw, at: str) -> Message:
    """A message that is not the assistant's, or what a tool gave back."""
    if item.type in wire.OUTPUTS:
        output = item.output
        if isinstance(output, dict):
            output = _encode(output).decode()
        parts = [p for p in _content(output, Raw(), f"{at}.output") if isinstance(p, Text | Media)]
        return Message("tool", (ToolResult(item.call_id or "", tuple(parts)),))
    role = "user" if item.role == "user" else "system"
    return Message(role, tuple(_content(item.content, raw, f"{at}.content")))  # type: ignore[arg-type]


def _assistant(item: wire.Item, raw: Raw, before: list[Part]) -> list[Part]:
    """The parts of one item; the seal of a Gemini call stands alone before it, and belongs into it."""
    if item.type in (None, "message"):
        return _content(item.content, raw, "input")
    if item.type == "reasoning":
        return _reasons(item)
    if item.type in wire.CALLS:
        signature = None
        last = before[-1] if before else None
        if isinstance(last, Thinking) and last.family == families.GEMINI and last.signature and not last.text:
            signature = last.signature
            before.pop()
        if item.type == "custom_tool_call":
            return [ToolCall(item.call_id or "", item.name or "", _text(item.input), "custom", signature)]
        return [ToolCall(item.call_id or "", item.name or "", _text(item.arguments), "function", signature)]
    return [Opaque(DIALECT, Raw(bytes(raw)))]


def _reasons(item: wire.Item) -> list[Part]:
    """Reasoning shown, then its seal; a seal of another family belongs to the text, not beside it."""
    content = item.content if isinstance(item.content, list) else ()
    text = "".join(s.text for s in item.summary or ()) + "".join(p.text or "" for p in content)
    if not item.encrypted_content:
        return [Thinking(text, family=families.OPENAI)] if text else []
    seal = read_sealed(item.encrypted_content)
    if seal.signature is not None:
        return [Thinking(text, seal.signature, None, seal.family)]
    return [Thinking(text, family=seal.family), seal] if text else [seal]


def _content(content: wire.Content | None, raw: Raw, at: str) -> list[Part]:
    """The parts of a content list; empty text is none, and a part of a type that is not known stays as it came."""
    if content is None or isinstance(content, str):
        return [Text(content)] if content else []
    out: list[Part] = []
    for k, p in enumerate(content):
        if p.type in ("input_text", "output_text", "text", ""):
            out += [Text(p.text)] if p.text else []
        elif p.type == "refusal":
            out += [Refusal(p.refusal)] if p.refusal else []
        elif (media := _media(p, f"{at}[{k}]")) is not None:
            out.append(media)
        elif bytes(raw):
            out.append(Opaque(DIALECT, Raw(bytes(_raws(_raw_item(raw).content)[k]))))
    return out


def _media(p: wire.Part, at: str) -> Media | None:
    if p.type == "input_image":
        if p.file_id is not None:
            return Media("image", file_id=p.file_id, detail=p.detail)
        return from_link("image", p.image_url or missing(f"{at}.image_url"), detail=p.detail)
    if p.type == "input_file":
        if p.file_id is not None:
            return Media("file", file_id=p.file_id, name=p.filename)
        link = p.file_data or p.file_url or missing(f"{at}.file_data")
        return from_link("file", link, name=p.filename)
    if p.type == "input_audio":
        return read_media(ChatPart(p.type, input_audio=p.input_audio), at)
    return None


def _text(value: str | dict[str, object] | None) -> str:
    return _encode(value).decode() if isinstance(value, dict) else value or ""


# -- the other fields --------------------------------------------------------------------------------------------


def _tools(b: wire.Body, fields: dict[str, Raw], extra: dict[str, Raw]) -> tuple[Tool, ...]:
    """The functions and custom tools; those of the provider's servers go to `extra["tools"]`, a JSON array."""
    if not b.tools:
        return ()
    out: list[Tool] = []
    others: list[Raw] = []
    for tool, raw in zip(b.tools, _raws(fields["tools"]), strict=True):
        if tool.type == "function":
            schema = None if tool.parameters is None else Raw(bytes(_raw_tool(raw).parameters))
            out.append(Tool(tool.name or "", tool.description, schema, tool.strict))
        elif tool.type == "custom":
            grammar = None if tool.format is None else Raw(bytes(_raw_tool(raw).format))
            out.append(Tool(tool.name or "", tool.description, kind="custom", grammar=grammar))
        else:
            others.append(raw)
    if others:
        extra["tools"] = Raw(_encode(others))
    return tuple(out)


def _tool_choice(b: wire.Body, fields: dict[str, Raw], extra: dict[str, Raw]) -> ToolChoice | None:
    c = b.tool_choice
    if isinstance(c, wire.ToolChoiceBody):
        if c.type in ("function", "custom") and c.name:
            return ToolChoice("named", c.name)
        extra["tool_choice"] = fields["tool_choice"]
        return ToolChoice("required") if c.type == "allowed_tools" and c.mode == "required" else None
    if c in ("auto", "none", "required"):
        return ToolChoice(c)  # type: ignore[arg-type]
    return None


def _format(b: wire.Body, fields: dict[str, Raw], extra: dict[str, Raw]) -> Format | None:
    if b.text is None:
        return None
    rest = _fields(fields["text"])
    raw = rest.pop("format", Raw())
    f = b.text.format
    schema = None if f is None or f.schema is None else Raw(bytes(_fields(raw)["schema"]))
    _keep("text", rest, extra)
    if f is None:
        return None
    if f.type == "json_schema":
        return Format("schema", schema, f.name, f.strict, f.description)
    return Format("json" if f.type == "json_object" else "text")


def _reasoning(b: wire.Body, fields: dict[str, Raw], extra: dict[str, Raw]) -> Reasoning | None:
    if b.reasoning is None:
        return None
    rest = _fields(fields["reasoning"])
    rest.pop("effort", None)
    _keep("reasoning", rest, extra)
    return Reasoning(b.reasoning.effort) if b.reasoning.effort is not None else None


def _keep(name: str, rest: dict[str, Raw], extra: dict[str, Raw]) -> None:
    """What of an object has no neutral name, if anything."""
    rest = {key: raw for key, raw in rest.items() if bytes(raw) not in NULL}
    if rest:
        extra[name] = Raw(_encode(rest))
