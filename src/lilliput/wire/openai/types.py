"""The body of an OpenAI chat request, typed: what may stand where, and a clear refusal when something else does.

Fields follow OpenAI's Python SDK 3.54 (checked 2026-11-22), loosened where recorded providers take more.
Unknown fields pass: they are not ours to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal, NoReturn, TypeVar

import msgspec
from msgspec import Meta, Struct

from lilliput.neutral import Problem

T = TypeVar("T")
Tokens = Annotated[int, Meta(ge=1, lt=2**31)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Named = Annotated[str, Meta(min_length=1)]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]


class Anything(Struct, frozen=True, gc=False):
    """Some JSON object; what is in it is not looked at."""


class Link(Struct, frozen=True, gc=False):
    url: str
    detail: str | None = None


class Sound(Struct, frozen=True, gc=False):
    data: str
    format: str | None = None


class File(Struct, frozen=True, gc=False):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class ThinkingText(Struct, frozen=True, gc=False):
    text: str | None = None


class CacheControl(Struct, frozen=True, gc=False):
    """Anthropic's mark, as OpenRouter and LiteLLM take it in OpenAI's form."""

    type: str = "ephemeral"
    ttl: Literal["5m", "1h"] | None = None


class Part(Struct, frozen=True, gc=False):
    """One part of a content list, of any type; `document_url`, `file_url` and `thinking` are other providers' own.

    A part without a type is taken by some providers, and so is a tool's answer without the id of its call.
    """

    type: str = ""
    text: str | None = None
    image_url: Link | str | None = None
    input_audio: Sound | str | None = None
    file: File | None = None
    refusal: str | None = None
    audio_url: Link | str | None = None
    video_url: Link | str | None = None
    document_url: Link | str | None = None
    file_url: Link | str | None = None
    thinking: str | list[ThinkingText] | None = None
    cache_control: CacheControl | None = None


Content = str | list[Part]


class FunctionCall(Struct, frozen=True, gc=False):
    name: str
    arguments: str | dict[str, object] | None = None


class CustomCall(Struct, frozen=True, gc=False):
    name: str
    input: str | None = None


class GoogleExtra(Struct, frozen=True, gc=False):
    thought_signature: str | None = None


class ExtraContent(Struct, frozen=True, gc=False):
    """Where Gemini's OpenAI endpoint puts what OpenAI has no field for (ai.google.dev, thought signatures)."""

    google: GoogleExtra | None = None


class ToolCallBody(Struct, frozen=True, gc=False):
    id: str | None = None
    type: str | None = None
    function: FunctionCall | None = None
    custom: CustomCall | None = None
    extra_content: ExtraContent | None = None


class ReasoningDetail(Struct, frozen=True, gc=False):
    """One entry of `reasoning_details` (OpenRouter's SDK models, checked 2026-11-22)."""

    type: str | None = None
    text: str | None = None
    summary: str | None = None
    data: str | None = None
    signature: str | None = None
    format: str | None = None


class System(Struct, frozen=True, gc=False, tag_field="role", tag="system"):
    content: Content
    name: str | None = None


class Developer(Struct, frozen=True, gc=False, tag_field="role", tag="developer"):
    content: Content
    name: str | None = None


class User(Struct, frozen=True, gc=False, tag_field="role", tag="user"):
    content: Content
    name: str | None = None


class Assistant(Struct, frozen=True, gc=False, tag_field="role", tag="assistant"):
    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    function_call: FunctionCall | None = None
    audio: Anything | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[ReasoningDetail] | None = None


class ToolMessage(Struct, frozen=True, gc=False, tag_field="role", tag="tool"):
    tool_call_id: str = ""
    content: Content | None = None
    name: str | None = None


class FunctionMessage(Struct, frozen=True, gc=False, tag_field="role", tag="function"):
    name: str
    content: Content | None = None


MessageBody = System | Developer | User | Assistant | ToolMessage | FunctionMessage


class Function(Struct, frozen=True, gc=False):
    name: Named
    description: str | None = None
    parameters: Anything | None = None
    strict: bool | None = None


class CustomTool(Struct, frozen=True, gc=False):
    name: Named
    description: str | None = None
    format: Anything | None = None


class ToolBody(Struct, frozen=True, gc=False):
    type: str | None = None
    function: Function | None = None
    custom: CustomTool | None = None
    cache_control: CacheControl | None = None


class Name(Struct, frozen=True, gc=False):
    name: Named


class ToolChoiceBody(Struct, frozen=True, gc=False):
    type: str | None = None
    function: Name | None = None
    custom: Name | None = None


class SchemaBody(Struct, frozen=True, gc=False):
    name: str | None = None
    description: str | None = None
    schema: Anything | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, gc=False):
    type: str
    json_schema: SchemaBody | None = None


class StreamOptions(Struct, frozen=True, gc=False):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ReasoningBody(Struct, frozen=True, gc=False):
    effort: str | None = None
    max_tokens: int | None = None


class ThinkingBody(Struct, frozen=True, gc=False):
    type: str | None = None
    budget_tokens: int | None = None


class Body(Struct, frozen=True, gc=False):
    """A chat completion request; null is the same as absent. Whether no message at all will do, the provider says."""

    model: ModelName
    messages: list[MessageBody]
    audio: Anything | None = None
    frequency_penalty: Penalty | None = None
    function_call: Literal["none", "auto"] | Name | None = None
    functions: list[Function] | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    metadata: dict[str, str] | None = None
    modalities: list[str] | None = None
    moderation: Anything | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    parallel_tool_calls: bool | None = None
    prediction: Anything | None = None
    presence_penalty: Penalty | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Anything | None = None
    prompt_cache_retention: str | None = None
    reasoning: ReasoningBody | None = None
    reasoning_effort: str | None = None
    response_format: ResponseFormat | None = None
    safety_identifier: str | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    service_tier: str | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    thinking: ThinkingBody | None = None
    tool_choice: Literal["none", "auto", "required", "any"] | ToolChoiceBody | None = None
    tools: list[ToolBody] | None = None
    top_k: Annotated[int, Meta(ge=-1, lt=2**31)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    user: str | None = None
    verbosity: str | None = None
    web_search_options: Anything | None = None


_decode = msgspec.json.Decoder(Body).decode
_PATH = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(\w+)`")
_WORDS = {
    "role": "system, developer, user, assistant, tool or function",
    "tool_choice": "none, auto, required or an object that names a tool",
    "function_call": "none, auto or an object that names a function",
    "model": "a name of 1 to 256 characters",
}
_STEP = re.compile(r"\[(\d+)\]|(\w+)")


def typed(decode: Callable[[bytes], T], body: bytes) -> T:
    """`decode(body)`, or Problem (400) that names the field, its value and what is expected there."""
    try:
        return decode(body)
    except msgspec.ValidationError as e:
        _refuse(body, str(e))
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        say = f"the body is not JSON: {e}; send one JSON object in UTF-8"
        raise Problem("client", say, code="invalid_json") from None
    except RecursionError:
        raise Problem("client", "the body is nested too deep; flatten it", code="json_too_deep") from None


def check(body: bytes, path: str = "") -> Body:
    """The request in `body`; raises Problem (400) like `typed`, also for a tool or call without its function."""
    request = typed(_decode, body)
    for i, message in enumerate(request.messages):
        if type(message) is Assistant and message.tool_calls:
            for j, call in enumerate(message.tool_calls):
                if call.function is None and call.custom is None:
                    missing(f"messages[{i}].tool_calls[{j}].function")
    if request.tools:
        for i, tool in enumerate(request.tools):
            if tool.function is None and tool.type in (None, "function"):
                missing(f"tools[{i}].function")
            if tool.custom is None and tool.type == "custom":
                missing(f"tools[{i}].custom")
    return request


def missing(param: str) -> NoReturn:
    raise Problem("client", f"{param} is missing; add it", code="missing_required_parameter", param=param)


def _refuse(body: bytes, found: str) -> NoReturn:
    """Raises msgspec's complaint `found` as Problem, in the caller's own terms."""
    at = _PATH.search(found)
    param = at.group(1).replace("[...]", "") if at else ""
    reason = (found[: at.start()] if at else found).replace("`", "")
    lacks = _MISSING.match(found)
    if lacks:
        missing(f"{param}.{lacks.group(1)}" if param else lacks.group(1))
    if not param:
        raise Problem("client", f"the body is no JSON object: {reason[:1].lower()}{reason[1:]}", code="invalid_type")
    code = "invalid_type" if ", got" in reason else "invalid_value"
    known = _WORDS.get(param.rsplit(".", 1)[-1])
    reason = f"expected {known}" if known and code == "invalid_value" else reason[:1].lower() + reason[1:]
    say = f"{param} is {_shown(body, param)}: {reason}"
    raise Problem("client", say[:500], code=code, param=param[:200])


def _shown(body: bytes, param: str) -> str:
    """What stands at `param`, as JSON, cut to 80 characters."""
    try:
        value: object = msgspec.json.decode(body)
        for index, name in _STEP.findall(param):
            if index and isinstance(value, list) and int(index) < len(value):
                value = value[int(index)]
            elif name and isinstance(value, dict):
                value = value.get(name)
        shown = msgspec.json.encode(value).decode()
    except (ValueError, RecursionError):
        return "a value that is not shown"
    return shown if len(shown) <= 80 else shown[:77] + "..."
