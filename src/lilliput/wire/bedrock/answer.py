"""A Converse answer as events: whole JSON, or a stream of typed messages.

A stream is over when `messageStop` and then `metadata` have come: every recorded one has both, so one that lacks the
second was cut. The end is told then and no sooner.
"""

from __future__ import annotations

import base64
import binascii

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Argued, Began, Called, Counted, Ended, Event, Finish, Media, Said, Shown, Thought
from lilliput.wire import families
from lilliput.wire.bedrock.reader import Reader, parsed
from lilliput.wire.bedrock.usage import read_usage
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.problem import read_problem

FINISH: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_MOST_BLOCKS = 4096
_NONE = Raw()


class _ReasoningText(Struct, gc=False):
    text: str | None = None
    signature: str | None = None


class _Reasoning(Struct, gc=False):
    """Whole: `reasoningText`; streamed: `text` and `signature`, each by itself."""

    text: str | None = None
    signature: str | None = None
    reasoningText: _ReasoningText | None = None
    redactedContent: str | None = None


class _ToolUse(Struct, gc=False):
    toolUseId: str | None = None
    name: str | None = None
    type: str | None = None
    input: Raw = _NONE


class _Source(Struct, gc=False):
    bytes: str | None = None


class _Image(Struct, gc=False):
    format: str | None = None
    source: _Source | None = None


class _Text(Struct, gc=False):
    text: str | None = None


class _Citations(Struct, gc=False):
    content: list[_Text] | None = None


class _Block(Struct, gc=False):
    """A content block, its start, or a piece of it; other kinds (a server tool's results) say nothing to the caller."""

    text: str | None = None
    toolUse: _ToolUse | None = None
    reasoningContent: _Reasoning | None = None
    citationsContent: _Citations | None = None
    image: _Image | None = None


class _Piece(Struct, gc=False):
    contentBlockIndex: int = 0
    delta: _Block | None = None
    start: _Block | None = None


class _Stop(Struct, gc=False):
    stopReason: str | None = None


class Metadata(Struct, gc=False):
    usage: Raw = _NONE


class _Message(Struct, gc=False):
    content: list[_Block] | None = None


class _Output(Struct, gc=False):
    message: _Message | None = None


class _Answer(Struct, gc=False):
    output: _Output | None = None
    stopReason: str | None = None
    usage: Raw = _NONE
    message: str | None = None


_piece = msgspec.json.Decoder(_Piece).decode
_stop = msgspec.json.Decoder(_Stop).decode
_metadata = msgspec.json.Decoder(Metadata).decode
_answer = msgspec.json.Decoder(_Answer).decode
_text = msgspec.json.Decoder(str).decode


def reader(stream: bool = True) -> Reader:
    """A fresh reader for one answer of Converse."""
    return Reader(Turn(), stream)


class Turn:
    """What an answer of Converse has said so far (see `reader.Turn`)."""

    def __init__(self) -> None:
        self.done = False
        self._reason: str | None = None
        self._calls: dict[int, int | None] = {}
        self._ids: set[str] = set()

    def event(self, kind: str, data: bytes, out: list[Event]) -> None:
        if kind == "contentBlockDelta":
            piece = parsed(_piece, data)
            if piece.delta is not None:
                self._say(piece.delta, piece.contentBlockIndex, out)
        elif kind == "contentBlockStart":
            piece = parsed(_piece, data)
            if piece.start is not None and piece.start.toolUse is not None:
                self._call(piece.start.toolUse, piece.contentBlockIndex, out)
        elif kind == "messageStart":
            out.append(Began())
        elif kind == "messageStop":
            self._reason = parsed(_stop, data).stopReason or ""
        elif kind == "metadata" and self._reason is not None:
            self.finish(self._reason, parsed(_metadata, data).usage, out)

    def whole(self, data: bytes, out: list[Event]) -> None:
        answer = parsed(_answer, data)
        message = answer.output.message if answer.output is not None else None
        if message is None:
            raise read_problem(200, data) if answer.message else invalid_answer(data, "it has no output")
        out.append(Began())
        for i, block in enumerate(message.content or ()):
            if block.toolUse is not None:
                self._call(block.toolUse, i, out)
            self._say(block, i, out)
        self.finish(answer.stopReason or "", answer.usage, out)

    def end(self, out: list[Event]) -> None:
        raise truncated_answer()

    def finish(self, reason: str, usage: Raw, out: list[Event]) -> None:
        counted = read_usage(usage) if usage is not _NONE else None
        if counted is not None:
            out.append(Counted(counted))
        out.append(Ended(FINISH.get(reason), reason or None))
        self.done = True

    def _call(self, use: _ToolUse, block: int, out: list[Event]) -> None:
        if len(self._calls) >= _MOST_BLOCKS:
            raise invalid_answer(b"", f"it has over {_MOST_BLOCKS} tool calls")
        if use.type == "server_tool_use":  # AWS ran it itself: nothing that the caller could answer
            self._calls[block] = None
            return
        if not use.name:
            raise invalid_answer(b"", "it has a tool call without a name")
        number = len(self._ids)
        call_id = use.toolUseId or ""
        while not call_id or call_id in self._ids:
            call_id = f"{call_id or 'call'}_{number}"
        self._ids.add(call_id)
        self._calls[block] = number
        out.append(Called(number, call_id, use.name))

    def _say(self, b: _Block, block: int, out: list[Event]) -> None:
        if b.text:
            out.append(Said(b.text))
        elif b.toolUse is not None:
            if block not in self._calls:
                raise invalid_answer(b"", "it has arguments of a tool call that never began")
            number = self._calls[block]
            text = _arguments(b.toolUse.input)
            if text and number is not None:
                out.append(Argued(number, text))
        elif b.reasoningContent is not None:
            _think(b.reasoningContent, out)
        elif b.citationsContent is not None:
            out += [Said(c.text) for c in b.citationsContent.content or () if c.text]
        elif b.image is not None and b.image.source is not None and b.image.source.bytes:
            mime = f"image/{b.image.format}" if b.image.format else None
            out.append(Shown(Media("image", mime=mime, data=b.image.source.bytes)))


def _arguments(input: Raw) -> str:
    """Arguments as JSON text: a stream sends them as pieces of it, a whole answer as the object."""
    raw = bytes(input)
    if raw in (b"", b"null"):
        return ""
    return parsed(_text, raw) if raw[:1] == b'"' else raw.decode()


def _think(r: _Reasoning, out: list[Event]) -> None:
    """Only Anthropic's models sign or seal their reasoning here (recordings)."""
    text, signature = r.text, r.signature
    if r.reasoningText is not None:
        text, signature = r.reasoningText.text, r.reasoningText.signature
    if text or signature:
        out.append(Thought(text or "", signature=signature or None, family=families.ANTHROPIC if signature else None))
    if r.redactedContent:
        sealed, family = _unsealed(r.redactedContent)
        out.append(Thought(sealed=sealed, family=family))


def _unsealed(content: str) -> tuple[str, str]:
    """A sealed block and its family: base64 of Anthropic's own text for it (bedrock-4052cc4613), else as it came."""
    try:
        return base64.b64decode(content, validate=True).decode("ascii"), families.ANTHROPIC
    except (binascii.Error, ValueError):
        return content, families.BEDROCK
