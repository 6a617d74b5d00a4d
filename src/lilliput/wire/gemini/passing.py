"""A Gemini answer on its way to a Gemini client: pieces pass as they came, each checked, in the framing it asked for.

Nothing is translated here (that is `answer`).
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Problem, Target, Usage
from lilliput.wire import quirks, sse
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.gemini.call import nested
from lilliput.wire.gemini.chunk import ArraySplitter, Feedback, decoded, left
from lilliput.wire.gemini.problem import read_problem, write_problem
from lilliput.wire.gemini.types import Asked
from lilliput.wire.gemini.usage import Counts
from lilliput.wire.openai.chunk import NONE, is_there


class _Content(Struct, gc=False):
    parts: list[Raw] | None = None


class _Candidate(Struct, gc=False, rename="camel"):
    index: int | None = None
    content: _Content | None = None
    finish_reason: str | int | None = None


class _Piece(Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: Feedback | None = None
    usage_metadata: Raw = NONE
    error: Raw = NONE


_decode = msgspec.json.Decoder(_Piece).decode
_decode_all = msgspec.json.Decoder(_Piece | list[_Piece]).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def rewrite(fields: dict[str, Raw], asked: Asked, target: Target) -> bytes:
    """The caller's body for `target`: its model is in the path, so only the row's quirks change anything."""
    fields = {name: raw for name, raw in fields.items() if name != "model"}
    if target.rename or target.drop or target.clamp or target.force:
        for spelling in ("generationConfig", "generation_config"):
            inside = fields.pop(spelling, NONE)
            if is_there(inside):
                fields |= {f"generationConfig.{name}": raw for name, raw in _fields(inside).items()}
        return _encode(nested(quirks.apply(fields, target)))
    return _encode(fields)


def watch(asked: Asked) -> Watch:
    """A fresh watch over the streamed answer to `asked`."""
    return Watch(asked.sse)


class Watch:
    """One streamed answer: `feed` gives what may go to the client now, `end` what closes it.

    Nothing comes out before the first real output, so until `started` another provider can still be asked. There is
    no end mark: `done` is known at the end of the bytes, when each candidate that began gave its finish reason.
    """

    def __init__(self, as_events: bool) -> None:
        self._as_events = as_events
        self._splitter: sse.Splitter | ArraySplitter | None = None
        self._plain = bytearray()
        self._held: list[bytes] = []
        self._open: set[int] = set()
        self._over: set[int] = set()
        self._is_blocked = self._has_begun = False
        self._counts = Counts()
        self.started = self.done = False
        self.trouble: Problem | None = None

    @property
    def usage(self) -> Usage | None:
        return self._counts.usage()

    def feed(self, chunk: bytes) -> bytes:
        """What of `chunk` the client may see now, b"" while nothing real has come."""
        try:
            if self._splitter is None:
                start = chunk.lstrip()[:1]
                if start == b"{" or self._plain:  # plain JSON, as errors are
                    self._plain += chunk
                    if len(self._plain) > sse.MAX_EVENT_BYTES:
                        raise invalid_answer(chunk, f"it is over {sse.MAX_EVENT_BYTES} bytes")
                    return b""
                if not start:
                    return b""
                self._splitter = ArraySplitter() if start == b"[" else sse.Splitter()
            for piece in self._splitter.feed(chunk):
                self._piece(piece)
        except Problem as trouble:
            self.trouble = trouble
        return self._out()

    def end(self) -> bytes:
        """What closes the answer after the provider ended its body in good order; sets `trouble` if it is not whole."""
        splitter = self._splitter
        try:
            if splitter is None and self._plain:
                self._piece(bytes(self._plain))
            elif isinstance(splitter, ArraySplitter) and not splitter.is_over:
                raise truncated_answer()
            elif isinstance(splitter, sse.Splitter):
                for piece in left(splitter):
                    self._piece(piece)
            if not (self._over >= self._open if self._open else self._is_blocked):
                raise truncated_answer() if self._open or self._plain else invalid_answer(b"", "it is empty")
        except Problem as trouble:
            is_cut = trouble.code == "upstream_invalid" and self.started
            self.trouble = truncated_answer() if is_cut else trouble
            return self._out()
        self.done = True
        return self._out() + (b"" if self._as_events else b"]")

    def problem(self, p: Problem) -> bytes:
        """The piece that tells the client of `p`; nothing follows it."""
        return self._framed([write_problem(p)]) + (b"" if self._as_events else b"]")

    def _out(self) -> bytes:
        if not self.started or not self._held:
            return b""
        held, self._held = self._held, []
        return self._framed(held)

    def _framed(self, pieces: list[bytes]) -> bytes:
        if self._as_events:
            return b"".join(map(sse.event, pieces))
        start = b",\n" if self._has_begun else b"["
        self._has_begun = True
        return start + b",\n".join(pieces)

    def _piece(self, data: bytes) -> None:
        """Checks one piece and learns from it."""
        if data.strip() in (b"", sse.DONE):
            return
        piece = decoded(data, _decode)
        if is_there(piece.error):
            raise read_problem(200, data)
        if is_there(piece.usage_metadata):
            self._counts.add(piece.usage_metadata)
        for position, c in enumerate(piece.candidates or ()):
            index = position if c.index is None else c.index
            self._open.add(index)
            if c.finish_reason not in (None, "", 0):
                self._over.add(index)
                self.started = True
            elif c.content is not None and c.content.parts:
                self.started = True
        if piece.prompt_feedback is not None and piece.prompt_feedback.block_reason:
            self._is_blocked = self.started = True
        self._held.append(data.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in data or b"\r" in data else data)


def whole(status: int, body: bytes) -> Usage | None:
    """The usage of a whole answer, None without one.

    Raises Problem for a body that is no answer, and for an error inside a success.
    """
    found = decoded(body, _decode_all)
    counts = Counts()
    pieces = found if isinstance(found, list) else [found]
    for piece in pieces:
        if is_there(piece.error):
            raise read_problem(status, body)
        if is_there(piece.usage_metadata):
            counts.add(piece.usage_metadata)
    if not any(p.candidates or (p.prompt_feedback is not None and p.prompt_feedback.block_reason) for p in pieces):
        raise invalid_answer(body, "it has no candidates")
    return counts.usage()
