"""An Anthropic Messages request as a neutral one.

What the neutral form cannot say exactly stays in `extra` beside its neutral reading, so that the same dialect writes
it back: `thinking`, an `output_config` with more than a format, `metadata` with more than a user, tools that run at
the provider. `call` undoes this.
"""

from __future__ import annotations

import base64

import msgspec
from msgspec import UNSET, Raw, Struct, field, structs

from lilliput.neutral import (
    Cache,
    Format,
    Media,
    MediaKind,
    Message,
    Opaque,
    Part,
    Problem,
    Reasoning,
    Request,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from lilliput.wire.anthropic import types as wire
from lilliput.wire.families import ANTHROPIC, GEMINI, untagged
from lilliput.wire.openai.types import Anything

DIALECT = "anthropic"
_NULL = (b"", b"null")

_READ = frozenset(
    {
        *("model", "messages", "max_tokens", "system", "stop_sequences", "stream", "temperature", "top_k", "top_p"),
        *("tool_choice", "tools", "thinking", "output_config", "output_format", "metadata"),
    }
)
"""The fields that have a neutral name; every other one goes to `extra` as it is."""
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
_PLAIN_THINKING = {"type", "budget_tokens"}


class _RawMessage(Struct):
    content: Raw = field(default_factory=Raw)


class _RawTool(Struct):
    input_schema: Raw = field(default_factory=Raw)


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_raw_messages = msgspec.json.Decoder(list[_RawMessage]).decode
_raw_tool = msgspec.json.Decoder(_RawTool).decode


def read_request(body: bytes, path: str = "") -> Request:
    """The request in `body`; raises Problem (400) where `check_count` does: max_tokens may be missing here."""
    b = wire.check_count(body)
    try:
        fields = _fields(body.decode())
    except UnicodeDecodeError as e:
        say = f"the body is not UTF-8 (byte {e.start}); send JSON in UTF-8"
        raise Problem("client", say, code="invalid_json") from None
    return read_checked(b, fields)


def read_checked(b: wire.Body, fields: dict[str, Raw]) -> Request:
    """The request in a body that `check` has read, and in its fields."""
    extra: dict[str, Raw] = {}
    if not fields.keys() <= _READ:
        extra = {name: raw for name, raw in fields.items() if name not in _READ and bytes(raw) not in _NULL}
    t = b.thinking
    known = {"format"} if t is not None and t.type == "disabled" else {"format", "effort"}
    for name, kept in (
        ("thinking", t is not None and (t.type == "adaptive" or _is_more(fields["thinking"], _PLAIN_THINKING))),
        ("output_config", b.output_config is not None and _is_more(fields["output_config"], known)),
        ("metadata", b.metadata is not None and _is_more(fields["metadata"], {"user_id"})),
    ):
        if kept:
            extra[name] = fields[name]
    c = b.tool_choice
    alone = c.disable_parallel_tool_use if c is not None else None
    return Request(
        model=b.model,
        messages=_messages(b, fields),
        dialect=DIALECT,
        tools=_tools(b, fields, extra),
        tool_choice=_tool_choice(c),
        parallel_tools=None if alone is None else not alone,
        format=_format(b, fields),
        max_tokens=b.max_tokens,
        temperature=b.temperature,
        top_p=b.top_p,
        top_k=b.top_k,
        stop=tuple(b.stop_sequences or ()),
        reasoning=_reasoning(b),
        user=b.metadata.user_id if b.metadata is not None else None,
        stream=bool(b.stream),
        include_usage=True,
        extra=extra,
    )


def _is_more(raw: Raw, known: set[str]) -> bool:
    return not _fields(raw).keys() <= known


# -- messages ----------------------------------------------------------------------------------------------------


def _messages(b: wire.Body, fields: dict[str, Raw]) -> tuple[Message, ...]:
    out: list[Message] = []
    if b.system:
        out.append(Message("system", tuple(_parts(b.system, fields["system"]))))
    raws: list[_RawMessage] = []
    for i, m in enumerate(b.messages):
        if isinstance(m.content, str):
            out.append(Message(_ROLES[m.role], (Text(m.content),) if m.content else ()))
            continue
        raws = raws or _raw_messages(fields["messages"])
        parts = _parts(m.content, raws[i].content)
        results = tuple(p for p in parts if isinstance(p, ToolResult))
        if results:
            out.append(Message("tool", results))
            parts = [p for p in parts if not isinstance(p, ToolResult)]
        if parts or not results:
            out.append(Message(_ROLES[m.role], tuple(parts)))
    return tuple(out)


def _parts(content: wire.Content, raw: Raw) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)] if content else []
    out: list[Part] = []
    raws: list[Raw] = []
    for k, b in enumerate(content):
        part = _part(b)
        if part is None:
            raws = raws or _raws(raw)
            part = Opaque(DIALECT, Raw(bytes(raws[k])))
        if isinstance(part, ToolCall) and out:
            before = out[-1]
            if isinstance(before, Thinking) and not before.text and before.family == GEMINI and before.signature:
                out[-1] = structs.replace(part, signature=before.signature)
                continue
        if not isinstance(part, Text) or part.text:
            out.append(part)
    return out


def _part(b: wire.Block) -> Part | None:
    """The part that a block says, None for one without neutral form."""
    cache = _cache(b.cache_control)
    if b.type == "text":
        return Text(b.text or "", cache)
    if b.type in ("image", "document"):
        return _media(b, cache)
    if b.type == "tool_use":
        return ToolCall(b.id or "", b.name or "", "{}" if b.input is UNSET else bytes(b.input).decode(), cache=cache)
    if b.type == "tool_result":
        return ToolResult(b.tool_use_id or "", _result_parts(b.content), None, bool(b.is_error), cache)
    if b.type == "thinking":
        signature, family = untagged(b.signature or "", ANTHROPIC)
        return Thinking(b.thinking or "", signature or None, None, family if b.signature else None)
    if b.type == "redacted_thinking":
        sealed, family = untagged(b.data or "", ANTHROPIC)
        return Thinking("", None, sealed, family)
    return None


def _result_parts(content: str | list[wire.Block] | Anything | None) -> tuple[Text | Media, ...]:
    """Text and media; of a search result its text, of other blocks nothing."""
    if isinstance(content, str):
        return (Text(content),) if content else ()
    out: list[Text | Media] = []
    for b in content if isinstance(content, list) else ():
        part = _part(b)
        if isinstance(part, Media) or (isinstance(part, Text) and part.text):
            out.append(part)
        elif b.type == "search_result" and isinstance(b.content, list):
            out += [Text(inner.text) for inner in b.content if inner.text]
    return tuple(out)


def _media(b: wire.Block, cache: Cache | None) -> Media | None:
    s = b.source
    if not isinstance(s, wire.Source):
        return None
    kind: MediaKind = "image" if b.type == "image" else "file"
    if s.type == "base64" and s.data is not None:
        return Media(kind, mime=s.media_type, data=s.data, name=b.title, cache=cache)
    if s.type == "url" and s.url:
        return Media(kind, url=s.url, name=b.title, cache=cache)
    if s.type == "file" and s.file_id:
        return Media(kind, file_id=s.file_id, name=b.title, cache=cache)
    text = s.data if s.type == "text" else s.content
    if isinstance(text, str):
        data = base64.b64encode(text.encode()).decode()
        return Media("file", mime=s.media_type or "text/plain", data=data, name=b.title, cache=cache)
    return None


def _cache(c: wire.CacheControl | None) -> Cache | None:
    return None if c is None else "1h" if c.ttl == "1h" else "5m"


# -- the other fields --------------------------------------------------------------------------------------------


def _tools(b: wire.Body, fields: dict[str, Raw], extra: dict[str, Raw]) -> tuple[Tool, ...]:
    """The caller's own tools; those that run at the provider go to `extra["tools"]`, a JSON array."""
    if not b.tools:
        return ()
    out, others = [], []
    for t, raw in zip(b.tools, _raws(fields["tools"]), strict=True):
        if t.input_schema is None or t.name is None:
            others.append(bytes(raw))
            continue
        schema = Raw(bytes(_raw_tool(raw).input_schema))
        out.append(Tool(t.name, t.description, schema, t.strict, _cache(t.cache_control)))
    if others:
        extra["tools"] = Raw(b"[" + b",".join(others) + b"]")
    return tuple(out)


def _tool_choice(c: wire.ToolChoiceBody | None) -> ToolChoice | None:
    if c is None:
        return None
    if c.type == "tool":
        return ToolChoice("named", c.name)
    return ToolChoice("required" if c.type == "any" else "none" if c.type == "none" else "auto")


def _format(b: wire.Body, fields: dict[str, Raw]) -> Format | None:
    """`output_config.format`, or `output_format` as it was called before."""
    if b.output_config is not None and b.output_config.format is not None:
        asked, raw = b.output_config.format, _fields(fields["output_config"])["format"]
    elif b.output_format is not None:
        asked, raw = b.output_format, fields["output_format"]
    else:
        return None
    if asked.schema is None:
        return None
    return Format("schema", Raw(bytes(_fields(raw)["schema"])))


def _reasoning(b: wire.Body) -> Reasoning | None:
    """A budget, or an effort; adaptive thinking without a word is "high", which is what leaving it out means there
    (platform.claude.com/docs/en/build-with-claude/effort, checked 2026-11-22)."""
    effort = b.output_config.effort if b.output_config is not None else None
    kind = b.thinking.type if b.thinking is not None else None
    if kind == "disabled":
        return Reasoning("none")
    if kind == "adaptive":
        return Reasoning(effort or "high")
    budget = b.thinking.budget_tokens if b.thinking is not None else None
    return Reasoning(effort, budget) if effort or budget else None
