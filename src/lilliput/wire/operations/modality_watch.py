"""Streams of the operations that are no chat: OpenAI's typed events pass, each checked."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Problem, Usage
from lilliput.wire import sse
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.problem import read_problem, write_stream_problem
from lilliput.wire.operations.modality import NULL, tokens


class _Event(Struct, gc=False):
    type: str | None = None
    usage: Raw = NULL


_event = msgspec.json.Decoder(_Event).decode


class EventWatch:
    """A `port.Watch` of events such as transcript.text.delta: over with the one whose type ends in a closing word.

    The words are OpenAI's: transcript.text.done, speech.audio.done, image_generation.completed, image_edit.completed
    (API reference, checked 2026-11-22). A [DONE] after them passes.
    """

    def __init__(self, media_out: str | None = None) -> None:
        self.started = self.done = False
        self.trouble: Problem | None = None
        self.usage: Usage | None = None
        self._media_out = media_out
        self._split = sse.Splitter()

    def feed(self, chunk: bytes) -> bytes:
        if self.trouble is not None:
            return b""
        try:
            return self._pass(self._split.feed(chunk))
        except Problem as problem:
            self.trouble = problem
            return b""

    def end(self) -> bytes:
        if self.trouble is not None:
            return b""
        out = self._pass(self._split.end())
        if not self.done and self.trouble is None:
            self.trouble = truncated_answer()
        return out

    def problem(self, p: Problem) -> bytes:
        return write_stream_problem(p)

    def _pass(self, events: list[bytes]) -> bytes:
        out = []
        for data in events:
            if data != sse.DONE:
                self._look(data)
                if self.trouble is not None:
                    break
                self.started = True
            out.append(sse.event(data.replace(b"\n", b" ")))
        return b"".join(out)

    def _look(self, data: bytes) -> None:
        try:
            event = _event(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            self.trouble = invalid_answer(data)
            return
        if event.type in (None, "error"):
            self.trouble = read_problem(200, data)
        elif event.type and event.type.endswith((".done", ".completed")):
            self.done = True
            self.usage = tokens(event.usage, self._media_out) or self.usage
