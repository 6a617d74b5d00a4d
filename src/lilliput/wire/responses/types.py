"""The body of an OpenAI Responses request, typed: what may stand where, and a clear refusal of anything else.

Fields follow OpenAI's Python SDK 3.54 (checked 2026-11-22). Items of types that only OpenAI's own servers know pass
unlooked at, as unknown fields do.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from lilliput.neutral import Problem
from lilliput.wire.openai.types import Anything, ModelName, Named, Sound, Tokens, missing, typed


class Part(Struct, frozen=True, gc=False):
    """One part of a content list, of any type."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: Sound | None = None


Content = str | list[Part]


class Summary(Struct, frozen=True, gc=False):
    text: str = ""


class Item(Struct, frozen=True, gc=False):
    """One item of `input`, of any type; without a type it is a message."""

    type: str | None = None
    role: str | None = None
    content: Content | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | dict[str, object] | None = None
    input: str | dict[str, object] | None = None
    output: Content | dict[str, object] | None = None
    summary: list[Summary] | None = None
    encrypted_content: str | None = None


class ToolBody(Struct, frozen=True, gc=False):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: Anything | None = None
    strict: bool | None = None
    format: Anything | None = None


class ToolChoiceBody(Struct, frozen=True, gc=False):
    type: str
    name: str | None = None
    mode: str | None = None


class FormatBody(Struct, frozen=True, gc=False):
    type: str
    name: str | None = None
    schema: Anything | None = None
    strict: bool | None = None
    description: str | None = None


class TextBody(Struct, frozen=True, gc=False):
    format: FormatBody | None = None
    verbosity: str | None = None


class ReasoningBody(Struct, frozen=True, gc=False):
    effort: str | None = None
    summary: str | None = None


class Body(Struct, frozen=True, gc=False):
    """A request for a response; null is the same as absent."""

    model: ModelName
    input: str | list[Item] | None = None
    background: bool | None = None
    include: list[str] | None = None
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: Named | None = None
    prompt_cache_key: str | None = None
    reasoning: ReasoningBody | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: Anything | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    text: TextBody | None = None
    tool_choice: str | ToolChoiceBody | None = None
    tools: list[ToolBody] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    truncation: str | None = None
    user: str | None = None


CALLS = ("function_call", "custom_tool_call")
OUTPUTS = ("function_call_output", "custom_tool_call_output")
ROLES = ("user", "system", "developer", "assistant")

_body = msgspec.json.Decoder(Body).decode


def _decode(body: bytes) -> Body:
    if not body.isascii():
        body.decode()  # the decoder does not look at what it skips
    return _body(body)


def check(body: bytes, path: str = "") -> Body:
    """The request in `body`; raises Problem (400) like `typed`, also for an item or a tool without what names it."""
    b = typed(_decode, body)
    if isinstance(b.input, list):
        for i, item in enumerate(b.input):
            if item.type in (None, "message"):
                _message(item, f"input[{i}]")
            elif item.type in CALLS or item.type in OUTPUTS:
                if item.call_id is None:
                    missing(f"input[{i}].call_id")
                if item.type in CALLS and not item.name:
                    missing(f"input[{i}].name")
    elif b.input is None and b.instructions is None and b.previous_response_id is None:
        fields = msgspec.json.decode(body)
        if not ("prompt" in fields or "conversation" in fields):
            missing("input")
    for i, tool in enumerate(b.tools or ()):
        if tool.type in ("function", "custom") and not tool.name:
            missing(f"tools[{i}].name")
    return b


def _message(item: Item, at: str) -> None:
    if item.role is None:
        missing(f"{at}.role")
    if item.content is None:
        missing(f"{at}.content")
    if item.role not in ROLES:
        say = f"{at}.role is {item.role[:80]!r}: expected user, system, developer or assistant"
        raise Problem("client", say, code="invalid_value", param=f"{at}.role")
