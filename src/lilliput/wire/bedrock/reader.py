"""The bytes of a Bedrock answer, whole or as an event stream, given piece by piece to who knows what they say.

Shared by Converse and InvokeModel. Exceptions that stand in a stream are told here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import msgspec

from lilliput.neutral import Event, Problem
from lilliput.wire.bedrock import eventstream
from lilliput.wire.openai.answer import MOST_BYTES
from lilliput.wire.openai.problem import invalid_answer, read_problem, truncated_answer

T = TypeVar("T")

_STATUS = {
    "accessDeniedException": 403,
    "internalServerException": 500,
    "modelErrorException": 424,
    "modelNotReadyException": 429,
    "modelStreamErrorException": 424,
    "modelTimeoutException": 408,
    "resourceNotFoundException": 404,
    "serviceQuotaExceededException": 429,
    "serviceUnavailableException": 503,
    "throttlingException": 429,
    "validationException": 400,
}
"""An exception in a stream -> the HTTP status that it has by itself (botocore 1.44.5's service model)."""


class Turn(Protocol):
    """What an answer has said so far; each method adds the events that are new to `out`, and raises only Problem."""

    @property
    def done(self) -> bool:
        """The answer said that it is over: what follows is not looked at."""
        ...

    def event(self, kind: str, data: bytes, out: list[Event]) -> None: ...
    def whole(self, data: bytes, out: list[Event]) -> None: ...
    def end(self, out: list[Event]) -> None:
        """The bytes are over; raises "upstream_truncated" unless the answer is whole."""
        ...


class Reader:
    """A reader (see `port.Reader`) for one answer."""

    def __init__(self, turn: Turn, stream: bool) -> None:
        self.done = False
        self.trouble: Problem | None = None
        self._turn = turn
        self._splitter = eventstream.Splitter() if stream else None
        self._whole: list[bytes] = []
        self._whole_bytes = 0
        self._began = self._is_over = False

    def __call__(self, data: bytes) -> list[Event]:
        if self.trouble is not None:
            raise self.trouble
        events: list[Event] = []
        try:
            if data:
                self._feed(data, events)
            elif not self._is_over:
                self._is_over = True
                self._end(events)
        except Problem as trouble:
            self.trouble = trouble
            if not events:
                raise
        return events

    def _feed(self, data: bytes, out: list[Event]) -> None:
        if not self._began:
            self._began = True
            if data[:1] in b"{[":  # plain JSON though a stream was asked for; no message of a stream is that long
                self._splitter = None
        turn = self._turn
        if self._splitter is None:
            self._whole.append(data)
            self._whole_bytes += len(data)
            if self._whole_bytes > MOST_BYTES:
                raise invalid_answer(self._whole[0], f"it is over {MOST_BYTES} bytes")
        elif not turn.done:
            for message in self._splitter.feed(data):
                kind = message.headers.get(":event-type")
                if kind is None:
                    raise _exception(message.headers, message.payload)
                turn.event(kind, message.payload, out)
                if turn.done:
                    break

    def _end(self, out: list[Event]) -> None:
        if self._splitter is None:
            data = b"".join(self._whole)
            if not data.strip():
                raise truncated_answer()
            self._turn.whole(data, out)
        elif not self._turn.done:
            if not self._splitter.is_between:
                raise truncated_answer()
            self._turn.end(out)


def parsed(decode: Callable[[bytes], T], data: bytes) -> T:
    """`decode(data)`; raises Problem for what is no JSON, is cut short or has other types."""
    try:
        value = decode(data)
        if not data.isascii():
            data.decode()  # the decoder does not look at what it skips
    except msgspec.ValidationError as e:
        raise invalid_answer(data, str(e)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        if str(e) == "Input data was truncated":
            raise truncated_answer() from None
        raise invalid_answer(data) from None
    return value


def _exception(headers: Mapping[str, str], payload: bytes) -> Problem:
    """A message that is no event: an exception with its JSON, or an error that its headers tell."""
    kind = headers.get(":exception-type") or headers.get(":error-code") or "error"
    if not payload:
        payload = headers.get(":error-message", "").encode()
    problem = read_problem(_STATUS.get(kind[:1].lower() + kind[1:], 502), payload)
    problem.kind = kind[:200]
    return problem
