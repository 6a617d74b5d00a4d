"""The JSON of a Responses answer, whole or as events, typed as loosely as recorded providers ask for."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Finish
from lilliput.wire.broken import invalid_answer, truncated_answer

FINISH: dict[str, Finish] = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""Why an answer is incomplete. Another word has no meaning for us: it is passed on, never turned to "stop"."""

NONE = Raw()
Value = str | dict[str, object] | list[object] | int | float | bool | None


class Part(Struct, gc=False):
    """A part of a message's content, or of reasoning."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    logprobs: list[Raw] | None = None


class Item(Struct, gc=False):
    """An item of the output, of any type; servers' own tools name their fields as they like."""

    type: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Value = None
    input: Value = None
    content: list[Part] | str | None = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None
    result: Value = None
    output_format: str | None = None


class Details(Struct, gc=False):
    reason: str | None = None


class Answer(Struct, gc=False):
    """A whole response, or the one inside an event."""

    id: str | None = None
    model: str | None = None
    created_at: int | float | None = None
    status: str | None = None
    output: list[Raw] | None = None
    incomplete_details: Details | None = None
    error: Raw = NONE
    usage: Raw = NONE
    detail: Raw = NONE
    message: Raw = NONE


class Event(Struct, gc=False):
    type: str | None = None
    delta: str | None = None
    output_index: int | None = None
    logprobs: list[Raw] | None = None
    item: Raw = NONE
    response: Answer | None = None
    error: Raw = NONE


class _Kind(Struct, gc=False):
    type: str | None = None


event = msgspec.json.Decoder(Event).decode
_answer = msgspec.json.Decoder(Answer).decode
_item = msgspec.json.Decoder(Item).decode
kind = msgspec.json.Decoder(_Kind).decode


def is_there(raw: Raw) -> bool:
    """True when the field was sent and is not null."""
    return raw is not NONE and bytes(raw) != b"null"


def item(raw: Raw) -> Item:
    """The item in `raw`; only its type where it is of one that we do not read. Raises Problem for any other."""
    try:
        return _item(raw)
    except msgspec.ValidationError as e:
        why = str(e)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise invalid_answer(bytes(raw)) from None
    try:
        named = kind(raw).type
    except msgspec.ValidationError:
        named = None
    if named is None or named in ("message", "reasoning", "function_call", "custom_tool_call"):
        raise invalid_answer(bytes(raw), why)
    return Item(named)


def parsed(data: bytes) -> Answer:
    """The whole response in `data`; raises Problem for what is no JSON, is cut short or has other types."""
    try:
        return _answer(data)
    except msgspec.ValidationError as e:
        raise invalid_answer(data, str(e)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        if str(e) == "Input data was truncated" or (data.lstrip()[:1] == b"{" and data.rstrip()[-1:] != b"}"):
            raise truncated_answer() from None  # a word that is cut in two, such as nul, is invalid to the decoder
        raise invalid_answer(data) from None


def arguments(value: Value) -> str:
    """Arguments as JSON text; some send them as an object."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
