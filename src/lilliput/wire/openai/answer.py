"""A provider's OpenAI-form answer as events: a stream of chunks, or a whole answer, which is a stream of one.

What recorded providers do differently is read here, once: see the comments. Nothing is written to a client
(`reply`), and bytes that only pass are another matter (`passing`).
"""

from __future__ import annotations

from msgspec import Raw, Struct, field

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Counted,
    Ended,
    Event,
    Problem,
    Refused,
    Said,
    Scored,
    Shown,
    Thought,
    ToolKind,
)
from lilliput.wire import sse
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai import chunk
from lilliput.wire.openai.media import from_link
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.openai.types import Link
from lilliput.wire.openai.usage import read_usage
from lilliput.wire.reading import Shell

_MOST_CHOICES = 128
_MOST_CALLS = 1024
_MOST_NAMELESS = 1024


class _OpenCall(Struct):
    """A tool call under way: its number among the choice's calls; `pieces` wait for its name."""

    number: int
    id: str
    name: str = ""
    custom: bool = False
    pieces: list[str] = field(default_factory=list)
    signature: str | None = None


def reader(stream: bool = True) -> Reader:
    """A fresh reader for one answer, streamed or whole."""
    return Reader(stream)


class Reader(Shell[bytes]):
    """Feed it the bytes as they come, then b"" at their end; each call gives the events that are now known.

    Raises only Problem. Events that stand before the trouble in the same bytes are given first: `trouble` is set then,
    and the next call raises it. The end raises code "upstream_truncated" when there was neither a finish reason nor
    [DONE], or half an event was left. Finish reasons come at the end, when no other can follow.
    """

    def __init__(self, stream: bool) -> None:
        super().__init__(sse.Splitter() if stream else None)
        self._told = Began()
        self._choices: dict[int, _ChoiceReader] = {}
        self._usage = b""
        self._is_told = False

    def _end(self, splitter: sse.Splitter, out: list[Event]) -> None:
        if self.done:
            return
        rest = [line for line in splitter.rest.splitlines() if line[:1] not in (b"", b":")]
        left = splitter.end()
        for data in left:
            self._last(data, out)
        if not self.done and (not self._is_finished() or (rest and not left)):
            raise truncated_answer()

    def _close(self, out: list[Event]) -> None:
        for choice in self._choices.values():
            choice.end(out)

    def _event(self, data: bytes, out: list[Event]) -> None:
        if self.done:
            return
        if data[:1] != b"{" and (data := data.strip()) in (b"", sse.DONE):
            self.done = bool(data)
            return
        answer = chunk.parsed(data)
        if answer.error is not chunk.NONE and chunk.is_there(answer.error):
            # OpenRouter repeats a finish it already gave as an error beside a choice; before the finish it is one.
            is_over = bool(answer.choices) and self._is_finished()
            self._read(answer, out)
            if not is_over:
                raise read_problem(200, data)
            return
        self._read(answer, out)
        if answer.choices is None and chunk.is_bare_error(answer):
            raise read_problem(200, data)

    def _answer(self, data: bytes, out: list[Event]) -> None:
        answer = chunk.parsed(data, is_whole=True)
        self._read(answer, out)
        if not answer.choices and chunk.is_there(answer.error):
            raise read_problem(200, data)
        if answer.choices is None:
            raise read_problem(200, data) if chunk.is_bare_error(answer) else invalid_answer(data, "it has no choices")

    def _is_finished(self) -> bool:
        """True when every choice that began has said how it ended."""
        return bool(self._choices) and all(c.finish is not None for c in self._choices.values())

    def _read(self, a: chunk.Answer, out: list[Event]) -> None:
        if not self._is_told:
            told = self._told
            said = Began(
                told.id or (str(a.id) if a.id else None), told.model or a.model or None, chunk.seconds(a.created)
            )
            if (said.id, said.model) != (told.id, told.model):
                self._told = said
                out.append(said)
                self._is_told = bool(said.id and said.model)
        for position, c in enumerate(a.choices or ()):
            index = position if c.index is None else c.index
            choice = self._choices.get(index)
            if choice is None:
                if not 0 <= index < _MOST_CHOICES:
                    raise invalid_answer(b"", f"it has a choice number {index}")
                choice = self._choices[index] = _ChoiceReader(index, self._told.id)
            choice.read(c, self._splitter is None, out)
        usage = a.usage
        if a.x_groq is not None:
            usage = usage if chunk.is_there(usage) else a.x_groq.usage
            if chunk.is_there(a.x_groq.error):
                raise read_problem(200, b'{"error":' + bytes(a.x_groq.error) + b"}")
        if usage is chunk.NONE:
            return
        given = bytes(usage)
        if given != b"null" and given != self._usage:
            self._usage = given
            counted = read_usage(given)
            if counted is not None:
                out.append(Counted(counted))


class _ChoiceReader:
    """One choice of an answer: which tool calls are open, and how it ended."""

    def __init__(self, index: int, answer_id: str | None) -> None:
        self.index = index
        self.finish: str | None = None
        self._answer_id = answer_id or ""
        self._calls: list[_OpenCall] = []
        self._by_key: dict[object, _OpenCall] = {}
        self._last: object = None

    def read(self, c: chunk.Choice, whole: bool, out: list[Event]) -> None:
        # Perplexity and Writer send both; Perplexity's `message` repeats all that was said so far.
        m = (c.message or c.delta) if whole else (c.delta or c.message)
        if m is not None:
            if m.reasoning_content or m.reasoning or m.reasoning_details:
                self._thoughts(m, out)
            if isinstance(m.content, str):
                if m.content:
                    out.append(Said(m.content, self.index))
            elif m.content:
                self._parts(m.content, out)
            if m.refusal or m.tool_calls or m.function_call or m.audio or m.images:
                self._rest(m, out)
        if c.logprobs is not None and c.logprobs.content:
            out.append(Scored(Raw(b"[" + b",".join(bytes(r) for r in c.logprobs.content) + b"]"), self.index))
        if c.finish_reason not in (None, ""):
            self.finish = str(c.finish_reason)
        if c.error is not chunk.NONE and chunk.is_there(c.error):
            raise read_problem(200, b'{"error":' + bytes(c.error) + b"}")

    def end(self, out: list[Event]) -> None:
        """What was held back: calls that never got a name, then how the choice ended."""
        for call in self._calls:
            if call.pieces:
                self._open(call, out)
        out.append(Ended(chunk.FINISH.get(self.finish) if self.finish else None, self.finish, self.index))

    def _rest(self, m: chunk.Message, out: list[Event]) -> None:
        """What few messages hold."""
        if m.refusal:
            out.append(Refused(m.refusal, self.index))
        for call in m.tool_calls or ():
            self._call(call, out)
        f = m.function_call
        if f is not None and (f.name or f.arguments):
            self._call(chunk.Call(function=f), out, "legacy")
        if m.audio is not None and (m.audio.data or m.audio.transcript):
            media = from_link("audio", f"data:;base64,{m.audio.data or ''}", name=m.audio.id or None)
            out.append(Shown(media, self.index, m.audio.transcript))
        for image in m.images or ():
            self._image(image.image_url, out)

    def _thoughts(self, m: chunk.Message, out: list[Event]) -> None:
        """Reasoning once, though it may stand under two names; signatures and sealed blocks are in the details."""
        plain = m.reasoning_content or (m.reasoning if isinstance(m.reasoning, str) else None)
        if plain:
            out.append(Thought(plain, self.index))
        for d in m.reasoning_details or ():
            text = "" if plain else d.text or d.summary or ""
            if text or d.signature or d.data:
                out.append(Thought(text, self.index, d.signature or None, d.data or None, d.format or None))

    def _parts(self, parts: list[chunk.Part | str], out: list[Event]) -> None:
        for p in parts:
            if isinstance(p, str):
                out.append(Said(p, self.index))
            elif p.type == "thinking" and p.thinking:
                pieces = [p.thinking] if isinstance(p.thinking, str) else p.thinking
                text = "".join(t if isinstance(t, str) else t.text or "" for t in pieces)
                if text:
                    out.append(Thought(text, self.index))
            elif p.refusal:
                out.append(Refused(p.refusal, self.index))
            elif p.image_url is not None:
                self._image(p.image_url, out)
            elif p.text:
                out.append(Said(p.text, self.index))

    def _image(self, link: Link | str | None, out: list[Event]) -> None:
        url = link.url if isinstance(link, Link) else link
        if not url:
            return
        try:
            out.append(Shown(from_link("image", url), self.index))
        except Problem as trouble:
            raise invalid_answer(url[:80].encode(), trouble.say) from None

    def _call(self, c: chunk.Call, out: list[Event], key: object = None) -> None:
        """A call, or a piece of one. Without an index (Mistral), or with one that another call had, the id tells."""
        custom = c.custom is not None and (c.type == "custom" or c.function is None)
        name = (c.custom.name if custom and c.custom else c.function.name if c.function else None) or ""
        text = c.custom.input if custom and c.custom else chunk.arguments(c.function)
        call_id = str(c.id) if c.id is not None else ""
        if key is None:
            key = c.index
        if key is None:
            key = ("id", call_id or len(self._calls)) if call_id or name else self._last
        call = self._by_key.get(key)
        if call is None or (name and call_id and call.id and call.id != call_id):
            if not (call_id or name or text):
                return
            if len(self._calls) >= _MOST_CALLS:
                raise invalid_answer(b"", f"it has over {_MOST_CALLS} tool calls")
            google = c.extra_content.google if c.extra_content is not None else None
            call = self._by_key[key] = _OpenCall(len(self._calls), call_id, custom=custom)
            call.signature = google.thought_signature if google is not None else None
            self._calls.append(call)
        self._last = key
        if text:
            call.pieces.append(text)
            if len(call.pieces) > _MOST_NAMELESS:
                raise invalid_answer(b"", "it has a tool call without a name")
        if not call.name and name:
            call.name, call.id = name, call.id or call_id
            out.append(self._called(call))
        if call.name and call.pieces:
            for piece in call.pieces:
                out.append(Argued(call.number, piece, self.index))
            call.pieces = []

    def _open(self, call: _OpenCall, out: list[Event]) -> None:
        out.append(self._called(call))
        for piece in call.pieces:
            out.append(Argued(call.number, piece, self.index))

    def _called(self, call: _OpenCall) -> Called:
        """Calls without an id get one, for the result must name it: made of the answer's id, so it differs by turn."""
        call_id = call.id
        if not call_id:
            answer_id = "".join(c for c in self._answer_id if c.isalnum())[-12:]
            call_id = f"call_{answer_id}_{call.number}" if answer_id else f"call_{call.number}"
        kind: ToolKind = "custom" if call.custom else "function"
        return Called(call.number, call_id, call.name, self.index, kind, call.signature)
