"""A provider's Responses answer as events: its stream, or the whole object, which is a stream of its items.

Tools that ran on the provider's servers are passed over: their calls are not the caller's to answer.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Counted,
    Ended,
    Event,
    Media,
    Problem,
    Refused,
    Said,
    Scored,
    Shown,
    Thought,
    ToolKind,
)
from lilliput.wire import families, sse
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.reading import Shell
from lilliput.wire.responses import chunk
from lilliput.wire.responses.usage import read_usage

_MOST_ITEMS = 1024
_CALLS: dict[str | None, ToolKind] = {"function_call": "function", "custom_tool_call": "custom"}
_OPENING = ("response.created", "response.in_progress", "response.queued")
_CLOSING = ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done")


class _Open(Struct):
    """An item under way: the number of its call, and whether its text, refusal or arguments came in pieces."""

    call: int = -1
    said: bool = False
    refused: bool = False
    thought: bool = False
    argued: bool = False
    done: bool = False


def reader(stream: bool = True) -> Reader:
    """A fresh reader for one answer, streamed or whole."""
    return Reader(stream)


class Reader(Shell[bytes]):
    """See `port.Reader`. What an item's pieces did not tell is taken from the item when it is done, and an item that
    was never announced from the response that closes the stream: each thing once."""

    def __init__(self, stream: bool) -> None:
        super().__init__(sse.Splitter() if stream else None)
        self._told = Began()
        self._items: dict[int, _Open] = {}
        self._ids: set[str] = set()
        self._latest = 0

    def _end(self, splitter: sse.Splitter, out: list[Event]) -> None:
        for data in splitter.end():
            self._last(data, out)
        if not self.done:
            raise truncated_answer()

    def _answer(self, data: bytes, out: list[Event]) -> None:
        a = chunk.parsed(data)
        if a.output is None and a.status is None:
            if chunk.is_there(a.error) or chunk.is_there(a.detail) or chunk.is_there(a.message):
                raise read_problem(200, data)
            raise invalid_answer(data, "it has no output")
        self._finish(a, out)

    def _event(self, data: bytes, out: list[Event]) -> None:
        if self.done or data.strip() in (b"", sse.DONE):
            return
        e = _parsed(data)
        if e is None:
            return
        name = e.type
        if name == "response.output_text.delta":
            if e.delta:
                self._at(e).said = True
                out.append(Said(e.delta))
            if e.logprobs:
                out.append(_scored(e.logprobs))
        elif name in ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta"):
            self._argue(e, e.delta, out)
        elif name in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            if e.delta:
                self._at(e).thought = True
                out.append(Thought(e.delta, family=families.OPENAI))
        elif name == "response.refusal.delta":
            if e.delta:
                self._at(e).refused = True
                out.append(Refused(e.delta))
        elif name == "response.output_item.added":
            item = chunk.item(e.item)
            if item.type in _CALLS and item.name:
                self._call(self._at(e), item, out)
            else:
                self._at(e)
        elif name == "response.output_item.done":
            self._item(self._at(e), chunk.item(e.item), out)
        elif name in _CLOSING:
            a = e.response or chunk.Answer()
            a.status = a.status or name.removeprefix("response.")
            self._finish(a, out)
        elif name in _OPENING:
            self._begin(e.response or chunk.Answer(), out)
        elif name == "error" or (name is None and chunk.is_there(e.error)):
            raise refused(data)

    def _at(self, e: chunk.Event) -> _Open:
        """The item that `e` is about; an event that names none is about the latest."""
        number = self._latest if e.output_index is None else e.output_index
        self._latest = number
        item = self._items.get(number)
        if item is None:
            if len(self._items) >= _MOST_ITEMS:
                raise invalid_answer(b"", f"it has over {_MOST_ITEMS} items")
            item = self._items[number] = _Open()
        return item

    def _argue(self, e: chunk.Event, text: str | None, out: list[Event]) -> None:
        item = self._at(e)
        if text and item.call >= 0:
            item.argued = True
            out.append(Argued(item.call, text))

    def _begin(self, a: chunk.Answer, out: list[Event]) -> None:
        told = self._told
        if told.id and told.model:
            return
        created = int(a.created_at) if a.created_at and 0 < a.created_at < 1e12 else None
        said = Began(told.id or a.id or None, told.model or a.model or None, told.created or created)
        if (said.id, said.model) != (told.id, told.model):
            self._told = said
            out.append(said)

    def _finish(self, a: chunk.Answer, out: list[Event]) -> None:
        """The answer is over: what has not been told yet, its usage, and how it ended."""
        self._begin(a, out)
        items = a.output or []
        if sum(o.done for o in self._items.values()) < len(items):
            for number, raw in enumerate(items):
                self._item(self._at(chunk.Event(output_index=number)), chunk.item(raw), out)
        if chunk.is_there(a.usage) and (usage := read_usage(a.usage)) is not None:
            out.append(Counted(usage))
        if a.status == "failed" or chunk.is_there(a.error):
            raise failed(a.error)
        self.done = True
        native = a.status
        if native == "completed":
            out.append(Ended("tool_calls" if self._ids else "stop", native))
            return
        if native == "incomplete" and a.incomplete_details is not None:
            native = a.incomplete_details.reason or native
        out.append(Ended(chunk.FINISH.get(native) if native else None, native))

    def _item(self, o: _Open, item: chunk.Item, out: list[Event]) -> None:
        """An item that is done: what its pieces did not tell."""
        if o.done:
            return
        o.done = True
        if item.type == "message":
            parts = [chunk.Part(text=item.content)] if isinstance(item.content, str) else item.content or ()
            for p in parts:
                if p.text and not o.said:
                    out.append(Said(p.text))
                    if p.logprobs:
                        out.append(_scored(p.logprobs))
                if p.refusal and not o.refused:
                    out.append(Refused(p.refusal))
        elif item.type == "reasoning":
            content = item.content if isinstance(item.content, list) else ()
            text = "".join(p.text or "" for p in (*(item.summary or ()), *content))
            if text and not o.thought:
                out.append(Thought(text, family=families.OPENAI))
            if item.encrypted_content:
                out.append(Thought(sealed=item.encrypted_content, family=families.OPENAI))
        elif item.type in _CALLS:
            if o.call < 0:
                self._call(o, item, out)
            text = chunk.arguments(item.input if item.type == "custom_tool_call" else item.arguments)
            if text and not o.argued:
                out.append(Argued(o.call, text))
        elif item.type == "image_generation_call" and isinstance(item.result, str) and item.result:
            out.append(Shown(Media("image", mime=f"image/{item.output_format or 'png'}", data=item.result)))

    def _call(self, o: _Open, item: chunk.Item, out: list[Event]) -> None:
        """Calls without an id, or with one that another has, get their own: the result must name one of them."""
        if not item.name:
            raise invalid_answer(b"", "it has a tool call without a name")
        o.call = len(self._ids)
        call_id = item.call_id or item.id or ""
        if not call_id or call_id in self._ids:
            answer = "".join(c for c in self._told.id or "" if c.isalnum())[-12:]
            call_id = "_".join(word for word in ("call", answer, f"{o.call}") if word)
        self._ids.add(call_id)
        out.append(Called(o.call, call_id, item.name, kind=_CALLS[item.type]))


def _parsed(data: bytes) -> chunk.Event | None:
    """The event in `data`; None for one of a type that we do not read, whatever else is in it."""
    try:
        return chunk.event(data)
    except msgspec.ValidationError as e:
        why = str(e)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise invalid_answer(data) from None
    try:
        name = chunk.kind(data).type
    except msgspec.MsgspecError:
        name = "error"
    if name == "error":
        raise refused(data)
    if name in _READ:
        raise invalid_answer(data, why)
    return None


_READ = {
    *_OPENING,
    *_CLOSING,
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.delta",
    "response.refusal.delta",
    "response.reasoning_text.delta",
    "response.reasoning_summary_text.delta",
    "response.function_call_arguments.delta",
    "response.custom_tool_call_input.delta",
    None,
}


def failed(error: Raw) -> Problem:
    """What a response that failed says of it."""
    known = bytes(error) if chunk.is_there(error) else b'{"message":"the provider says that it failed"}'
    return read_problem(200, b'{"error":%b}' % known)


def refused(data: bytes) -> Problem:
    """An `error` event, whose type word says nothing."""
    p = read_problem(200, data)
    if p.kind == "error":
        p.kind = None
    return p


def _scored(tokens: list[Raw]) -> Scored:
    return Scored(Raw(b"[" + b",".join(bytes(t) for t in tokens) + b"]"))
