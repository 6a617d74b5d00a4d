"""Cohere's v1 chat, the provider's side of it, under the names of `port.Provider`: for old models, text only.

Its tools have a form of their own, with Python's types, so they are not asked for; calls in answers are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Began, Ended, Event, Request, Said, Sent, Target
from lilliput.wire import ndjson
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.cohere.answer import close, read_problem
from lilliput.wire.cohere.call import note, own_fields, sampling, sent
from lilliput.wire.completions.call import TEXT_ONLY, note_reasoning, note_tools, said
from lilliput.wire.openai import address as openai_endpoint
from lilliput.wire.openai.chunk import NONE, Call, Function, is_there
from lilliput.wire.port import Headers

__all__ = ["DIALECT", "SUPPORT", "endpoint", "read_problem", "reader", "write_body"]

DIALECT = "cohere_v1"
_OWN = frozenset({"documents", "connectors", "citation_quality", "prompt_truncation", "raw_prompting", "safety_mode"})
_ROLES = {"system": "SYSTEM", "user": "USER", "assistant": "CHATBOT", "tool": "USER"}

SUPPORT: Mapping[str, str] = MappingProxyType(
    {
        **TEXT_ONLY,
        **dict.fromkeys(("n", "user", "logprobs", "top_logprobs", "reasoning_effort", "reasoning_budget"), "dropped"),
    }
)


def endpoint(target: Target, stream: bool) -> tuple[str, Headers]:
    return openai_endpoint.endpoint(target, "/v1/chat")


def write_body(r: Request, target: Target) -> Sent:
    """The body that asks `target` what `r` asks; raises Problem (400) for media."""
    dropped: dict[str, None] = {}
    note_tools(r, dropped)
    turns = [(_ROLES[role], text) for role, text in said(r.messages, dropped)[0]]
    fields: dict[str, object] = {"model": target.model, "message": "", "stream": r.stream}
    if turns and turns[-1][0] == "USER":
        fields["message"] = turns.pop()[1]
    if turns:
        fields["chat_history"] = [{"role": role, "message": text} for role, text in turns]
    if r.format is not None and r.format.kind != "text":
        schema = {} if r.format.schema is None else {"schema": r.format.schema}
        fields["response_format"] = {"type": "json_object", **schema}
    note(dropped, n=r.n not in (None, 1), user=r.user, logprobs=r.logprobs, top_logprobs=r.top_logprobs)
    note_reasoning(r, dropped)
    return sent(fields | sampling(r), own_fields(r, DIALECT, _OWN, dropped), target, dropped)


# -- the answer --------------------------------------------------------------------------------------------------


class _Call(Struct, gc=False):
    name: str | None = None
    parameters: dict[str, object] | None = None


class _Response(Struct, gc=False):
    """A whole answer; a stream's last event holds one."""

    response_id: str | None = None
    generation_id: str | None = None
    text: str | None = None
    tool_calls: list[_Call] | None = None
    finish_reason: str | None = None
    meta: Raw = NONE
    error: Raw = NONE


class _Piece(Struct, gc=False):
    event_type: str | None = None
    generation_id: str | None = None
    text: str | None = None
    finish_reason: str | None = None
    response: _Response | None = None
    error: Raw = NONE


_piece = msgspec.json.Decoder(_Piece).decode
_response = msgspec.json.Decoder(_Response).decode


def reader(stream: bool = True) -> ndjson.Reader:
    """A fresh reader for one answer, streamed (one JSON object on each line, or SSE) or whole."""
    return ndjson.Reader(_Answer(), stream, lines=True)


class _Answer:
    def __init__(self) -> None:
        self.over = False
        self._calls = ndjson.Calls()

    def event(self, data: bytes, out: list[Event]) -> None:
        p = ndjson.decoded(_piece, data)
        if p.event_type is None:
            raise read_problem(200, data)
        if p.event_type == "stream-start":
            out.append(Began(p.generation_id))
        elif p.event_type == "text-generation" and p.text:
            out.append(Said(p.text))
        elif p.event_type == "stream-end":
            self._finish(p.response or _Response(), p.finish_reason, p.error, out)

    def whole(self, data: bytes, out: list[Event]) -> None:
        w = ndjson.decoded(_response, data)
        if w.text is None and w.finish_reason is None and not w.tool_calls:
            raise read_problem(200, data) if b'"message"' in data else invalid_answer(data, "it has no text")
        out.append(Began(w.generation_id))
        if w.text:
            out.append(Said(w.text))
        self._finish(w, None, w.error, out)

    def end(self, marked: bool, out: list[Event]) -> None:
        raise truncated_answer()

    def _finish(self, w: _Response, word: str | None, error: Raw, out: list[Event]) -> None:
        """Calls end with COMPLETE."""
        self.over = True
        for call in w.tool_calls or ():
            self._calls.open(Call(function=Function(call.name, call.parameters)), w.generation_id, out)
        word = w.finish_reason or word
        close(word, w.meta, error if is_there(error) else w.error, None, out)
        if self._calls.count and word == "COMPLETE":
            out[-1] = Ended("tool_calls", word)
