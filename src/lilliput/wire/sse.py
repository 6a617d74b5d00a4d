"""Server-sent events: bytes in, the data of each event out; and back.

Framing only (WHATWG HTML, "Server-sent events"): what the data means belongs to each dialect's own module.
Event names are not reported, because every dialect here repeats them inside the data.
"""

from __future__ import annotations

import re

from lilliput.neutral import Problem

MAX_EVENT_BYTES = 16 * 1024 * 1024
DONE = b"[DONE]"
PING = b": ping\n\n"

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CR, LF = b"\r\n"
"""As numbers: the search for one is six times as fast as that for a bytes of length 1."""
_BLANK = re.compile(rb"\n\n+")


def event(data: bytes) -> bytes:
    """One event that carries `data`, which holds no line break."""
    return b"data: %b\n\n" % data


class Splitter:
    """The data of each whole event so far, however the bytes are cut; comments are dropped.

    LF, CRLF and CR end lines. An event past 16 MiB raises Problem, so a sender cannot make us hold more.
    """

    __slots__ = ("_after_cr", "_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that `chunk` completes."""
        if self._after_cr or CR in chunk:
            chunk = self._line_ends(chunk)
        parts = self._parts
        if parts:
            if b"\n\n" not in chunk and not (parts[-1][-1:] == b"\n" and chunk[:1] == b"\n"):
                self._keep(chunk)
                return []
            parts.append(chunk)
            chunk = b"".join(parts)
            parts.clear()
            self._size = 0
        text = chunk.partition(b"\n")[2] if chunk[:6] == b"event:" else chunk
        if text[:6] == b"data: " and text[-2:] == b"\n\n" and LF not in (data := text[6:-2]):
            return [data]  # one event of one line, as nearly every chunk is
        if chunk[:6] == b"data: " and chunk[-2:] == b"\n\n":
            plain = chunk[6:-2].split(b"\n\ndata: ")
            if chunk.count(b"\n") == 2 * len(plain):
                return plain
        if chunk[-2:] != b"\n\n":
            end = chunk.rfind(b"\n\n")
            if end < 0:
                self._keep(chunk)
                return []
            self._keep(chunk[end + 2 :])
            chunk = chunk[:end]
        out: list[bytes] = []
        for block in chunk.split(b"\n\n"):
            name, _, rest = block.partition(b"\n")
            if name[:6] == b"data: " and not rest:
                out.append(name[6:])
            elif name[:6] == b"event:" and rest[:6] == b"data: " and LF not in rest:
                out.append(rest[6:])
            elif block:
                found = _data(block)
                if found is not None:
                    out.append(found)
        return out

    @property
    def rest(self) -> bytes:
        """What has come since the last whole event; anything but blank lines and comments means a cut event."""
        return b"".join(self._parts)

    def end(self) -> list[bytes]:
        """At the end of the bytes: the data of a last event that lacks its blank line."""
        rest = self.rest
        self._parts.clear()
        self._size = 0
        data = [_data(block) for block in _BLANK.split(rest)]
        return [d for d in data if d is not None]

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._parts.append(piece)
            self._size += len(piece)
            if self._size > MAX_EVENT_BYTES:
                raise Problem(
                    "provider", f"the provider sent an event of over {MAX_EVENT_BYTES} bytes", code="upstream_invalid"
                )

    def _line_ends(self, chunk: bytes) -> bytes:
        """LF for CRLF and CR. A CR counts at once, so an LF that follows it in the next chunk is left out."""
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
        self._after_cr = chunk[-1:] == b"\r"
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data(block: bytes) -> bytes | None:
    """The data lines of one event, joined by LF; None when it has none."""
    lines = []
    for line in block.removeprefix(_BYTE_ORDER_MARK).split(b"\n"):
        if line[:5] == b"data:":
            lines.append(line[6:] if line[5:6] == b" " else line[5:])
    return b"\n".join(lines) if lines else None
