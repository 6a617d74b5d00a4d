"""Events as an answer to a client of the Responses dialect: its stream, and the whole object that closes the stream.

Items come out in the order in which they began. Reasoning is told as a summary, and its seal or signature, of whatever
family, as `encrypted_content`: so it comes back with the history.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, field

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Counted,
    Ended,
    Event,
    Fault,
    Finish,
    Problem,
    Refused,
    Reply,
    Request,
    Said,
    Scored,
    Shown,
    Thinking,
    Thought,
    Usage,
)
from lilliput.wire import families
from lilliput.wire.responses.call import echo
from lilliput.wire.responses.request import write_sealed
from lilliput.wire.responses.usage import write_usage

_MOST_ID = 40
_INCOMPLETE: dict[Finish | None, str] = {"length": "max_output_tokens"}
"""Ends other than these keep their word, so that no end but a good one is ever called completed."""

_CODES: dict[Fault, str] = {"limit": "rate_limit_exceeded", "client": "invalid_prompt"}

_json = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(list[Raw]).decode


class _Item(Struct):
    """An item under way: `fields` as it will stand in the output, `pieces` of its text, refusal or arguments."""

    index: int
    fields: dict[str, object]
    pieces: list[str] = field(default_factory=list)
    parts: list[dict[str, object]] = field(default_factory=list)
    logprobs: list[Raw] = field(default_factory=list)
    where: bytes = b""
    speaks: bool = False
    head: bytes = b""
    tail: bytes = b""


def writer(r: Request, id: str = "resp_0", created_s: int = 0) -> Writer:
    """A fresh writer for the streamed answer to `r`; `id` and `created_s` serve where the provider gave none."""
    return Writer(r, id, created_s)


def write_reply(reply: Reply, r: Request, id: str = "resp_0", created_s: int = 0) -> bytes:
    """The whole answer to `r`: the object that a stream of it would close with."""
    w = Writer(r, id, created_s)
    w(Began(reply.id, reply.model, reply.created))
    for c in reply.choices[:1]:
        for t in c.thinking:
            w(Thought(t.text, 0, t.signature, t.sealed, t.family))
        if c.text or not (c.thinking or c.refusal or c.calls or c.media):
            w(Said(c.text))
        for tokens in c.logprobs:
            w(Scored(tokens))
        if c.refusal:
            w(Refused(c.refusal))
        for shown in c.media:
            w(shown)
        for n, call in enumerate(c.calls):
            w(Called(n, call.id, call.name, 0, call.kind, call.signature))
            w(Argued(n, call.arguments))
        w(Ended(c.reason, c.native))
    if reply.usage is not None:
        w(Counted(reply.usage))
    w.end()
    return w.response


def write_stream_problem(p: Problem, sequence: int = 0) -> bytes:
    """The `error` event for `p`, the last of a stream."""
    code = "provider_auth" if p.fault == "provider_auth" else p.code or _CODES.get(p.fault, "server_error")
    error = {"type": "error", "code": code, "message": p.say, "param": p.param}
    return b"event: error\ndata: %b\n\n" % _json(error | {"sequence_number": sequence})


class Writer:
    """See `port.Writer`. After `end()` or `problem()`, `response` is the whole Response object, as JSON."""

    content_type = b"text/event-stream; charset=utf-8"

    def __init__(self, r: Request, id: str, created_s: int) -> None:
        self.response = b""
        self._r = r
        self._began = Began(id if id.startswith("resp_") else f"resp_{id}", r.model, created_s)
        self._sequence = 0
        self._opened = False
        self._items: list[_Item] = []
        self._open: _Item | None = None  # the message or the reasoning that goes on
        self._calls: dict[int, _Item] = {}
        self._ended = Ended(None)
        self._usage: Usage | None = None
        self._echo = b""

    def __call__(self, e: Event) -> bytes:
        if isinstance(e, Said):
            return self._said(e.text) if e.choice == 0 else b""  # this form has one answer
        if isinstance(e, Began):
            if not self._opened:
                known = self._began
                own = e.id if e.id and e.id.startswith("resp_") else known.id  # others' ids may come twice
                self._began = Began(own, e.model or known.model, e.created or known.created)
            return b""
        if isinstance(e, Counted):
            self._usage = e.usage
        elif e.choice != 0:
            return b""
        elif isinstance(e, Argued):
            return self._argued(e)
        elif isinstance(e, Thought):
            return self._thought(e)
        elif isinstance(e, Called):
            return self._called(e)
        elif isinstance(e, Refused):
            item, out = self._part("refusal")
            item.pieces.append(e.text)
            return out + self._delta(item, _json(e.text))
        elif isinstance(e, Scored):
            return self._scored(e)
        elif isinstance(e, Shown):
            return self._shown(e)
        else:
            self._ended = e
        return b""

    def end(self) -> bytes:
        """What closes the answer: its items, then the whole of it."""
        good = self._ended.reason in ("stop", "tool_calls")
        out = self._start() + self._close("completed" if good else "incomplete")
        if good:
            self.response = self._object("completed")
            return out + self._event("response.completed", b'"response":' + self.response)
        reason = _INCOMPLETE.get(self._ended.reason) or self._ended.reason or self._ended.native
        self.response = self._object("incomplete", incomplete_details={"reason": reason})
        return out + self._event("response.incomplete", b'"response":' + self.response)

    def problem(self, p: Problem) -> bytes:
        """The `error` event, whose words are free; those of the object, which is kept as failed, are OpenAI's few."""
        code = _CODES.get(p.fault, "server_error")
        self.response = self._object("failed", error={"code": code, "message": p.say})
        return write_stream_problem(p, self._sequence)

    # -- events --------------------------------------------------------------------------------------------------

    def _event(self, name: str, fields: bytes) -> bytes:
        n = self._sequence
        self._sequence = n + 1
        kind = name.encode()
        return b'event: %b\ndata: {"type":"%b",%b,"sequence_number":%d}\n\n' % (kind, kind, fields, n)

    def _start(self) -> bytes:
        """The two events that open an answer, once something is to be told."""
        if self._opened:
            return b""
        self._opened = True
        begun = b'"response":' + self._object("in_progress")
        return self._event("response.created", begun) + self._event("response.in_progress", begun)

    def _said(self, text: str) -> bytes:
        out = b""
        item = self._open
        if item is None or not item.speaks:
            item, out = self._part("output_text")
        item.pieces.append(text)
        return out + self._delta(item, _json(text))

    def _delta(self, item: _Item, text: bytes) -> bytes:
        n = self._sequence
        self._sequence = n + 1
        return b"%b%b%b%d}\n\n" % (item.head, text, item.tail, n)

    def _scored(self, e: Scored) -> bytes:
        """The tokens' probabilities follow their text, in a delta without any."""
        item, out = self._part("output_text")
        item.logprobs += _raws(e.content)
        n = self._sequence
        self._sequence = n + 1
        return out + b'%b"","logprobs":%b,"sequence_number":%d}\n\n' % (item.head, bytes(e.content), n)

    def _thought(self, e: Thought) -> bytes:
        out = b""
        item = self._open
        if item is None or item.fields["type"] != "reasoning":
            fields: dict[str, object] = {"id": "", "type": "reasoning", "summary": []}
            item, out = self._begin("rs", fields)
        if e.text:
            if not item.pieces:
                added = b'"summary_index":0,"part":{"type":"summary_text","text":""}'
                out += self._at("response.reasoning_summary_part.added", item, added)
                self._frame(item, "response.reasoning_summary_text.delta", b'"summary_index":0', b"")
            item.pieces.append(e.text)
            out += self._delta(item, _json(e.text))
        seal = write_sealed(Thinking("", e.signature, e.sealed, e.family))
        if seal is not None:
            item.fields["encrypted_content"] = seal
            out += self._finish("completed")
        return out

    def _called(self, e: Called) -> bytes:
        out = b""
        if e.signature:  # an item of its own, so that it is not taken for the signature of what was thought before
            out = self._finish("completed") + self._thought(Thought(signature=e.signature, family=families.GEMINI))
        custom = e.kind == "custom"
        kind, text = ("custom_tool_call", "input") if custom else ("function_call", "arguments")
        fields: dict[str, object] = {"id": "", "type": kind, "status": "in_progress"}
        fields |= {"call_id": e.id, "name": e.name, text: ""}
        item, begun = self._begin("ctc" if custom else "fc", fields)
        self._calls[e.index] = item
        self._open = None  # other calls may begin before this one is whole
        name = "response.custom_tool_call_input.delta" if custom else "response.function_call_arguments.delta"
        self._frame(item, name, b"", b"")
        return out + begun

    def _argued(self, e: Argued) -> bytes:
        item = self._calls[e.index]
        if not e.text:
            return b""
        item.pieces.append(e.text)
        return self._delta(item, _json(e.text))

    def _shown(self, e: Shown) -> bytes:
        """A picture as OpenAI's own tool gives it; of sound, for which there is no item, what was said in it."""
        if e.media.kind != "image":
            return self._said(e.transcript) if e.transcript else b""
        fields: dict[str, object] = {"id": "", "type": "image_generation_call", "status": "in_progress", "result": None}
        item, out = self._begin("ig", fields)
        item.fields["result"] = e.media.data or e.media.url
        return out + self._finish("completed")

    # -- items ---------------------------------------------------------------------------------------------------

    def _begin(self, prefix: str, fields: dict[str, object]) -> tuple[_Item, bytes]:
        """Opens an item after the message or the reasoning before it."""
        out = self._start() + self._finish("completed")
        index = len(self._items)
        suffix = (self._began.id or "").removeprefix("resp_")[-_MOST_ID:]
        fields["id"] = f"{prefix}_{suffix}_{index}"
        item = self._open = _Item(index, fields)
        item.where = b'"item_id":%b,"output_index":%d,' % (_json(fields["id"]), index)
        self._items.append(item)
        added = b'"output_index":%d,"item":%b' % (index, _json(fields))
        return item, out + self._event("response.output_item.added", added)

    def _part(self, kind: str) -> tuple[_Item, bytes]:
        """Opens a part of `kind` in the message, and that where none goes on."""
        out = b""
        item = self._open
        if item is None or item.fields["type"] != "message":
            fields: dict[str, object] = {"id": "", "type": "message", "status": "in_progress", "role": "assistant"}
            item, out = self._begin("msg", fields | {"content": []})
        elif item.parts[-1]["type"] == kind:
            return item, b""
        else:
            out = self._finish_part(item)
        part: dict[str, object] = {"type": "refusal", "refusal": ""} if kind == "refusal" else _text_part("", [])
        item.parts.append(part)
        at = b'"content_index":%d' % (len(item.parts) - 1)
        out += self._at("response.content_part.added", item, b'%b,"part":%b' % (at, _json(part)))
        item.speaks = kind == "output_text"
        if item.speaks:
            self._frame(item, "response.output_text.delta", at, b',"logprobs":[]')
        else:
            self._frame(item, "response.refusal.delta", at, b"")
        return item, out

    def _frame(self, item: _Item, name: str, at: bytes, rest: bytes) -> None:
        """What stands before and after the text of a delta: made once, for every delta repeats it."""
        kind = name.encode()
        head = b'event: %b\ndata: {"type":"%b",%b' % (kind, kind, item.where)
        item.head = head + at + (b',"delta":' if at else b'"delta":')
        item.tail = rest + b',"sequence_number":'

    def _at(self, name: str, item: _Item, fields: bytes) -> bytes:
        return self._event(name, item.where + fields)

    def _finish_part(self, item: _Item) -> bytes:
        """Closes the part of a message that goes on, and gives it its text."""
        part = item.parts[-1]
        text = "".join(item.pieces)
        at = b'"content_index":%d' % (len(item.parts) - 1)
        item.pieces = []
        if part["type"] == "refusal":
            part["refusal"] = text
            out = self._at("response.refusal.done", item, b'%b,"refusal":%b' % (at, _json(text)))
        else:
            part |= _text_part(text, item.logprobs)
            scores = _json(item.logprobs)
            item.logprobs = []
            out = self._at("response.output_text.done", item, b'%b,"text":%b,"logprobs":%b' % (at, _json(text), scores))
        return out + self._at("response.content_part.done", item, b'%b,"part":%b' % (at, _json(part)))

    def _finish(self, status: str, item: _Item | None = None) -> bytes:
        """Closes an item, by default the message or the reasoning that goes on."""
        if item is None:
            item, self._open = self._open, None
        if item is None:
            return b""
        kind = item.fields["type"]
        text = "".join(item.pieces)
        out = b""
        if kind == "message":
            out = self._finish_part(item)
            item.fields["content"] = item.parts
        elif kind == "reasoning" and text:
            part = {"type": "summary_text", "text": text}
            item.fields["summary"] = [part]
            done = b'"summary_index":0,"text":%b' % _json(text)
            out = self._at("response.reasoning_summary_text.done", item, done)
            done = b'"summary_index":0,"part":%b' % _json(part)
            out += self._at("response.reasoning_summary_part.done", item, done)
        elif kind == "function_call":
            text = item.fields["arguments"] = text or "{}"
            done = b'"name":%b,"arguments":%b' % (_json(item.fields["name"]), _json(text))
            out = self._at("response.function_call_arguments.done", item, done)
        elif kind == "custom_tool_call":
            item.fields["input"] = text
            out = self._at("response.custom_tool_call_input.done", item, b'"input":%b' % _json(text))
        if "status" in item.fields:
            item.fields["status"] = status
        done = b'"output_index":%d,"item":%b' % (item.index, _json(item.fields))
        return out + self._event("response.output_item.done", done)

    def _close(self, status: str) -> bytes:
        out = self._finish(status)
        for item in self._calls.values():
            out += self._finish(status, item)
        return out

    def _object(self, status: str, **known: object) -> bytes:
        """The Response object as it stands now."""
        b = self._began
        fields = {
            "id": b.id,
            "object": "response",
            "created_at": b.created,
            "status": status,
            "model": b.model,
            "error": None,
            "incomplete_details": None,
            **known,
            "output": [] if status == "in_progress" else [item.fields for item in self._items],
            "usage": write_usage(self._usage) if self._usage is not None else None,
        }
        self._echo = self._echo or echo(self._r)
        return _json(fields)[:-1] + b"," + self._echo + b"}"


def _text_part(text: str, logprobs: list[Raw]) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
