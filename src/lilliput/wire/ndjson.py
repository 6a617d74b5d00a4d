"""Newline-delimited JSON, and the outer half of a reader: bytes in, one document at a time to what understands it.

Framing only, as `sse` is: what a document means belongs to each dialect's own module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from lilliput.neutral import Argued, Called, Event, Problem
from lilliput.wire import sse
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.chunk import Call, Function, arguments
from lilliput.wire.reading import Shell

T = TypeVar("T")
_MOST_CALLS = 1024


class Splitter:
    """The lines so far that are not empty, however the bytes are cut; one past 16 MiB raises Problem."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes."""
        end = chunk.rfind(b"\n")
        if end == len(chunk) - 1 and not self._parts:
            return [line for line in chunk.split(b"\n") if line]
        if end < 0:
            self._keep(chunk)
            return []
        self._parts.append(chunk[:end])
        lines = self.end()
        self._keep(chunk[end + 1 :])
        return lines

    @property
    def rest(self) -> bytes:
        """What has come of a line that has not ended."""
        return b"".join(self._parts)

    def end(self) -> list[bytes]:
        """At the end of the bytes: a last line that lacks its line break."""
        lines = [line for line in self.rest.split(b"\n") if line]
        self._parts.clear()
        self._size = 0
        return lines

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._parts.append(piece)
            self._size += len(piece)
            if self._size > sse.MAX_EVENT_BYTES:
                raise Problem(
                    "provider", f"the provider sent a line of over {sse.MAX_EVENT_BYTES} bytes", code="upstream_invalid"
                )


class Answer(Protocol):
    """What one answer's documents mean. No event is asked of it once it is `over`."""

    over: bool

    def event(self, data: bytes, out: list[Event]) -> None: ...
    def whole(self, data: bytes, out: list[Event]) -> None: ...
    def end(self, marked: bool, out: list[Event]) -> None:
        """The end of the bytes of an answer not yet over; `marked` when [DONE] came. Raises Problem when it is cut."""
        ...


class Reader(Shell[bytes]):
    """A reader as `port.Reader` has it, around an `Answer`.

    `lines` says that a stream which begins as a JSON object has one on each line; without it that is a whole answer.
    """

    def __init__(self, answer: Answer, stream: bool, lines: bool = False) -> None:
        super().__init__(sse.Splitter() if stream else None)
        self._told = answer
        self._lines = lines
        self._marked = False

    def _look(self, data: bytes) -> None:
        was_stream = self._splitter is not None
        super()._look(data)
        if was_stream and self._splitter is None and self._lines:
            self._splitter = Splitter()

    def _event(self, document: bytes, out: list[Event]) -> None:
        if self._told.over or self._marked:
            return
        if document == sse.DONE:
            self._marked = True
        elif document and not document.isspace():
            self._told.event(document, out)

    def _answer(self, data: bytes, out: list[Event]) -> None:
        self._told.whole(data, out)

    def _end(self, splitter: Splitter | sse.Splitter, out: list[Event]) -> None:
        if not (self._told.over or self._marked):
            rest = [line for line in splitter.rest.splitlines() if line.strip() and line[:1] != b":"]
            left = splitter.end()
            for document in left:
                self._last(document, out)
            if rest and not left:
                raise truncated_answer()
        if not self._told.over:
            self._told.end(self._marked, out)


def decoded(decode: Callable[[bytes], T], data: bytes) -> T:
    """`decode(data)`; raises Problem for what is no JSON, is cut short or has other types."""
    try:
        if not data.isascii():
            data.decode()  # the decoder does not look at what it skips
        return decode(data)
    except msgspec.ValidationError as e:
        raise invalid_answer(data, str(e)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        if str(e).endswith(("Input data was truncated", "unexpected end of data")):
            raise truncated_answer() from None
        raise invalid_answer(data) from None


class Calls:
    """The tool calls of one answer: numbered, each with an id of its own."""

    def __init__(self) -> None:
        self.count = 0
        self._ids: set[str] = set()

    def open(self, call: Call, answer_id: str | None, out: list[Event]) -> int:
        """The number of the next call, told with the arguments that came with it.

        One without an id, or with an earlier call's, gets one made of the answer's.
        """
        f = call.function
        if f is None or not f.name:
            raise invalid_answer(b"", "it has a tool call without a name")
        if self.count >= _MOST_CALLS:
            raise invalid_answer(b"", f"it has over {_MOST_CALLS} tool calls")
        call_id = "" if call.id is None else str(call.id)
        if not call_id or call_id in self._ids:
            mark = "".join(c for c in answer_id or "" if c.isalnum())[-12:]
            call_id = "_".join(filter(None, ("call", mark, str(self.count))))
            while call_id in self._ids:
                call_id += "_"
        self._ids.add(call_id)
        number = self.count
        self.count += 1
        out.append(Called(number, call_id, f.name))
        argue(number, f, out)
        return number


def argue(number: int, f: Function, out: list[Event]) -> None:
    """More arguments of a call, if there are any."""
    text = arguments(f)
    if text:
        out.append(Argued(number, text))
