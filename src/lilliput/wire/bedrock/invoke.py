"""Amazon Bedrock's InvokeModel, the provider's side, under the names that every dialect has (`wire.port`).

The body is each model family's own: Anthropic's messages, Nova's form of Converse, OpenAI's chat, or a prompt of text
(`families`). The answer says by itself which one it is.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, field

from lilliput.neutral import Event, Request, Sent, Target
from lilliput.wire import port, quirks, sse
from lilliput.wire.anthropic import answer as anthropic_answer
from lilliput.wire.anthropic import call as anthropic_call
from lilliput.wire.bedrock import answer as bedrock_answer
from lilliput.wire.bedrock import call as bedrock_call
from lilliput.wire.bedrock import families as bedrock_families
from lilliput.wire.bedrock.reader import Reader, Turn, parsed
from lilliput.wire.broken import truncated_answer
from lilliput.wire.fields import FIELDS
from lilliput.wire.openai import answer as openai_answer
from lilliput.wire.openai import call as openai_call
from lilliput.wire.openai.problem import read_problem

__all__ = ["SUPPORT", "endpoint", "read_problem", "reader", "write_body"]

_NO_PROMPT = ("tools", "tool_choice", "parallel_tool_calls", "image", "audio", "video", "file", "messages.tool_result")
_FITTED = "approximated: as far as the model's own form has a place for it"
SUPPORT = {
    field: f"{_FITTED}; refused with 400 where that is a prompt" if field.startswith(_NO_PROMPT) else _FITTED
    for field in FIELDS
    if field != "max_tokens"
}
VERSION = "bedrock-2023-05-31"
"""The version of Anthropic's messages on Bedrock, the only one (recordings)."""
_NOT_HERE = ("model", "stream", "stream_options")


def endpoint(target: Target, stream: bool) -> tuple[str, port.Headers]:
    """Where InvokeModel is called; a signature for `target.aws` is the caller's to add (see `sigv4`)."""
    return bedrock_call.at(target, "invoke-with-response-stream" if stream else "invoke")


def write_body(r: Request, target: Target) -> Sent:
    """The body that asks `target` what `r` asks, in its model family's form."""
    maker = bedrock_call.maker(target.model)
    names = bedrock_families.names(target.model)
    if names is not None:
        lost: dict[str, None] = {}
        fields = bedrock_families.write_fields(r, names, lost)
        bedrock_call.lose_fields(r, lost)
        return _sent({name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}, tuple(lost), target)
    if maker == "anthropic":
        raws, dropped = anthropic_call.write_fields(r, target)
        return _sent({"anthropic_version": Raw(b'"%b"' % VERSION.encode()), **raws}, dropped, target)
    if maker == "amazon":
        fields, dropped = bedrock_call.write_fields(r, target)
        return _sent(_nova(fields), dropped, target)
    sent = openai_call.write_body(r, target)
    kept = {name: raw for name, raw in _object(sent.body).items() if name not in _NOT_HERE}
    return Sent(msgspec.json.encode(kept), sent.dropped)


def _nova(fields: dict[str, object]) -> dict[str, Raw]:
    """Nova's own form: what Converse keeps for the model alone stands among the parameters."""
    more = fields.pop("additionalModelRequestFields", {})
    inference = fields.get("inferenceConfig", {})
    assert isinstance(more, dict)
    assert isinstance(inference, dict)
    inference |= more.pop("inferenceConfig", {}) | more
    if inference:
        fields["inferenceConfig"] = inference
    fields["schemaVersion"] = "messages-v1"
    return {name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}


def _sent(raws: dict[str, Raw], dropped: tuple[str, ...], target: Target) -> Sent:
    return Sent(msgspec.json.encode(quirks.apply(raws, target)), (*dropped, *quirks.dropped(raws, target)))


# -- answers -----------------------------------------------------------------------------------------------------


class _Wrapped(Struct, gc=False):
    data: bytes = field(name="bytes")


_wrapped = msgspec.json.Decoder(_Wrapped).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode
_objects = msgspec.json.Decoder(list[dict[str, Raw]]).decode


def reader(stream: bool = True) -> Reader:
    """A fresh reader for one answer of InvokeModel."""
    return Reader(_Invoked(), stream)


class _Invoked:
    """An answer of any family: its first JSON tells whose it is."""

    def __init__(self) -> None:
        self._turn: Turn | None = None

    @property
    def done(self) -> bool:
        return self._turn is not None and self._turn.done

    def event(self, kind: str, data: bytes, out: list[Event]) -> None:
        data = parsed(_wrapped, data).data
        if self._turn is None:
            self._turn = _turn(data)
        self._turn.event(kind, data, out)

    def whole(self, data: bytes, out: list[Event]) -> None:
        self._turn = _turn(data)
        self._turn.whole(data, out)

    def end(self, out: list[Event]) -> None:
        if self._turn is None:
            raise truncated_answer()
        self._turn.end(out)


def _turn(data: bytes) -> Turn:
    fields = parsed(_object, data)
    if fields.keys() & {"messageStart", "contentBlockStart", "contentBlockDelta", "messageStop", "output"}:
        return _Nova()
    if bytes(fields.get("type", b"")) in (b'"message_start"', b'"message"', b'"error"'):
        return _Anthropic()
    if "choices" in fields and not any("text" in choice for choice in parsed(_objects, bytes(fields["choices"]))):
        return _OpenAI()
    return bedrock_families.Turn()


class _Nova:
    """Converse's events, each under its name in an object."""

    def __init__(self) -> None:
        self._turn = bedrock_answer.Turn()
        self.whole, self.end = self._turn.whole, self._turn.end

    @property
    def done(self) -> bool:
        return self._turn.done

    def event(self, kind: str, data: bytes, out: list[Event]) -> None:
        for name, raw in parsed(_object, data).items():
            self._turn.event(name, bytes(raw), out)


class _Anthropic:
    def __init__(self) -> None:
        self.done = False
        self._reader = anthropic_answer.reader(True)

    def event(self, kind: str, data: bytes, out: list[Event]) -> None:
        out += self._reader.event(data)

    def whole(self, data: bytes, out: list[Event]) -> None:
        _drain(anthropic_answer.reader(False), data, out)

    def end(self, out: list[Event]) -> None:
        out += self._reader.end()


class _OpenAI:
    def __init__(self) -> None:
        self.done = False
        self._reader = openai_answer.reader(True)

    def event(self, kind: str, data: bytes, out: list[Event]) -> None:
        _more(self._reader, sse.event(data), out)

    def whole(self, data: bytes, out: list[Event]) -> None:
        _drain(openai_answer.reader(False), data, out)

    def end(self, out: list[Event]) -> None:
        _more(self._reader, b"", out)


def _more(reader: port.Reader, data: bytes, out: list[Event]) -> None:
    out += reader(data)
    if reader.trouble is not None:
        raise reader.trouble


def _drain(reader: port.Reader, data: bytes, out: list[Event]) -> None:
    for piece in (data, b""):
        _more(reader, piece, out)
