"""An Anthropic answer on its way from a provider to a client of the same dialect: bytes pass, and are watched."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Problem, Target, Usage
from lilliput.wire import quirks, sse
from lilliput.wire.anthropic.call import addressed
from lilliput.wire.anthropic.problem import read_problem, write_stream_problem
from lilliput.wire.anthropic.usage import merged, read_usage
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.port import Asked

_NONE = Raw()
_NULL = (b"", b"null")


class _Message(Struct, gc=False):
    usage: Raw = _NONE


class _Block(Struct, gc=False):
    type: str | None = None


class _Event(Struct, gc=False):
    type: str | None = None
    content_block: _Block | None = None
    message: _Message | str | None = None
    usage: Raw = _NONE
    error: Raw = _NONE


class _Whole(Struct, gc=False):
    content: list[Raw] | None = None
    usage: Raw = _NONE
    type: str | None = None
    error: Raw = _NONE


_event = msgspec.json.Decoder(_Event).decode
_whole = msgspec.json.Decoder(_Whole).decode


def rewrite(fields: dict[str, Raw], asked: Asked, target: Target) -> bytes:
    """The caller's own body with the model's name at the target and its quirks; usage comes unasked."""
    return quirks.body(addressed(fields, target), target)


def watch(asked: Asked) -> Watch:
    """A fresh watch over one streamed answer."""
    return Watch()


class Watch:
    """One streamed answer: see `port.Watch`. What opens a block of text or thinking is no output yet."""

    def __init__(self) -> None:
        self.started = self.done = False
        self.trouble: Problem | None = None
        self._splitter = sse.Splitter()
        self._held: list[bytes] = []
        self._came = False
        self._usages: list[bytes] = []

    @property
    def usage(self) -> Usage | None:
        """What is known so far; later figures stand over earlier ones."""
        if not self._usages:
            return None
        if len(self._usages) > 1:
            self._usages = [merged(*self._usages)]
        return read_usage(self._usages[0])

    def feed(self, chunk: bytes) -> bytes:
        """What of `chunk` the client may see now, b"" while nothing real has come."""
        out = self._held
        try:
            for data in self._splitter.feed(chunk):
                if not self.done:
                    self._read(data, out)
        except Problem as trouble:
            self.trouble = trouble
        if not self.started or not out:
            return b""
        self._held = []
        return b"".join(out)

    def end(self) -> bytes:
        """What is left after the provider ended its body; sets `trouble` where the answer is not over."""
        out = b""
        if not self.done and self.trouble is None:
            if self._splitter.rest:
                out = self.feed(b"\n\n")
            if self.trouble is not None and self.trouble.code == "upstream_invalid":
                self.trouble = truncated_answer()
            if not self.done and self.trouble is None:
                self.trouble = truncated_answer() if self._came else invalid_answer(b"", "it is empty")
        return out

    def problem(self, p: Problem) -> bytes:
        """The last word of an answer that went wrong."""
        return write_stream_problem(p)

    def _read(self, data: bytes, out: list[bytes]) -> None:
        """Checks one event, learns from it, and adds it to `out`."""
        if not data.strip():
            return
        try:
            if not data.isascii():
                data.decode()  # the decoder does not look at what it skips
            e = _event(data)
        except msgspec.ValidationError as wrong:
            raise invalid_answer(data, str(wrong)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise invalid_answer(data) from None
        kind = e.type
        self._came = True
        if kind == "content_block_delta":
            self.started = True
        elif kind == "content_block_start":
            self.started = self.started or (
                e.content_block is not None and e.content_block.type not in ("text", "thinking")
            )
        elif kind == "message_start":
            if isinstance(e.message, _Message):
                self._learn(e.message.usage)
        elif kind == "message_delta":
            self._learn(e.usage)
            self.started = True
        elif kind == "message_stop":
            self.done = self.started = True
        elif kind is None or kind == "error":
            raise read_problem(200, data)
        if kind.isidentifier():  # a name with a line break would forge events
            line = data.replace(b"\n", b" ") if sse.LF in data else data
            out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), line))

    def _learn(self, usage: Raw) -> None:
        if bytes(usage) not in _NULL:
            self._usages.append(bytes(usage))


def whole(status: int, body: bytes) -> Usage | None:
    """The usage in a whole message; raises Problem for what is none, or an error in a success."""
    try:
        if not body.isascii():
            body.decode()
        reply = _whole(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise invalid_answer(body) from None
    if reply.content is None:
        if reply.type == "error" or bytes(reply.error) not in _NULL:
            raise read_problem(200, body)
        raise invalid_answer(body, "it has no content")
    return read_usage(reply.usage) if bytes(reply.usage) not in _NULL else None
