"""What every `port.Reader` does around its dialect: bytes into pieces, events before the trouble, one end.

A dialect's reader fills in what a piece, a whole answer and the end of the bytes mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar

from lilliput.neutral import Event, Problem
from lilliput.wire.broken import invalid_answer, truncated_answer

MOST_BYTES = 64 * 1024 * 1024
"""Of a whole answer."""

Piece = TypeVar("Piece")
Fed = TypeVar("Fed", covariant=True)


class Splitter(Protocol[Fed]):
    """Bytes, however they are cut, into the pieces of a stream."""

    def feed(self, chunk: bytes, /) -> Iterable[Fed]: ...


class Shell(Generic[Piece]):
    """One answer: `splitter` cuts a stream into pieces, None holds all of it for `_answer`."""

    def __init__(self, splitter: Splitter[Piece] | None) -> None:
        self.trouble: Problem | None = None
        self.done = False
        self._splitter: Splitter[Piece] | None = splitter
        self._began = self._is_over = False
        self._whole: list[bytes] = []
        self._whole_bytes = 0

    def __call__(self, data: bytes) -> list[Event]:
        if self.trouble is not None:
            raise self.trouble
        out: list[Event] = []
        try:
            if data:
                if not self._began:
                    self._look(data)
                if self._splitter is None:
                    self._hold(data)
                    return out
                for piece in self._pieces(self._splitter, data):
                    self._event(piece, out)
            elif not self._is_over:
                self._is_over = True
                if self._splitter is None:
                    self._answer(self._held(), out)
                else:
                    self._end(self._splitter, out)
                self._close(out)
        except Problem as trouble:
            self.trouble = trouble
            if not out:
                raise
        return out

    def _look(self, data: bytes) -> None:
        """The first bytes: an answer may prove to be plain JSON though a stream was asked for."""
        start = data.lstrip()[:1]
        self._began = bool(start)
        if start in (b"{", b"["):
            self._splitter = None

    def _pieces(self, splitter: Splitter[Piece], data: bytes) -> Iterable[Piece]:
        return splitter.feed(data)

    def _hold(self, data: bytes) -> None:
        self._whole.append(data)
        self._whole_bytes += len(data)
        if self._whole_bytes > MOST_BYTES:
            raise invalid_answer(self._whole[0], f"it is over {MOST_BYTES} bytes")

    def _held(self) -> bytes:
        data = b"".join(self._whole)
        if not data.strip():
            raise truncated_answer()
        return data

    def _last(self, piece: Piece, out: list[Event]) -> None:
        """A piece that lacks its end: whole, or cut short."""
        try:
            self._event(piece, out)
        except Problem as trouble:
            raise (truncated_answer() if trouble.code == "upstream_invalid" else trouble) from None

    def _event(self, piece: Piece, out: list[Event]) -> None:
        """One piece of a stream."""
        raise NotImplementedError

    def _answer(self, data: bytes, out: list[Event]) -> None:
        """A whole answer, which is not empty."""
        raise NotImplementedError

    def _end(self, splitter: Any, out: list[Event]) -> None:
        """The bytes of a stream are over: raises "upstream_truncated" unless it is whole."""
        raise NotImplementedError

    def _close(self, out: list[Event]) -> None:
        """What is told last, after a stream or a whole answer."""
