"""A provider's Anthropic answer as events: a stream of named events, or one whole message.

Blocks of server-side tools (searches, code runs, their results) have no neutral form and are skipped, as are
citations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Counted,
    Ended,
    Event,
    Finish,
    Said,
    Thought,
)
from lilliput.wire import sse
from lilliput.wire.anthropic.problem import read_problem
from lilliput.wire.anthropic.usage import merged, read_usage
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.families import ANTHROPIC
from lilliput.wire.reading import Shell

T = TypeVar("T")

FINISH: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "compaction": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Anthropic's stop reasons. A word that is not here has no meaning for us and is passed on."""

_NONE = Raw()
_NULL = (b"", b"null")
_NO_INPUT = (b"", b"null", b"{}")
_MOST_BLOCKS = 4096


class Block(Struct, gc=False):
    """A content block, whole or as it opens."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = _NONE


class _Delta(Struct, gc=False):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | int | None = None


class _Message(Struct, gc=False):
    """A whole message, or the one that `message_start` brings."""

    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: list[Block] | None = None
    stop_reason: str | int | None = None
    usage: Raw = _NONE


class _Event(Struct, gc=False):
    type: str | None = None
    index: int | None = None
    delta: _Delta | None = None
    content_block: Block | None = None
    message: _Message | str | None = None
    usage: Raw = _NONE
    error: Raw = _NONE


class _OpenBlock(Struct, gc=False):
    """A block under way: the number of its call, if it is one for the caller, and the input that it came with."""

    call: int | None
    input: bytes


_event = msgspec.json.Decoder(_Event).decode
_message = msgspec.json.Decoder(_Message).decode


def reader(stream: bool = True) -> Reader:
    """A fresh reader for one answer, streamed or whole."""
    return Reader(stream)


class Reader(Shell[bytes]):
    """Feed it the bytes as they come, then b"" at their end: see `port.Reader`.

    Where something else has split the events already, give each one's JSON to `event` and call `end` at the end.
    """

    def __init__(self, stream: bool) -> None:
        super().__init__(sse.Splitter() if stream else None)
        self._blocks: dict[int, _OpenBlock] = {}
        self._latest = 0
        self._opened = self._calls = 0
        self._message_id = ""
        self._ids: set[str] = set()
        self._finish: str | None = None
        self._usages: list[bytes] = []

    def event(self, data: bytes) -> list[Event]:
        """The events in one event's JSON; raises Problem."""
        out: list[Event] = []
        self._event(data, out)
        return out

    def end(self) -> list[Event]:
        """At the end of the events: raises Problem (upstream_truncated) unless the last one has come."""
        if not self.done:
            raise truncated_answer()
        return []

    def _end(self, splitter: sse.Splitter, out: list[Event]) -> None:
        for data in splitter.end():
            self._last(data, out)
        self.end()

    # -- a stream ------------------------------------------------------------------------------------------------

    def _event(self, data: bytes, out: list[Event]) -> None:
        if self.done or not data.strip():
            return
        e = _parsed(_event, data)
        kind = e.type
        if kind == "content_block_delta":
            if e.delta is None:
                return
            if e.delta.type == "text_delta":
                if e.delta.text:
                    out.append(Said(e.delta.text))
            else:
                self._delta(e.delta, e.index, data, out)
        elif kind == "content_block_start":
            self._start(e.content_block or Block(), self._latest + 1 if e.index is None else e.index, out)
        elif kind == "content_block_stop":
            self._stop(self._latest if e.index is None else e.index, out)
        elif kind == "message_delta":
            if e.delta is not None and e.delta.stop_reason not in (None, ""):
                self._finish = str(e.delta.stop_reason)
            self._count(e.usage, out)
        elif kind == "message_start":
            if isinstance(e.message, _Message):
                self._begin(e.message, out)
        elif kind == "message_stop":
            self._finished(out)
        elif kind is None or kind == "error":
            raise read_problem(200, data)

    def _begin(self, m: _Message, out: list[Event]) -> None:
        self._message_id = m.id or ""
        out.append(Began(m.id or None, m.model or None))
        for i, block in enumerate(m.content or ()):
            self._start(block, i, out)
            self._stop(i, out)
        self._count(m.usage, out)

    def _start(self, b: Block, index: int, out: list[Event]) -> None:
        if index in self._blocks:
            self._stop(index, out)  # an index used twice opens a new block
        self._latest = index
        self._opened += 1
        if self._opened > _MOST_BLOCKS:
            raise invalid_answer(b"", f"it has over {_MOST_BLOCKS} blocks")
        kind, call = b.type, None
        if kind == "tool_use":
            call = self._calls
            self._calls += 1
            call_id = b.id if b.id and b.id not in self._ids else f"toolu_{self._message_id[-12:]}_{call}"
            self._ids.add(call_id)
            out.append(Called(call, call_id, b.name or ""))
        elif kind == "text" and b.text:
            out.append(Said(b.text))
        elif kind == "thinking" and (b.thinking or b.signature):
            out.append(Thought(b.thinking or "", signature=b.signature or None, family=ANTHROPIC))
        elif kind == "redacted_thinking":
            out.append(Thought(sealed=b.data or "", family=ANTHROPIC))
        self._blocks[index] = _OpenBlock(call, bytes(b.input))

    def _delta(self, d: _Delta, index: int | None, data: bytes, out: list[Event]) -> None:
        kind = d.type
        if kind == "input_json_delta":
            if d.partial_json:
                block = self._blocks.get(self._latest if index is None else index)
                if block is None:
                    raise invalid_answer(data, "it has arguments without a call")
                if block.call is not None:
                    block.input = b""
                    out.append(Argued(block.call, d.partial_json))
        elif kind == "thinking_delta":
            if d.thinking:
                out.append(Thought(d.thinking, family=ANTHROPIC))
        elif kind == "signature_delta" and d.signature:
            out.append(Thought(signature=d.signature, family=ANTHROPIC))

    def _stop(self, index: int, out: list[Event]) -> None:
        """A call's block may have brought its whole input as it opened."""
        block = self._blocks.pop(index, None)
        if block is not None and block.call is not None and block.input not in _NO_INPUT:
            out.append(Argued(block.call, block.input.decode("utf-8", "replace")))

    def _count(self, usage: Raw, out: list[Event]) -> None:
        """Later figures stand over earlier ones: `message_delta` repeats and corrects those of `message_start`."""
        given = bytes(usage)
        if given in _NULL:
            return
        self._usages.append(given)
        if len(self._usages) > 1:
            self._usages = [merged(*self._usages)]
        counted = read_usage(self._usages[0])
        if counted is not None:
            out.append(Counted(counted))

    def _finished(self, out: list[Event]) -> None:
        if self._blocks:
            for index in sorted(self._blocks):
                self._stop(index, out)
        self.done = True
        out.append(Ended(FINISH.get(self._finish) if self._finish else None, self._finish))

    # -- a whole answer ------------------------------------------------------------------------------------------

    def _answer(self, data: bytes, out: list[Event]) -> None:
        if not data.strip():
            raise truncated_answer()
        m = _parsed(_message, data)
        if m.content is None:
            raise read_problem(200, data) if _is_error(data) else invalid_answer(data, "it has no content")
        self._finish = str(m.stop_reason) if m.stop_reason not in (None, "") else None
        self._begin(m, out)
        self._finished(out)


def _is_error(data: bytes) -> bool:
    e = _parsed(_event, data)
    return e.type == "error" or bytes(e.error) not in _NULL


def _parsed(decode: Callable[[bytes], T], data: bytes) -> T:
    """`decode(data)`; raises Problem for what is no JSON, is cut short or has other types."""
    try:
        return decode(data)
    except msgspec.ValidationError as e:
        raise invalid_answer(data, str(e)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        if str(e) == "Input data was truncated":
            raise truncated_answer() from None
        raise invalid_answer(data) from None
