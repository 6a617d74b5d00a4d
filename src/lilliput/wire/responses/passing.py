"""A Responses answer on its way from a provider to a client of the same dialect: bytes pass, and are watched.

Each event's JSON is checked and forwarded as it came; nothing is translated here (that is `answer`).
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Problem, Target, Usage
from lilliput.wire import families, quirks, sse
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.port import Asked
from lilliput.wire.responses import chunk
from lilliput.wire.responses.answer import failed, refused
from lilliput.wire.responses.call import SEALED, reasons
from lilliput.wire.responses.reply import write_stream_problem
from lilliput.wire.responses.usage import read_usage

_SILENT = frozenset(
    {
        *("response.created", "response.in_progress", "response.queued", "keepalive"),
        *("response.output_item.added", "response.content_part.added", "response.reasoning_summary_part.added"),
    }
)
"""Events that open something and say nothing yet."""
_CLOSING = ("response.completed", "response.incomplete")
_FALSE = Raw(b"false")
_KEPT_THERE = ("background", "conversation")
"""Fields that ask the provider to keep the answer itself."""


class _Event(Struct, gc=False):
    type: str | None = None
    response: Raw = chunk.NONE
    error: Raw = chunk.NONE


class _Closed(Struct, gc=False):
    status: str | None = None
    output: Raw = chunk.NONE
    usage: Raw = chunk.NONE
    error: Raw = chunk.NONE


class _Reasoning(Struct, gc=False):
    type: str | None = None
    encrypted_content: str | None = None
    content: Raw = chunk.NONE


_event = msgspec.json.Decoder(_Event).decode
_closed = msgspec.json.Decoder(_Closed).decode
_reasoning = msgspec.json.Decoder(_Reasoning).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_strings = msgspec.json.Decoder(list[str]).decode
_encode = msgspec.json.Encoder().encode


def rewrite(fields: dict[str, Raw], asked: Asked, target: Target) -> bytes:
    """The caller's body for `target`: its model's own name, nothing stored there, reasoning sealed, quirks applied.

    The gateway keeps the thread, for its callers share one account at the provider. Reasoning that the provider
    cannot read (another family's, or none but by an id there) is left out of the input.
    """
    fields = fields.copy()
    fields["model"] = Raw(_encode(target.model))
    if all(bytes(fields.get(name, b"null")) in (b"null", b"false") for name in _KEPT_THERE):
        fields["store"] = _FALSE
        fields.pop("previous_response_id", None)
        given = bytes(fields.get("input", b""))
        if given[:1] == b"[" and b'"reasoning"' in given:
            fields["input"] = _readable(given)
        include = fields.get("include")
        if reasons(target.model) and (include is None or SEALED.encode() not in bytes(include)):
            known = _strings(include) if include is not None and bytes(include) != b"null" else []
            fields["include"] = Raw(_encode([*known, SEALED]))
    return _encode(quirks.apply(fields, target))


def _readable(given: bytes) -> Raw:
    """The input without reasoning that only another could read."""
    kept = []
    for item in _raws(given):
        r = _reasoning(item) if b'"reasoning"' in bytes(item) else None
        if r is None or r.type != "reasoning":
            kept.append(item)
        elif r.encrypted_content:
            if families.untagged(r.encrypted_content, families.OPENAI)[1] == families.OPENAI:
                kept.append(item)
        elif bytes(r.content) not in (b"", b"null", b"[]"):
            kept.append(item)  # DeepSeek gives its reasoning open, and wants it back (deepseek-04f8bb87f8)
    return Raw(_encode(kept))


def watch(asked: Asked) -> Watch:
    """A fresh watch over the streamed answer to `asked`."""
    return Watch()


class Watch:
    """See `port.Watch`. `response` is the whole Response object, as JSON, once `done`."""

    __slots__ = ("_held", "_splitter", "_usage", "done", "late", "response", "started", "trouble")

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._held: list[bytes] = []
        self._usage: Raw | None = None
        self.response = b""
        self.started = self.done = False
        self.late = 0
        self.trouble: Problem | None = None

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
                elif data.strip() not in (b"", sse.DONE):
                    self._read(data, out)
        except Problem as trouble:
            self.trouble = trouble
        if not self.started or not out:
            return b""
        self._held = []
        return b"".join(out)

    def end(self) -> bytes:
        """What was held at the end of the provider's bytes; sets `trouble` if the answer is not whole."""
        out = b""
        if not self.done and self.trouble is None:
            if self._splitter.rest:
                out = self.feed(b"\n\n")
            if not self.done and (self.trouble is None or self.trouble.code == "upstream_invalid"):
                self.trouble = truncated_answer()
        return out

    def _read(self, data: bytes, out: list[bytes]) -> None:
        """Checks one event, learns from it, and adds it to `out`."""
        try:
            if not data.isascii():
                data.decode()  # the decoder does not look at what it skips
            e = _event(data)
            closed = _closed(e.response) if e.type in _CLOSING or e.type == "response.failed" else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise invalid_answer(data) from None
        name = e.type
        if name is None:
            raise read_problem(200, data) if chunk.is_there(e.error) else invalid_answer(data, "an event has no type")
        if name == "error":
            raise refused(data)
        if closed is not None:
            self._close(name, closed, bytes(e.response))
        elif not self.started:
            self.started = name not in _SILENT
        kind = name.encode().replace(b"\n", b"").replace(b"\r", b"")
        out.append(b"event: %b\ndata: %b\n\n" % (kind, data.replace(b"\n", b" ")))

    def _close(self, name: str, closed: _Closed, response: bytes) -> None:
        if chunk.is_there(closed.usage):
            self._usage = Raw(bytes(closed.usage))
        if name == "response.failed" or closed.status == "failed" or chunk.is_there(closed.error):
            raise failed(closed.error)
        self.done = self.started = True
        self.response = response


def whole(status: int, body: bytes) -> Usage | None:
    """The usage of a whole answer that passes, None without one.

    Raises Problem for a body that is no JSON object, for one that failed, and for an answer without output.
    """
    try:
        if not body.isascii():
            body.decode()
        closed = _closed(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise invalid_answer(body) from None
    if closed.status == "failed" or (chunk.is_there(closed.error) and closed.output is not chunk.NONE):
        raise failed(closed.error)
    if closed.output is chunk.NONE:
        raise read_problem(status, body) if chunk.is_there(closed.error) else invalid_answer(body, "it has no output")
    return read_usage(closed.usage) if chunk.is_there(closed.usage) else None
