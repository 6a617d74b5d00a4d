"""A Cohere v2 answer as events, whole or streamed, and Cohere's usage and errors.

Citations are left out, and so is `tool_plan`, which is neither the answer's text nor its thinking.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, structs

from lilliput.neutral import Began, Counted, Ended, Event, Finish, Problem, Said, Scored, Thought, Usage
from lilliput.wire import broken, ndjson
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai import problem as openai_problem
from lilliput.wire.openai.chunk import NONE, Call, is_there
from lilliput.wire.openai.usage import read_usage as read_openai_usage

FINISH: dict[str, Finish] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "ERROR_LIMIT": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
    "ERROR": "error",
    "TIMEOUT": "error",
}
_CODES = {"TOO_MANY_TOKENS": "context_length_exceeded"}
"""Cohere's `error_type` -> the code that callers know (cohere-6f17edc126)."""


class Content(Struct, gc=False):
    text: str | None = None
    thinking: str | None = None


class Message(Struct, gc=False):
    """A message, whose lists hold everything, or a piece of one, which has one thing instead of a list."""

    content: Content | list[Content] | str | None = None
    tool_calls: Call | list[Call] | None = None


class Score(Struct, gc=False):
    text: str | None = None
    logprobs: list[float] | None = None


class Delta(Struct, gc=False):
    message: Message | None = None
    finish_reason: str | None = None
    usage: Raw = NONE
    error: Raw = NONE
    error_type: str | None = None


class Piece(Struct, gc=False):
    """One event of a stream; an error has no type and its message is text."""

    type: str | None = None
    id: str | None = None
    index: int | None = None
    delta: Delta | None = None
    logprobs: Score | None = None


class Whole(Struct, gc=False):
    id: str | None = None
    message: Message | str | None = None
    finish_reason: str | None = None
    usage: Raw = NONE
    logprobs: list[Score] | None = None
    error: Raw = NONE
    error_type: str | None = None


class Units(Struct, gc=False):
    input_tokens: object = None
    output_tokens: object = None
    image_tokens: object = None


class Counts(Struct, gc=False):
    tokens: Units | None = None
    billed_units: Units | None = None
    cached_tokens: object = None


_piece = msgspec.json.Decoder(Piece).decode
_whole = msgspec.json.Decoder(Whole).decode
_counts = msgspec.json.Decoder(Counts).decode


def reader(stream: bool = True) -> ndjson.Reader:
    """A fresh reader for one answer, streamed or whole."""
    return ndjson.Reader(_Answer(), stream)


class _Answer:
    """One answer: which tool calls are open, and whether its last event came."""

    def __init__(self) -> None:
        self.over = False
        self._id: str | None = None
        self._calls = ndjson.Calls()
        self._by_index: dict[int | None, int] = {}

    def event(self, data: bytes, out: list[Event]) -> None:
        p = ndjson.decoded(_piece, data)
        kind, delta = p.type, p.delta
        if kind is None:
            raise read_problem(200, data)
        if self._id is None and p.id:
            self._id = p.id
            out.append(Began(p.id))
        message = delta.message if delta is not None else None
        if message is not None:
            if kind == "content-delta" or kind == "content-start":
                _say(message.content, out)
            elif kind == "tool-call-start":
                self._open(message, p.index, out)
            elif kind == "tool-call-delta":
                self._argue(message, p.index, out)
        if p.logprobs is not None:
            _score([p.logprobs], out)
        if kind == "message-end":
            self._finish(delta or Delta(), out)

    def whole(self, data: bytes, out: list[Event]) -> None:
        w = ndjson.decoded(_whole, data)
        if not isinstance(w.message, Message):
            is_error = w.message or is_there(w.error)
            raise read_problem(200, data) if is_error else invalid_answer(data, "it has no message")
        if w.id:
            self._id = w.id
            out.append(Began(w.id))
        _say(w.message.content, out)
        self._open(w.message, None, out)
        _score(w.logprobs or [], out)
        self._finish(w, out)

    def end(self, marked: bool, out: list[Event]) -> None:
        raise truncated_answer()

    def _open(self, m: Message, index: int | None, out: list[Event]) -> None:
        for call in _calls(m):
            self._by_index[index] = self._by_index[None] = self._calls.open(call, self._id, out)

    def _argue(self, m: Message, index: int | None, out: list[Event]) -> None:
        for call in _calls(m):
            if call.function is not None:
                if index not in self._by_index:
                    raise invalid_answer(b"", f"it has arguments of a tool call {index} that did not begin")
                ndjson.argue(self._by_index[index], call.function, out)

    def _finish(self, said: Delta | Whole, out: list[Event]) -> None:
        self.over = True
        close(said.finish_reason, said.usage, said.error, said.error_type, out)


def _calls(m: Message) -> list[Call]:
    return m.tool_calls if isinstance(m.tool_calls, list) else [m.tool_calls] if m.tool_calls is not None else []


def close(word: str | None, usage: Raw, error: Raw, error_type: str | None, out: list[Event]) -> None:
    """How an answer ended, and what it cost; raises its error as Problem (cohere-58ff29a363)."""
    counted = read_usage(usage) if is_there(usage) else None
    if counted is not None:
        out.append(Counted(counted))
    if is_there(error):
        raise read_problem(200, b'{"error":%b,"error_type":%b}' % (bytes(error), msgspec.json.encode(error_type)))
    out.append(Ended(FINISH.get(word) if word else None, word or None))


def _say(content: Content | list[Content] | str | None, out: list[Event]) -> None:
    if isinstance(content, Content):
        if content.thinking:
            out.append(Thought(content.thinking))
        if content.text:
            out.append(Said(content.text))
    elif isinstance(content, str):
        _say(Content(content), out)
    else:
        for c in content or ():
            _say(c, out)


def _score(scores: list[Score], out: list[Event]) -> None:
    """OpenAI's form. An item may be several tokens: their text has the sum of their log-probabilities."""
    content = [
        {"token": s.text, "logprob": sum(s.logprobs), "bytes": list(s.text.encode()), "top_logprobs": []}
        for s in scores
        if s.text is not None and s.logprobs
    ]
    if content:
        out.append(Scored(Raw(msgspec.json.encode(content))))


def read_usage(raw: Raw) -> Usage | None:
    """The counts in a Cohere usage object (v1: `meta`): what the model read and wrote, else what was billed.

    `billed_units` leaves out Cohere's own prompt, so it is often less than half of `tokens`. Cohere bills thinking as
    output; the count of it that some models tell is left in `given`.
    """
    try:
        given = _counts(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    tokens, billed = given.tokens or Units(), given.billed_units or Units()
    usage = read_openai_usage(
        msgspec.json.encode(
            {
                "prompt_tokens": billed.input_tokens if tokens.input_tokens is None else tokens.input_tokens,
                "completion_tokens": billed.output_tokens if tokens.output_tokens is None else tokens.output_tokens,
                "prompt_tokens_details": {"cached_tokens": given.cached_tokens, "image_tokens": tokens.image_tokens},
            }
        )
    )
    return usage and structs.replace(usage, given=Raw(bytes(raw)))


def read_problem(status: int, body: bytes) -> Problem:
    """What a refusal says: `{id, message}`, at times with an `error_type`."""
    p = openai_problem.read_problem(status, body)
    try:
        kind = broken.scrub(_whole(body).error_type or "")[:200]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return p
    if kind:
        p.code, p.kind = p.code or _CODES.get(kind, kind), p.kind or kind
    return p
