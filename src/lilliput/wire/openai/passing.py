"""An OpenAI answer on its way from a provider to an OpenAI client: bytes pass, and are watched.

The path where both sides speak the same dialect. Each event's JSON is checked and forwarded as it came; nothing is
translated here (that is `answer`). Only usage that the client did not ask for is taken out.
"""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta, Raw, Struct

from lilliput.neutral import Problem, Target, Usage
from lilliput.wire import quirks, sse
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.problem import read_problem, write_stream_problem
from lilliput.wire.openai.usage import Plain, counted, read_usage

_NULL_USAGE = b',"usage":null}'
_NO_USAGE = Raw(b"null")
_ASK_USAGE = Raw(b'{"include_usage":true}')


class _Choice(Struct, gc=False):
    index: int | None = 0
    finish_reason: str | int | None = None


class _FirstChoice(Struct, gc=False):
    index: int | None = 0
    finish_reason: str | int | None = None
    delta: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    text: str | None = None


class _Groq(Struct, gc=False):
    usage: Raw = _NO_USAGE


class _Chunk(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Raw = _NO_USAGE
    error: Any = None
    x_groq: _Groq | None = None


class _FirstChunk(Struct, gc=False):
    choices: list[_FirstChoice] | None = None
    usage: Raw = _NO_USAGE
    error: Any = None
    x_groq: _Groq | None = None


class _Whole(Struct, gc=False):
    choices: list[Raw] | None = None
    usage: Raw = _NO_USAGE
    error: Any = None


class _PlainWhole(Struct, gc=False):
    """An answer as nearly all are: with choices, and usage of the plainest kind."""

    choices: Annotated[list[Raw], Meta(min_length=1)]
    usage: Plain


_chunk = msgspec.json.Decoder(_Chunk).decode
_first = msgspec.json.Decoder(_FirstChunk).decode
_whole = msgspec.json.Decoder(_Whole).decode
_plain = msgspec.json.Decoder(_PlainWhole).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Options(Protocol):
    @property
    def include_usage(self) -> bool | None: ...


class _Asked(Protocol):
    @property
    def stream(self) -> bool | None: ...
    @property
    def stream_options(self) -> _Options | None: ...


def rewrite(fields: dict[str, Raw], asked: _Asked, target: Target) -> bytes:
    """The caller's body for `target`: its model's own name, usage of a stream asked for, the row's quirks applied."""
    out: dict[str, object] = {**fields, "model": target.model}
    if asked.stream and not _wants_usage(asked):
        options = fields.get("stream_options")
        if options is None or bytes(options) in (b"null", b"{}"):
            out["stream_options"] = _ASK_USAGE
        else:
            out["stream_options"] = _fields(options) | {"include_usage": True}
    return quirks.body(out, target)


def watch(asked: _Asked) -> Watch:
    """A fresh watch over the streamed answer to `asked`."""
    return Watch(_wants_usage(asked))


def _wants_usage(asked: _Asked) -> bool:
    options = asked.stream_options
    return bool(options is not None and options.include_usage)


class Watch:
    """One streamed answer: `feed` gives what may go to the client now, `end` what closes it.

    Nothing comes out before the first real output (a role or a ping is none), so until `started` another provider
    can still be asked. When the stream proves bad, `trouble` says how; bytes fed before that are good.
    A finish reason for every choice proves that the answer is whole, and so does the provider's own [DONE].
    """

    __slots__ = ("_ask_usage", "_held", "_open", "_over", "_splitter", "_usage", "done", "late", "started",
                 "trouble")  # fmt: skip

    def __init__(self, client_wants_usage: bool) -> None:
        self._ask_usage = client_wants_usage
        self._splitter = sse.Splitter()
        self._held: list[bytes] = []
        self._open: set[int | None] = set()
        self._over: set[int | None] = set()
        self.started = self.done = False
        self.late = 0
        self.trouble: Problem | None = None
        self._usage: Raw | None = None

    @property
    def usage(self) -> Usage | None:
        return None if self._usage is None else read_usage(self._usage)

    def problem(self, p: Problem) -> bytes:
        """The event that tells the client of `p`; nothing follows it."""
        return write_stream_problem(p)

    def feed(self, chunk: bytes) -> bytes:
        """What of `chunk` the client may see now, b"" while nothing real has come."""
        out = self._held
        try:
            for data in self._splitter.feed(chunk):
                if self.done:
                    self.late += 1
                elif data == sse.DONE:
                    if not self.started and not self._held and self._usage is None:
                        raise invalid_answer(b"", "it is empty")
                    self.done = self.started = True
                    out.append(data)
                else:
                    self._event(data, out)
        except Problem as trouble:
            self.trouble = trouble
        if not self.started or not out:
            return b""
        self._held = []
        return b"data: %b\n\n" % b"\n\ndata: ".join(out)

    def end(self) -> bytes:
        """What closes the answer at the end of the provider's bytes; sets `trouble` if it is not whole."""
        out = b""
        if not self.done and self._splitter.rest:
            out = self.feed(b"\n\n")
            if self.trouble:
                self.trouble = truncated_answer()
        if self.done or self.trouble:
            return out
        if not self._over >= self._open or not self._over:
            came = self.started or self._held or self._usage is not None
            self.trouble = truncated_answer() if came else invalid_answer(b"", "it is empty")
            return out
        return out + self.feed(sse.event(sse.DONE))

    def _event(self, data: bytes, out: list[bytes]) -> None:
        """Checks one event, learns from it, and adds it to `out` unless the client is not to see it."""
        try:
            if not data.isascii():
                data.decode()  # the decoder does not look at what it skips
            chunk = _chunk(data) if self.started else _first(data)
        except msgspec.ValidationError:
            chunk = _loose(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise invalid_answer(data) from None
        choices, usage = chunk.choices, chunk.usage
        if not choices and chunk.error is not None:
            raise read_problem(200, data)
        if chunk.x_groq is not None and bytes(usage) == b"null":
            usage = chunk.x_groq.usage
        if usage is not _NO_USAGE and bytes(usage) != b"null":
            self._usage = Raw(bytes(usage))
            if not choices and not self._ask_usage:
                return
        elif not self._ask_usage and data.endswith(_NULL_USAGE):
            data = data[: -len(_NULL_USAGE)] + b"}"
        for choice in choices or ():
            self._open.add(choice.index)
            if choice.finish_reason is not None and choice.finish_reason != "":
                self._over.add(choice.index)
                self.started = True
            elif not self.started and isinstance(choice, _FirstChoice):
                self.started = _says(choice)
        out.append(data.replace(b"\n", b" ") if sse.LF in data else data)


def whole(status: int, body: bytes) -> Usage | None:
    """The usage of a unary chat answer, None without one; a plain one has no `given`, for nobody writes it again.

    Raises Problem for a body that is no JSON object, for an error inside a 200 and for an answer without choices.
    """
    try:
        if not body.isascii():
            body.decode()
        try:
            usage = counted(_plain(body).usage)
        except msgspec.ValidationError:
            usage = None
        if usage is not None:
            return usage
        reply = _whole(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise invalid_answer(body) from None
    if not reply.choices:
        if reply.error is not None:
            raise read_problem(status, body)
        if reply.choices is None:
            raise invalid_answer(body, "it has no choices")
    return None if reply.usage is _NO_USAGE else read_usage(reply.usage)


def _says(choice: _FirstChoice) -> bool:
    """True when a chunk of an answer carries more than its role: text, reasoning, a tool call, sound."""
    if choice.text:
        return True  # a legacy completion's
    for part in (choice.delta, choice.message):
        if part is not None and any(value for name, value in part.items() if name != "role"):
            return True
    return False


def _loose(data: bytes) -> _FirstChunk:
    """A chunk whose JSON is good but whose types are odd: only what is plainly there is taken."""
    try:
        fields = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise invalid_answer(data) from None
    if not isinstance(fields, dict):
        raise invalid_answer(data, "it is no object")
    choices = fields.get("choices")
    usage = fields.get("usage")
    given = Raw(_encode(usage)) if isinstance(usage, dict) else _NO_USAGE
    chunk = _FirstChunk(error=fields.get("error"), usage=given, choices=[])
    for c in choices if isinstance(choices, list) else ():
        if isinstance(c, dict) and chunk.choices is not None:
            finish, delta, index = c.get("finish_reason"), c.get("delta"), c.get("index")
            finish = finish if isinstance(finish, str | int) else None
            index = index if isinstance(index, int) else 0
            chunk.choices.append(_FirstChoice(index, finish, delta if isinstance(delta, dict) else {"": delta}))
    return chunk
