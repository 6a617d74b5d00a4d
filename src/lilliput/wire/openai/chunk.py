"""The JSON of an OpenAI-form answer, whole or in chunks, typed as loosely as recorded providers ask for."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Finish
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.types import ExtraContent, Link, ReasoningDetail, ThinkingText

FINISH: dict[str, Finish] = {
    "stop": "stop",
    "STOP": "stop",
    "end_turn": "stop",
    "eos": "stop",  # Together
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "model_length": "length",  # Mistral
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "sensitive": "content_filter",  # z.ai
    "error": "error",
    "network_error": "error",  # z.ai
    "insufficient_system_resource": "error",  # DeepSeek
}
"""Providers' finish words. A word that is not here has no meaning for us: it is passed on, never turned to "stop"."""

NONE = Raw()


class Part(Struct, gc=False):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    thinking: str | list[ThinkingText | str] | None = None
    image_url: Link | str | None = None


class Function(Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, object] | list[object] | None = None


class Custom(Struct, gc=False):
    name: str | None = None
    input: str | None = None


class Call(Struct, gc=False):
    index: int | None = None
    id: str | int | None = None
    type: str | None = None
    function: Function | None = None
    custom: Custom | None = None
    extra_content: ExtraContent | None = None


class Audio(Struct, gc=False):
    id: str | None = None
    data: str | None = None
    transcript: str | None = None


class Image(Struct, gc=False):
    image_url: Link | str | None = None


class Message(Struct, gc=False):
    """A message or a piece of one."""

    content: str | list[Part | str] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | dict[str, object] | None = None
    reasoning_details: list[ReasoningDetail] | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None
    audio: Audio | None = None
    images: list[Image] | None = None


class Logprobs(Struct, gc=False):
    content: list[Raw] | None = None


class Choice(Struct, gc=False):
    index: int | None = None
    delta: Message | None = None
    message: Message | None = None
    finish_reason: str | int | None = None
    logprobs: Logprobs | None = None
    error: Raw = NONE


class Groq(Struct, gc=False):
    usage: Raw = NONE
    error: Raw = NONE


class Answer(Struct, gc=False):
    """A chunk or a whole answer."""

    id: str | int | None = None
    model: str | None = None
    created: int | float | str | None = None
    object: str | None = None
    choices: list[Choice] | None = None
    usage: Raw = NONE
    error: Raw = NONE
    detail: Raw = NONE
    message: Raw = NONE
    x_groq: Groq | None = None


_decode = msgspec.json.Decoder(Answer).decode


def is_there(raw: Raw) -> bool:
    """True when the field was sent and is not null."""
    return raw is not NONE and bytes(raw) != b"null"


def parsed(data: bytes, is_whole: bool = False) -> Answer:
    """The answer in `data`, one event or (`is_whole`) all of the body; raises Problem for what is no JSON or has other
    types, and for a body that is cut short."""
    try:
        if not data.isascii():
            data.decode()  # the decoder does not look at what it skips
        return _decode(data)
    except msgspec.ValidationError as e:
        raise invalid_answer(data, str(e)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        if is_whole and str(e) == "Input data was truncated":
            raise truncated_answer() from None
        raise invalid_answer(data) from None


def is_bare_error(a: Answer) -> bool:
    """True for an error that is not under `error`: vLLM's `object: error`, Mistral's `detail`."""
    return a.object == "error" or is_there(a.detail) or is_there(a.message)


def seconds(created: float | str | None) -> int | None:
    """Unix seconds, which Writer sends as text; 0 (Azure's first chunk) is none."""
    if isinstance(created, str):
        created = int(created) if created.isdecimal() and len(created) < 15 else None
    return int(created) if created and abs(created) < 1e12 else None


def arguments(f: Function | None) -> str:
    """Arguments as JSON text; some send them as an object."""
    if f is None or f.arguments is None:
        return ""
    return f.arguments if isinstance(f.arguments, str) else msgspec.json.encode(f.arguments).decode()
