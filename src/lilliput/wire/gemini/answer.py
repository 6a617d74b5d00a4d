"""A Gemini answer as events: server-sent events, a JSON array in pieces, or a whole answer: a stream of one."""

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
    MediaKind,
    Said,
    Scored,
    Shown,
    Thought,
)
from lilliput.wire import sse
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.families import GEMINI
from lilliput.wire.gemini import chunk
from lilliput.wire.gemini.problem import read_problem
from lilliput.wire.gemini.usage import Counts
from lilliput.wire.openai.chunk import is_there
from lilliput.wire.openai.media import URL_SAFE
from lilliput.wire.reading import Shell

_MOST_CHOICES = 128
_MOST_CALLS = 1024


def reader(stream: bool = True) -> Reader:
    """A fresh reader for one answer, streamed or whole."""
    return Reader(stream)


class Reader(Shell[bytes]):
    """Feed it the bytes as they come, then b"" at their end; each call gives the events that are now known.

    There is no end mark: a stream is over when every candidate that began gave its finish reason, or when the prompt
    was blocked. Else its end raises code "upstream_truncated", as half a piece does and an array that is not closed.
    """

    def __init__(self, stream: bool) -> None:
        super().__init__(sse.Splitter() if stream else None)
        self._told = Began()
        self._choices: dict[int, _Choice] = {}
        self._blocked: str | None = None
        self._counts = Counts()
        self._ids: set[str] = set()

    def _look(self, data: bytes) -> None:
        """A stream may prove to be an array of its pieces, or plain JSON, as errors are."""
        start = data.lstrip()[:1]
        self._began = bool(start)
        if self._splitter is not None and start == b"[":
            self._splitter = chunk.ArraySplitter()
        elif start == b"{":
            self._splitter = None

    def _end(self, splitter: sse.Splitter | chunk.ArraySplitter, out: list[Event]) -> None:
        if isinstance(splitter, chunk.ArraySplitter):
            if not splitter.is_over:
                raise truncated_answer()
        else:
            for piece in chunk.left(splitter):
                self._last(piece, out)
        if not self._is_finished():
            raise truncated_answer()

    def _close(self, out: list[Event]) -> None:
        if not self._choices:
            out.append(Ended("content_filter", self._blocked))
        for index, choice in self._choices.items():
            reason = chunk.FINISH.get(choice.finish) if choice.finish is not None else None
            native = str(choice.finish) if choice.finish is not None else None
            out.append(Ended("tool_calls" if reason == "stop" and choice.calls else reason, native, index))

    def _answer(self, data: bytes, out: list[Event]) -> None:
        for piece in chunk.parsed_all(data):
            self._read(piece, data, out)
        if not self._choices and self._blocked is None:
            raise invalid_answer(data, "it has no candidates")

    def _is_finished(self) -> bool:
        if not self._choices:
            return self._blocked is not None
        return all(c.finish is not None for c in self._choices.values())

    def _event(self, data: bytes, out: list[Event]) -> None:
        if data.strip() not in (b"", sse.DONE):
            self._read(chunk.parsed(data), data, out)

    def _read(self, a: chunk.Answer, data: bytes, out: list[Event]) -> None:
        told = self._told
        if not told.id or not told.model:
            said = Began(told.id or a.response_id, told.model or a.model_version, chunk.seconds(a.create_time))
            if (said.id, said.model) != (told.id, told.model):
                self._told = said
                out.append(said)
        for position, c in enumerate(a.candidates or ()):
            index = position if c.index is None else c.index
            choice = self._choices.get(index)
            if choice is None:
                if not 0 <= index < _MOST_CHOICES:
                    raise invalid_answer(b"", f"it has a candidate number {index}")
                choice = self._choices[index] = _Choice()
            self._candidate(c, index, choice, out)
        if a.prompt_feedback is not None and a.prompt_feedback.block_reason:
            self._blocked = str(a.prompt_feedback.block_reason)
        if is_there(a.usage_metadata):
            usage = self._counts.usage() if self._counts.add(a.usage_metadata) else None
            out += [Counted(usage)] if usage is not None else []
        if is_there(a.error):
            raise read_problem(200, data)

    def _candidate(self, c: chunk.Candidate, index: int, choice: _Choice, out: list[Event]) -> None:
        for p in (c.content.parts or ()) if c.content is not None else ():
            if p.function_call is not None:
                self._call(p.function_call, p.thought_signature, index, choice, out)
                continue
            signature = p.thought_signature or None
            if p.thought:
                if p.text or signature:
                    out.append(Thought(p.text or "", index, signature, None, GEMINI))
                continue
            if p.text:
                out.append(Said(p.text, index))
            elif p.inline_data is not None and p.inline_data.data:
                mime = p.inline_data.mime_type
                data = p.inline_data.data.translate(URL_SAFE)
                out.append(Shown(Media(media_kind(mime), mime=mime, data=data), index))
            elif p.file_data is not None and p.file_data.file_uri:
                mime = p.file_data.mime_type
                out.append(Shown(Media(media_kind(mime), mime=mime, url=p.file_data.file_uri), index))
            if signature:
                out.append(Thought("", index, signature, None, GEMINI))
        if is_there(c.logprobs_result):
            scores = _scores(c.logprobs_result)
            if scores:
                out.append(Scored(Raw(msgspec.json.encode(scores)), index))
        if c.finish_reason not in (None, "", 0):
            choice.finish = c.finish_reason

    def _call(
        self, f: chunk.FunctionCall, signature: str | None, index: int, choice: _Choice, out: list[Event]
    ) -> None:
        """Calls come whole. Most have no id: it is made of the answer's, so that it differs by turn."""
        if not f.name:
            raise invalid_answer(b"", "it has a function call without a name")
        if choice.calls >= _MOST_CALLS:
            raise invalid_answer(b"", f"it has over {_MOST_CALLS} tool calls")
        call_id = f.id
        if not call_id or call_id in self._ids:
            answer_id = "".join(c for c in self._told.id or "" if c.isalnum())[-12:]
            call_id = "_".join(("call", *([answer_id] if answer_id else []), f"{len(self._ids)}"))
            while call_id in self._ids:
                call_id += "_"
        self._ids.add(call_id)
        out.append(Called(choice.calls, call_id, f.name, index, "function", signature or None))
        if is_there(f.args):
            out.append(Argued(choice.calls, chunk.one_line(f.args).decode(), index))
        choice.calls += 1


class _Choice(Struct):
    """One candidate: how many calls it made so far, and how it ended."""

    calls: int = 0
    finish: str | int | None = None


class _Token(Struct, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class _Top(Struct):
    candidates: list[_Token] | None = None


class _Scores(Struct, rename="camel"):
    chosen_candidates: list[_Token] | None = None
    top_candidates: list[_Top] | None = None


_decode_scores = msgspec.json.Decoder(_Scores).decode


def media_kind(mime: str | None) -> MediaKind:
    """What a MIME type is of; a file when it is neither image, sound nor video."""
    match (mime or "").partition("/")[0]:
        case "image":
            return "image"
        case "audio":
            return "audio"
        case "video":
            return "video"
    return "file"


def _scores(raw: Raw) -> list[dict[str, object]]:
    """`logprobsResult` in OpenAI's form."""
    try:
        found = _decode_scores(raw)
    except (msgspec.MsgspecError, RecursionError):
        return []
    tops = found.top_candidates or []
    out = []
    for i, token in enumerate(found.chosen_candidates or ()):
        top = (tops[i].candidates or []) if i < len(tops) else []
        out.append({**_score(token), "top_logprobs": [_score(t) for t in top]})
    return out


def _score(t: _Token) -> dict[str, object]:
    return {"token": t.token, "logprob": t.log_probability, "bytes": list(t.token.encode("utf-8", "replace"))}
