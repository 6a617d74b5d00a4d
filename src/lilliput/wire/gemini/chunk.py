"""The JSON of Gemini's answers, typed as loosely as recorded ones ask for, and their framing as a JSON array."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Finish
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.chunk import NONE
from lilliput.wire.sse import MAX_EVENT_BYTES, Splitter

FINISH: dict[str | int, Finish] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    1: "stop",  # numbers where the caller asked for `enum-encoding=int` (vertex recordings)
    2: "length",
    3: "content_filter",
    4: "content_filter",
}
"""Google's finish words. One that is not here, as MALFORMED_FUNCTION_CALL, has no meaning for us: it is passed on."""

T = TypeVar("T")


class Blob(Struct, rename="camel"):
    mime_type: str | None = None
    data: str | None = None
    file_uri: str | None = None


class FunctionCall(Struct):
    id: str | None = None
    name: str | None = None
    args: Raw = NONE


class Part(Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: Blob | None = None
    file_data: Blob | None = None


class Content(Struct):
    parts: list[Part] | None = None


class Candidate(Struct, rename="camel"):
    index: int | None = None
    content: Content | None = None
    finish_reason: str | int | None = None
    logprobs_result: Raw = NONE


class Feedback(Struct, rename="camel"):
    block_reason: str | int | None = None


class Answer(Struct, rename="camel"):
    """A piece of an answer, or a whole one: they look alike."""

    candidates: list[Candidate] | None = None
    prompt_feedback: Feedback | None = None
    usage_metadata: Raw = NONE
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None
    error: Raw = NONE


_MARK = re.compile(rb'["\[\]{}]')
_IN_TEXT = re.compile(rb'"|\\.?', re.DOTALL)
_decode = msgspec.json.Decoder(Answer).decode
_decode_all = msgspec.json.Decoder(Answer | list[Answer]).decode


def parsed(data: bytes) -> Answer:
    """The piece in `data`; raises Problem for what is no JSON, is cut short or has other types."""
    return decoded(data, _decode)


def parsed_all(data: bytes) -> list[Answer]:
    """The pieces of a whole answer: one object, or a list of them."""
    found = decoded(data, _decode_all)
    return found if isinstance(found, list) else [found]


def decoded(data: bytes, decode: Callable[[bytes], T]) -> T:
    """`decode(data)`, or Problem as `parsed` raises it."""
    try:
        if not data.isascii():
            data.decode()  # the decoder does not look at what it skips
        return decode(data)
    except msgspec.ValidationError as e:
        raise invalid_answer(data, str(e)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        is_open = data.lstrip()[:1] in (b"{", b"[") and data.rstrip()[-1:] not in (b"}", b"]")
        if is_open or str(e) == "Input data was truncated":
            raise truncated_answer() from None
        raise invalid_answer(data) from None


def one_line(json: Raw | bytes) -> bytes:
    """`json` without line breaks: Google indents, and events and arguments of others are lines."""
    return msgspec.json.format(bytes(json), indent=-1) if b"\n" in bytes(json) or b"\r" in bytes(json) else bytes(json)


def seconds(time: str | None) -> int | None:
    """Unix seconds of a timestamp in protobuf's JSON form."""
    try:
        return int(datetime.fromisoformat(time).timestamp()) if time else None
    except (ValueError, OverflowError):
        return None


def left(splitter: Splitter) -> list[bytes]:
    """A last event that lacks its blank line; raises code "upstream_truncated" for less than one."""
    lines = [line for line in splitter.rest.splitlines() if line[:1] not in (b"", b":")]
    events = splitter.end()
    if lines and not events:
        raise truncated_answer()
    return events


class ArraySplitter:
    """The elements of a JSON array of objects as they become whole, however the bytes are cut.

    `is_over` is true once the array is closed. An element past 16 MiB raises Problem, and so does anything after it.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._held = bytearray()
        self._at = 0  # where the scan goes on
        self._depth = 0  # 1 inside the array, more inside an element
        self._in_text = False

    def feed(self, data: bytes) -> list[bytes]:
        """The elements that `data` completes."""
        if self.is_over:
            if data.strip():
                raise invalid_answer(data, "its array is closed already")
            return []
        held = self._held
        held += data
        out: list[bytes] = []
        start = 0
        while found := (_IN_TEXT if self._in_text else _MARK).search(held, self._at):
            mark = found[0]
            if mark == b"\\":
                break  # what it escapes is yet to come
            self._at = found.end()
            if mark == b'"':
                self._in_text = not self._in_text
            elif mark in b"{[":
                self._depth += 1
                if self._depth == 2:
                    start = found.start()
            elif mark in b"}]":
                self._depth -= 1
                if self._depth == 1:
                    out.append(bytes(held[start : self._at]))
                    start = self._at
                elif self._depth == 0:
                    self.is_over = True
                    break
        else:
            self._at = len(held)
        if self._depth < 2:
            start = self._at
        del held[:start]
        self._at -= start
        if len(held) > MAX_EVENT_BYTES or (self.is_over and held.strip()):
            raise invalid_answer(bytes(held[:80]), "it is no array of pieces")
        return out
