"""The bytes of a Bedrock answer, whole or as an event stream, given piece by piece to who knows what they say.

Shared by Converse and InvokeModel. Exceptions that stand in a stream are told here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

import msgspec

from lilliput.neutral import Event, Problem
from lilliput.wire.bedrock import eventstream
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.reading import Shell, Splitter

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


class Reader(Shell[eventstream.Message]):
    """A reader (see `port.Reader`) for one answer."""

    def __init__(self, turn: Turn, stream: bool) -> None:
        super().__init__(eventstream.Splitter() if stream else None)
        self._turn = turn

    def _pieces(self, splitter: Splitter[eventstream.Message], data: bytes) -> Iterator[eventstream.Message]:
        if not self._turn.done:
            for message in splitter.feed(data):
                yield message
                if self._turn.done:
                    return  # what follows the end may be anything

    def _event(self, message: eventstream.Message, out: list[Event]) -> None:
        kind = message.headers.get(":event-type")
        if kind is None:
            raise _exception(message.headers, message.payload)
        self._turn.event(kind, message.payload, out)

    def _answer(self, data: bytes, out: list[Event]) -> None:
        self._turn.whole(data, out)

    def _end(self, splitter: eventstream.Splitter, out: list[Event]) -> None:
        if not self._turn.done:
            if not splitter.is_between:
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
