"""A legacy completion as events, streamed or whole, and its log-probabilities, which have a form of their own."""

from __future__ import annotations

from itertools import zip_longest

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Began, Counted, Ended, Event, Said, Scored
from lilliput.wire import ndjson
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.chunk import FINISH, NONE, is_there, seconds
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.openai.usage import read_usage

_MOST_CHOICES = 2048


class Logprobs(Struct, gc=False):
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Message(Struct, gc=False):
    content: str | None = None


class Choice(Struct, gc=False):
    """`message` is in answers of gateways that lead prompts to chat models (portkey-191dc8b4dd)."""

    index: int | None = None
    text: str | None = None
    message: Message | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Piece(Struct, gc=False):
    """A chunk or a whole answer; Writer streams a bare `value` (writer-e80211a05e)."""

    id: str | None = None
    model: str | None = None
    created: int | float | str | None = None
    choices: list[Choice] | None = None
    value: str | None = None
    usage: Raw = NONE
    error: Raw = NONE
    detail: Raw = NONE


_piece = msgspec.json.Decoder(Piece).decode


def reader(stream: bool = True) -> ndjson.Reader:
    """A fresh reader for one answer, streamed or whole."""
    return ndjson.Reader(_Answer(), stream)


class _Answer:
    """One answer: how each of its choices ended, as far as that is known; usage may follow, so ends are told last."""

    def __init__(self) -> None:
        self.over = False
        self._told = False
        self._finish: dict[int, str | None] = {}

    def event(self, data: bytes, out: list[Event]) -> None:
        p = ndjson.decoded(_piece, data)
        if not p.choices and (is_there(p.error) or is_there(p.detail)):
            raise read_problem(200, data)
        if not self._told and (p.id or p.model):
            self._told = True
            out.append(Began(p.id, p.model, seconds(p.created)))
        if p.value:
            self._say(0, p.value, out)
        for position, c in enumerate(p.choices or ()):
            self._choice(position if c.index is None else c.index, c, out)
        usage = read_usage(p.usage) if is_there(p.usage) else None
        if usage is not None:
            out.append(Counted(usage))

    def whole(self, data: bytes, out: list[Event]) -> None:
        self.event(data, out)
        self.end(True, out)

    def end(self, marked: bool, out: list[Event]) -> None:
        if not marked and (not self._finish or None in self._finish.values()):
            raise truncated_answer()
        if not self._finish:
            raise invalid_answer(b"", "it has no choices")
        self.over = True
        for index, word in self._finish.items():
            out.append(Ended(FINISH.get(word) if word else None, word, index))

    def _choice(self, index: int, c: Choice, out: list[Event]) -> None:
        if not 0 <= index < _MOST_CHOICES:
            raise invalid_answer(b"", f"it has a choice number {index}")
        self._say(index, c.text or (c.message.content if c.message is not None else None), out)
        if c.logprobs is not None:
            _score(c.logprobs, index, out)
        if c.finish_reason:
            self._finish[index] = c.finish_reason

    def _say(self, index: int, text: str | None, out: list[Event]) -> None:
        self._finish.setdefault(index)
        if text:
            out.append(Said(text, index))


def _score(given: Logprobs, index: int, out: list[Event]) -> None:
    """The chat dialect's form; a token without a value, as an echoed first one, is left out."""
    content = [
        {**_scored(token, logprob), "top_logprobs": [_scored(t, n) for t, n in (top or {}).items()]}
        for token, logprob, top in zip_longest(given.tokens or (), given.token_logprobs or (), given.top_logprobs or ())
        if token is not None and logprob is not None
    ]
    if content:
        out.append(Scored(Raw(msgspec.json.encode(content)), index))


def _scored(token: str, logprob: float) -> dict[str, object]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
