"""Ollama's own answers as events, of `/api/chat` and of `/api/generate`: one JSON object, or one on each line."""

from __future__ import annotations

import re
from datetime import datetime

import msgspec
from msgspec import Raw, Struct, structs

from lilliput.neutral import Began, Counted, Ended, Event, Finish, Problem, Said, Scored, Thought, Usage
from lilliput.wire import ndjson
from lilliput.wire.broken import truncated_answer
from lilliput.wire.openai import problem as openai_problem
from lilliput.wire.openai.chunk import NONE, Call, is_there
from lilliput.wire.openai.usage import read_usage

_TOO_LONG = re.compile(
    r"exceeds? the (?:available )?context|longer than the context|context (?:length|size) exceeded", re.I
)
"""How a prompt that does not fit is refused when `truncate` is false (ollama/ollama#12061, #17889)."""

_COUNTS = {"prompt_eval_count": "prompt_tokens", "eval_count": "completion_tokens"}
FINISH: dict[str, Finish] = {"stop": "stop", "length": "length", "load": "stop"}


class Message(Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None


class Piece(Struct, gc=False):
    """A line of a stream, or a whole answer: `message` in chat, `response` and `thinking` in generate."""

    model: str | None = None
    created_at: str | None = None
    message: Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    logprobs: list[Raw] | None = None
    prompt_eval_count: Raw = NONE
    eval_count: Raw = NONE
    error: Raw = NONE


_piece = msgspec.json.Decoder(Piece).decode


def reader(stream: bool = True) -> ndjson.Reader:
    """A fresh reader for one answer, streamed or whole."""
    return ndjson.Reader(_Answer(), stream, lines=True)


class _Answer:
    """One answer: what its calls are, and whether it said that it is done."""

    def __init__(self) -> None:
        self.over = False
        self._id: str | None = None
        self._calls = ndjson.Calls()

    def whole(self, data: bytes, out: list[Event]) -> None:
        self.event(data, out)
        if not self.over:
            raise truncated_answer()

    def event(self, data: bytes, out: list[Event]) -> None:
        p = ndjson.decoded(_piece, data)
        if is_there(p.error):
            raise read_problem(200, data)
        if self._id is None:
            self._id = p.created_at or ""
            out.append(Began(None, p.model, _seconds(self._id)))
        m = p.message or Message(p.response, p.thinking)
        if m.thinking:
            out.append(Thought(m.thinking))
        if m.content:
            out.append(Said(m.content))
        for call in m.tool_calls or ():
            self._calls.open(call, self._id, out)
        if p.logprobs:
            out.append(Scored(Raw(b"[" + b",".join(bytes(raw) for raw in p.logprobs) + b"]")))
        if p.done:
            self.over = True
            self._finish(p, out)

    def end(self, marked: bool, out: list[Event]) -> None:
        raise truncated_answer()

    def _finish(self, p: Piece, out: list[Event]) -> None:
        """Calls end with `stop` (ollama-467b48ede3); old versions give no reason."""
        usage = _usage(p)
        if usage is not None:
            out.append(Counted(usage))
        reason = FINISH.get(p.done_reason or "stop")
        out.append(Ended("tool_calls" if reason == "stop" and self._calls.count else reason, p.done_reason or None))


def read_problem(status: int, body: bytes) -> Problem:
    """What a refusal says: `{error: text}`, where the text may be the engine's own error object as JSON."""
    p = openai_problem.read_problem(status, body)
    if p.say.startswith("{"):
        p = openai_problem.read_problem(status, p.say.encode())
    if p.fault == "client" and _TOO_LONG.search(p.say):
        p.code = "context_length_exceeded"
    return p


def _usage(p: Piece) -> Usage | None:
    """A count that is absent is 0, for then the prompt was in the cache; without both there is no usage."""
    given = {name: getattr(p, name) for name in _COUNTS if is_there(getattr(p, name))}
    usage = read_usage(msgspec.json.encode({_COUNTS[name]: raw for name, raw in given.items()}))
    return usage and structs.replace(usage, given=Raw(msgspec.json.encode(given)))


def _seconds(created_at: str) -> int | None:
    """Unix seconds of a time in UTC; its fraction has more digits than Python reads."""
    if created_at[-1:] != "Z":
        return None
    try:
        return int(datetime.fromisoformat(f"{created_at[:19]}+00:00").timestamp())
    except (ValueError, OverflowError):
        return None
