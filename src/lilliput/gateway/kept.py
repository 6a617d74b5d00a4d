"""An answer as it was given, to be given again: recorded on its way out, packed, replayed piece by piece."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct

from lilliput.gateway.exchange import Lines, Visit, told
from lilliput.gateway.observe import Record
from lilliput.gateway.witness import Witness

LINES = (b"content-type:", b"cache-control:", b"retry-after:", b"x-lilliput-dropped:")
"""The header lines that are the answer's; the others are about the request that it was first given to."""

_pack = msgspec.msgpack.Encoder().encode


class Kept(Struct, frozen=True, array_like=True):
    """`pieces` are as they went out, the last one at `made_at`; `status` 0 is an answer too long to be kept."""

    status: int
    lines: Lines
    pieces: list[bytes]
    is_stream: bool
    served_by: str
    made_at: float

    @property
    def packed(self) -> bytes:
        return _pack(self)


_unpack = msgspec.msgpack.Decoder(Kept).decode


def unpacked(data: bytes) -> Kept | None:
    """None for what another version packed otherwise."""
    try:
        return _unpack(data)
    except msgspec.MsgspecError:
        return None


class Recorder(Witness):
    """`exchange.Seat` that records the answer, up to `most_bytes`, and tells each of `ends` of the request's end."""

    def __init__(self, visit: Visit, most_bytes: int, clock: Callable[[], float]) -> None:
        super().__init__(visit)
        self.ends: list[End] = []
        self.size_bytes = 0
        self._most, self._clock = most_bytes, clock
        self._lines: Lines = b""
        self._pieces: list[bytes] = []
        self._is_stream = False

    def begun(self, status: int, headers: Lines) -> None:
        self._lines = b"".join(line for line in headers.splitlines(keepends=True) if line.startswith(LINES))

    def start(self, status: int, headers: Lines) -> Awaitable[None] | None:
        self._is_stream = True
        return super().start(status, headers)

    def heard(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if self.size_bytes <= self._most:
            self._pieces.append(data)
        else:
            self._pieces.clear()

    def kept(self, record: Record, most_bytes: int) -> Kept:
        """The answer, or that it is longer than `most_bytes`."""
        now = self._clock()
        if self.size_bytes > min(most_bytes, self._most):
            return Kept(0, b"", [], False, record.served_by, now)
        return Kept(self.status, self._lines, self._pieces, self._is_stream, record.served_by, now)

    async def closed(self, record: Record) -> None:
        for end in self.ends:
            await end(record, self)
        self.ends.clear()


End = Callable[[Record, Recorder], Awaitable[None]]
"""Told once of a request's end; raises nothing."""


async def replay(visit: Visit, kept: Kept, record: Record, why: bytes, lines: Lines) -> None:
    """Gives the answer again, `lines` with it, under the new request's own id."""
    record.served_by, record.cache, record.cost_nusd = kept.served_by, why.decode(), 0
    record.route = b"%b; tries=0; why=%b" % (kept.served_by.encode("ascii", "backslashreplace"), why)
    head = kept.lines + lines + told(record)
    if not kept.is_stream:
        slow = visit.reply(kept.status, head, b"".join(kept.pieces))
    else:
        visit.start(kept.status, head)
        for piece in kept.pieces:
            slow = visit.write(piece)
            if slow is not None:
                await slow
        slow = visit.finish()
    if slow is not None:
        await slow
