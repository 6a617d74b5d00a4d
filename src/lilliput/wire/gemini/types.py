"""The body of a Gemini request, typed: what may stand where, and a clear refusal when something else does.

Fields follow google-genai 3.4 (checked 2026-11-22). As protobuf's JSON does, both `maxOutputTokens` and
`max_output_tokens` are read, and numbers may be text. Unknown fields pass: they are not ours to judge.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Meta, Raw, Struct

from lilliput.neutral import Problem
from lilliput.wire.openai.types import Penalty, Tokens, missing, typed

NONE = Raw()


class Anything(Struct, frozen=True, gc=False):
    """Some JSON object; what is in it is not looked at."""


class Blob(Struct, frozen=True, gc=False, rename="camel"):
    """`inlineData` or `fileData`."""

    mime_type: str | None = None
    data: str | None = None
    file_uri: str | None = None
    display_name: str | None = None


class FunctionCall(Struct, frozen=True, gc=False):
    name: str
    id: str | None = None
    args: Anything | None = None


class ResultPart(Struct, frozen=True, gc=False, rename="camel"):
    inline_data: Blob | None = None
    file_data: Blob | None = None


class FunctionResponse(Struct, frozen=True, gc=False):
    name: str
    id: str | None = None
    response: Anything | None = None
    parts: list[ResultPart] | None = None


class Part(Struct, frozen=True, gc=False, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    inline_data: Blob | None = None
    file_data: Blob | None = None


class Instruction(Struct, frozen=True, gc=False):
    """What `systemInstruction` holds: its role, if it names one, says nothing."""

    parts: list[Part] | Part | None = None


class Content(Struct, frozen=True, gc=False):
    parts: list[Part] | Part | None = None
    role: Literal["user", "model", "function"] | None = None


class Declaration(Struct, frozen=True, gc=False, rename="camel"):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: Anything | None = None
    parameters_json_schema: Anything | None = None


class ToolBody(Struct, frozen=True, gc=False, rename="camel"):
    function_declarations: list[Declaration] | None = None


class CallingConfig(Struct, frozen=True, gc=False, rename="camel"):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(Struct, frozen=True, gc=False, rename="camel"):
    function_calling_config: CallingConfig | None = None


class ThinkingConfig(Struct, frozen=True, gc=False, rename="camel"):
    include_thoughts: bool | None = None
    thinking_budget: Annotated[int, Meta(ge=-1, lt=2**31)] | None = None
    thinking_level: str | None = None


class Generation(Struct, frozen=True, gc=False, rename="camel"):
    candidate_count: Annotated[int, Meta(ge=1, le=128)] | None = None
    frequency_penalty: Penalty | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    max_output_tokens: Tokens | None = None
    presence_penalty: Penalty | None = None
    response_json_schema: Anything | None = None
    response_logprobs: bool | None = None
    response_mime_type: str | None = None
    response_schema: Anything | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    thinking_config: ThinkingConfig | None = None
    top_k: Annotated[float, Meta(ge=0, lt=2**31)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None


class Body(Struct, frozen=True, gc=False, rename="camel"):
    contents: list[Content | str] | Content | str
    system_instruction: Instruction | str | None = None
    generation_config: Generation | None = None
    tools: list[ToolBody] | ToolBody | None = None
    tool_config: ToolConfig | None = None


class Asked(Struct, frozen=True):
    """What a request's path says: the model, and whether the answer is streamed as events (`sse`) or as an array."""

    model: str
    stream: bool
    sse: bool = False


_decode = msgspec.json.Decoder(Body, strict=False).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode
_SNAKE_KEY = re.compile(rb'"[a-z]+(?:_[a-z]+)++"\s*+:')
_ACTIONS = ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents")
_UNDERSCORE = re.compile(r"_([a-z])")

_NESTED = frozenset(
    {
        *("contents", "parts", "systemInstruction", "inlineData", "fileData", "functionCall", "functionResponse"),
        *("tools", "functionDeclarations", "toolConfig", "functionCallingConfig", "generationConfig"),
        *("thinkingConfig", "generateContentRequest", "requests", "content"),
    }
)
"""The fields whose own keys are Google's; in all others, such as `args` and schemas, they may be the caller's."""


def check(body: bytes, path: str) -> Asked:
    """What `body` and `path` ask; raises Problem (400) that names the field."""
    parse(body)
    return asked(path)


def parse(body: bytes) -> tuple[Body, bytes]:
    """The request in `body`, and its JSON with Google's own keys in camel case.

    A call that counts tokens may hold the request inside.
    """
    body = camel(body)
    if b'"generateContentRequest"' in body:
        body = bytes(typed(_fields, body).get("generateContentRequest", body))
    return typed(_decode, body), body


def camel(body: bytes) -> bytes:
    """`body` with Google's own keys in camel case, which they may be sent in or not."""
    if not body.isascii():
        try:
            body.decode()  # the decoder does not look at what it skips
        except UnicodeDecodeError as e:
            say = f"the body is not UTF-8 (byte {e.start}); send JSON in UTF-8"
            raise Problem("client", say, code="invalid_json") from None
    return typed(_camel_body, body) if _SNAKE_KEY.search(body) else body


def asked(path: str) -> Asked:
    """The path of a call, as `/v1beta/models/<model>:streamGenerateContent?alt=sse`, taken apart."""
    place, _, query = path.partition("?")
    _, found, rest = unquote(place).partition("/models/")
    model, colon, action = rest.rpartition(":")
    if not found or not colon or action not in _ACTIONS:
        say = f"the path {place[:200]!r} is none of this dialect; post to /v1beta/models/<model>:generateContent"
        raise Problem("missing", say, code="unknown_path")
    if not 1 <= len(model) <= 256:
        missing("model")
    options = dict(parse_qsl(query))
    sse = "sse" in (options.get("alt"), options.get("$alt"))
    return Asked(model, action == "streamGenerateContent", sse)


def _camel_body(body: bytes) -> bytes:
    return bytes(_camel(Raw(body)))


def _camel(raw: Raw) -> Raw:
    """`raw` with the keys of Google's own fields in camel case; what stands in other fields is left as it is."""
    start = bytes(raw).lstrip()[:1]
    if start == b"[":
        return Raw(_encode([_camel(item) for item in _items(raw)]))
    if start != b"{":
        return raw
    out = {}
    for key, value in _fields(raw).items():
        name = _UNDERSCORE.sub(lambda m: m[1].upper(), key)
        out[name] = _camel(value) if name in _NESTED else value
    return Raw(_encode(out))
