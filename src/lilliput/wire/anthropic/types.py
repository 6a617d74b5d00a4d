"""The body of an Anthropic Messages request, typed: what may stand where, and a clear refusal when it does not.

Fields follow Anthropic's Python SDK and its recorded traffic (checked 2026-11-22). Unknown fields and content blocks
of unknown types pass: they are not ours to judge.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lilliput.neutral import Problem
from lilliput.wire.openai.types import Anything, ModelName, Named, Tokens, missing, typed

ROLES = ("user", "assistant", "system")
CHOICES = ("auto", "any", "none", "tool")
_NONE = Raw()


class CacheControl(Struct, frozen=True, gc=False):
    type: str = "ephemeral"
    ttl: str | None = None


class Source(Struct, frozen=True, gc=False):
    """Where an image or document is: `content` is text or a list of blocks."""

    type: str = ""
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: str | list[Anything] | None = None


class Block(Struct, frozen=True, gc=False):
    """One content block of any type. `source` is a text in search results, `content` an object in server tools'."""

    type: str
    text: str | None = None
    source: Source | str | None = None
    title: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw | UnsetType = UNSET
    tool_use_id: str | None = None
    content: str | list[Block] | Anything | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


Content = str | list[Block]


class MessageBody(Struct, frozen=True, gc=False):
    role: str
    content: Content


class ToolBody(Struct, frozen=True, gc=False):
    """A tool; one without `input_schema` runs at the provider."""

    name: Named | None = None
    type: str | None = None
    description: str | None = None
    input_schema: Anything | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None


class ToolChoiceBody(Struct, frozen=True, gc=False):
    type: str
    name: Named | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingBody(Struct, frozen=True, gc=False):
    type: str
    budget_tokens: Tokens | None = None


class FormatBody(Struct, frozen=True, gc=False):
    type: str
    schema: Anything | None = None


class OutputConfig(Struct, frozen=True, gc=False):
    effort: str | None = None
    format: FormatBody | None = None


class Metadata(Struct, frozen=True, gc=False):
    user_id: str | None = None


class Body(Struct, frozen=True, gc=False):
    """A Messages request; null is the same as absent, and only `check` asks for max_tokens: counting has none."""

    model: ModelName
    messages: list[MessageBody]
    max_tokens: Tokens | None = None
    system: Content | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, lt=2**31)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    tool_choice: ToolChoiceBody | None = None
    tools: list[ToolBody] | None = None
    thinking: ThinkingBody | None = None
    output_config: OutputConfig | None = None
    output_format: FormatBody | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None


_decode = msgspec.json.Decoder(Body).decode


def check(body: bytes, path: str = "") -> Body:
    """The request in `body`; raises Problem (400) that names the field."""
    b = check_count(body)
    if b.max_tokens is None:
        say = "max_tokens is missing; Anthropic's Messages ask for it: add the most tokens that the answer may have"
        raise Problem("client", say, code="missing_required_parameter", param="max_tokens")
    return b


def check_count(body: bytes, path: str = "") -> Body:
    """The same for a request that is only counted, which needs no max_tokens."""
    b = typed(_decode, body)
    for i, m in enumerate(b.messages):
        if m.role not in ROLES:
            _refuse(f"messages[{i}].role", m.role, ROLES)
        if not isinstance(m.content, str):
            for k, block in enumerate(m.content):
                _check_block(block, f"messages[{i}].content[{k}]")
    c = b.tool_choice
    if c is not None:
        if c.type not in CHOICES:
            _refuse("tool_choice.type", c.type, CHOICES)
        if c.type == "tool" and c.name is None:
            missing("tool_choice.name")
    for i, tool in enumerate(b.tools or ()):
        if tool.type in (None, "custom"):
            if tool.name is None:
                missing(f"tools[{i}].name")
            if tool.input_schema is None:
                missing(f"tools[{i}].input_schema")
    return b


def _check_block(b: Block, at: str) -> None:
    """A block of a type that we know has what the type asks for."""
    if b.type == "text":
        if b.text is None:
            missing(f"{at}.text")
    elif b.type in ("image", "document"):
        if not isinstance(b.source, Source):
            missing(f"{at}.source")
    elif b.type == "tool_use":
        for name, value in (("id", b.id), ("name", b.name)):
            if not value:
                missing(f"{at}.{name}")
        if b.input is not UNSET and bytes(b.input).lstrip()[:1] != b"{":
            say = f"{at}.input is not an object; send the call's arguments as a JSON object"
            raise Problem("client", say, code="invalid_type", param=f"{at}.input")
    elif b.type == "tool_result":
        if not b.tool_use_id:
            missing(f"{at}.tool_use_id")
        if isinstance(b.content, Anything):
            say = f"{at}.content is an object; send text or a list of blocks"
            raise Problem("client", say, code="invalid_type", param=f"{at}.content")
        if isinstance(b.content, list):
            for k, inner in enumerate(b.content):
                _check_block(inner, f"{at}.content[{k}]")
    elif b.type == "redacted_thinking" and b.data is None:
        missing(f"{at}.data")


def _refuse(param: str, value: str, known: tuple[str, ...]) -> None:
    say = f"{param} is {value[:80]!r}: expected {', '.join(known[:-1])} or {known[-1]}"
    raise Problem("client", say, code="invalid_value", param=param)
