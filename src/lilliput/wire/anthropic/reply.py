"""Events as an answer to a client of Anthropic's Messages: a stream of named events, or one whole message.

Only choice 0 exists there; log-probabilities and made media have no place, but for the words of a sound.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Choice,
    Counted,
    Ended,
    Event,
    Problem,
    Refused,
    Reply,
    Request,
    Said,
    Shown,
    Thinking,
    Thought,
    Usage,
)
from lilliput.wire.anthropic.answer import FINISH
from lilliput.wire.anthropic.problem import write_stream_problem
from lilliput.wire.anthropic.turns import arguments
from lilliput.wire.anthropic.usage import write_usage
from lilliput.wire.families import ANTHROPIC, GEMINI, tagged

_json = msgspec.json.Encoder().encode
_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class _Call(Struct):
    """A tool call that is being told, or waits until the one before it is whole."""

    e: Called
    pieces: list[str] = field(default_factory=list)


def writer(r: Request, id: str = "msg_0", created_s: int = 0) -> Writer:
    """A fresh writer for the streamed answer to `r`; `id` serves where the provider gave none."""
    return Writer(r, id)


class Writer:
    """Each event's bytes for the client, `end()` what closes a whole answer, `problem()` the last word of another.

    One block is open at a time, as Anthropic has it: a call that begins before the last one is whole has to wait.
    """

    content_type = b"text/event-stream; charset=utf-8"

    def __init__(self, r: Request, id: str) -> None:
        self._began = Began(id, r.model)
        self._usage = Usage()
        self._started = self._counted = False
        self._next = 0
        self._open = ""  # the open block's type
        self._family: str | None = None
        self._call: _Call | None = None
        self._waiting: dict[int, _Call] = {}
        self._places: dict[int, int] = {}  # a call's index -> its block's
        self._ended: Ended | None = None
        self._head = b""

    def __call__(self, e: Event) -> bytes:
        if isinstance(e, Said):
            if e.choice:
                return b""
            if self._open == "text":
                return b'%b{"type":"text_delta","text":%b}}\n\n' % (self._head, _json(e.text))
            return self._text(e.text)
        if isinstance(e, Argued):
            return b"" if e.choice else self._argued(e)
        if isinstance(e, Thought):
            return b"" if e.choice else self._thought(e)
        if isinstance(e, Called):
            return b"" if e.choice else self._called(e)
        if isinstance(e, Began):
            self._began = Began(e.id or self._began.id, e.model or self._began.model)
        elif isinstance(e, Counted):
            self._usage, self._counted = e.usage, True
        elif isinstance(e, Refused):
            return b"" if e.choice else self._text(e.text)
        elif isinstance(e, Shown):
            return self._text(e.transcript) if e.transcript and not e.choice else b""
        elif isinstance(e, Ended) and not e.choice:
            self._ended = e
        return b""

    def end(self) -> bytes:
        """What closes the answer: how it ended, and what it used, which may have come late."""
        out = self._start() + self._settle()
        ended = self._ended or Ended(None)
        delta = {"stop_reason": _stop_reason(ended.reason, ended.native, bool(self._places)), "stop_sequence": None}
        out += _event("message_delta", b'"delta":%b,"usage":%b' % (_json(delta), _json(write_usage(self._usage))))
        return out + _event("message_stop", b"")

    def problem(self, p: Problem) -> bytes:
        return write_stream_problem(p)

    # -- blocks --------------------------------------------------------------------------------------------------

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        message: dict[str, object] = {
            "id": self._began.id,
            "type": "message",
            "role": "assistant",
            "model": self._began.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_usage(self._usage),
        }
        return _event("message_start", b'"message":' + _json(message))

    def _begin(self, kind: str, block: dict[str, object]) -> bytes:
        """Opens a block, the one before it closed."""
        out = self._start() + self._close()
        self._open = kind
        self._head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":' % self._next
        self._next += 1
        return out + _event("content_block_start", b'"index":%d,"content_block":%b' % (self._next - 1, _json(block)))

    def _delta(self, delta: bytes) -> bytes:
        return b"%b%b}\n\n" % (self._head, delta)

    def _close(self, signature: str = "") -> bytes:
        """Closes the open block; thinking of another family says whose it is even where nothing signs it."""
        if not self._open:
            return b""
        out = b""
        if self._open == "thinking" and (signature := tagged(signature, self._family, ANTHROPIC)):
            out = self._delta(b'{"type":"signature_delta","signature":%b}' % _json(signature))
        self._open = ""
        return out + _event("content_block_stop", b'"index":%d' % (self._next - 1))

    def _text(self, text: str) -> bytes:
        out = b""
        if self._open != "text":
            out = self._settle() + self._begin("text", {"type": "text", "text": ""})
        return out + self._delta(b'{"type":"text_delta","text":%b}' % _json(text))

    def _thought(self, e: Thought) -> bytes:
        """A signature closes its block; a sealed one stands alone."""
        out = b""
        if e.text or e.sealed is None:
            if self._open != "thinking":
                out = self._settle() + self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            self._family = e.family
            if e.text:
                out += self._delta(b'{"type":"thinking_delta","thinking":%b}' % _json(e.text))
            if e.signature is not None:
                out += self._close(e.signature)
        if e.sealed is not None:
            sealed = tagged(e.sealed, e.family, ANTHROPIC)
            out += self._settle() + self._begin("sealed", {"type": "redacted_thinking", "data": sealed}) + self._close()
        return out

    # -- calls ---------------------------------------------------------------------------------------------------

    def _called(self, e: Called) -> bytes:
        if self._call is not None and not _is_whole(self._call):
            self._waiting[e.index] = _Call(e)
            return b""
        return self._tell(_Call(e))

    def _argued(self, e: Argued) -> bytes:
        waiting = self._waiting.get(e.index)
        if waiting is not None:
            waiting.pieces.append(e.text)
            return b""
        call = self._call
        if call is None or call.e.index != e.index:  # its block is closed: it is told all the same
            place = self._places.get(e.index, 0)
            delta = b'{"type":"input_json_delta","partial_json":%b}' % _json(e.text)
            return _event("content_block_delta", b'"index":%d,"delta":%b' % (place, delta))
        call.pieces.append(e.text)
        out = self._piece(e.text, call.e)
        while self._waiting and _is_whole(call):
            call = self._waiting.pop(next(iter(self._waiting)))
            out += self._tell(call)
        return out

    def _tell(self, call: _Call) -> bytes:
        """Opens the block of a call, with what is known of its arguments."""
        e, out = call.e, b""
        if self._call is not None:
            out = self._end_call()
        if e.signature is not None:
            out += self._thought(Thought(signature=e.signature, family=GEMINI))
        self._places[e.index] = self._next
        out += self._begin("tool_use", {"type": "tool_use", "id": e.id, "name": e.name, "input": {}})
        self._call = call
        self._places[e.index] = self._next - 1
        if e.kind == "custom":
            out += self._delta(b'{"type":"input_json_delta","partial_json":"{\\"input\\":\\""}')
        return out + b"".join(self._piece(piece, e) for piece in call.pieces)

    def _piece(self, text: str, e: Called) -> bytes:
        if e.kind == "custom":
            text = _json(text)[1:-1].decode()
        return self._delta(b'{"type":"input_json_delta","partial_json":%b}' % _json(text)) if text else b""

    def _end_call(self) -> bytes:
        call, self._call = self._call, None
        if call is not None and call.e.kind == "custom":
            return self._delta(b'{"type":"input_json_delta","partial_json":"\\"}"}') + self._close()
        return self._close()

    def _settle(self) -> bytes:
        """Closes what is open, after the calls that wait."""
        out = b""
        while self._waiting:
            out += self._tell(self._waiting.pop(next(iter(self._waiting))))
        return out + (self._end_call() if self._call is not None else self._close())


def write_reply(reply: Reply, r: Request, id: str = "msg_0", created_s: int = 0) -> bytes:
    """The whole answer to `r`: the first choice; `id` serves where the provider gave none."""
    c = reply.choices[0] if reply.choices else Choice()
    text = c.text or "".join(s.transcript or "" for s in c.media)
    content: list[object] = [block for t in c.thinking for block in _thinking(t)]
    content += [{"type": "text", "text": said} for said in (text, c.refusal) if said]
    for call in c.calls:
        if call.signature is not None:
            content += _thinking(Thinking("", call.signature, None, GEMINI))
        content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments(call)})
    return _json(
        {
            "id": reply.id or id,
            "type": "message",
            "role": "assistant",
            "model": reply.model or r.model,
            "content": content,
            "stop_reason": _stop_reason(c.reason, c.native, bool(c.calls)),
            "stop_sequence": None,
            "usage": write_usage(reply.usage or Usage()),
        }
    )


def _thinking(t: Thinking) -> list[dict[str, str]]:
    out = []
    if t.text or t.sealed is None:
        signature = tagged(t.signature or "", t.family, ANTHROPIC)
        out.append({"type": "thinking", "thinking": t.text, "signature": signature})
    if t.sealed is not None:
        out.append({"type": "redacted_thinking", "data": tagged(t.sealed, t.family, ANTHROPIC)})
    return out


def _is_whole(call: _Call) -> bool:
    """True when the arguments so far are a JSON value: nothing can follow."""
    if call.e.kind == "custom":
        return False
    try:
        msgspec.json.decode("".join(call.pieces))
    except (ValueError, RecursionError):
        return False
    return True


def _stop_reason(reason: str | None, native: str | None, calls: bool) -> str | None:
    """Anthropic's word for how it ended, else the provider's own: an unknown end is never dressed up as a known one.

    An answer with calls ends in tool_use: its clients run no tools otherwise, and some providers say "stop" there.
    """
    if calls and reason == "stop":
        return "tool_use"
    if native is not None and FINISH.get(native) == reason and reason is not None:
        return native
    return _STOP.get(reason or "") or reason or native or None


def _event(name: str, rest: bytes) -> bytes:
    kind = name.encode()
    return b'event: %b\ndata: {"type":"%b"%b}\n\n' % (kind, kind, b"," + rest if rest else b"")
