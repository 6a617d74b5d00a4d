"""AWS's binary event stream (application/vnd.amazon.eventstream): bytes in, the events of each whole message out.

Framing only (AWS SDKs, "Event stream encoding", checked 2026-11-22): total length, length of headers and a CRC of both,
then headers, payload and a CRC of all. What the payload means belongs to each dialect's own module.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from zlib import crc32

from msgspec import Struct

from lilliput.neutral import Problem
from lilliput.wire.broken import invalid_answer

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_MAX_KNOWN = 16
_PRELUDE = struct.Struct(">III")
_LEAST = _PRELUDE.size + 4
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; text (7) and bytes (6) say their own length."""


class Message(Struct, frozen=True, gc=False):
    """One message: its text headers by name (as ":event-type"), and its payload."""

    headers: Mapping[str, str]
    payload: bytes


class Splitter:
    """The whole messages so far, however the bytes are cut. A damaged message, or one past 16 MiB, raises Problem."""

    __slots__ = ("_known", "_needed", "_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = _PRELUDE.size
        self._known: dict[bytes, dict[str, str]] = {}

    @property
    def is_between(self) -> bool:
        """True when no message has begun that is not whole."""
        return not self._size

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The messages that `chunk` completes, each checked as it is asked for; ask for all of them."""
        if self._parts:
            self._parts.append(chunk)
            self._size += len(chunk)
            if self._size < self._needed:
                return
            chunk = b"".join(self._parts)
        at, size, self._needed = 0, len(chunk), _PRELUDE.size
        while size - at >= _PRELUDE.size:
            total, header_bytes, prelude_crc = _PRELUDE.unpack_from(chunk, at)
            if crc32(chunk[at : at + 8]) != prelude_crc:
                raise _damaged("the length of a message fails its checksum")
            if not _LEAST + header_bytes <= total <= MAX_MESSAGE_BYTES:
                raise _damaged(f"a message of {total} bytes with {header_bytes} of headers")
            if size - at < total:
                self._needed = total
                break
            end = at + total - 4
            if crc32(chunk[at:end]) != int.from_bytes(chunk[end : end + 4], "big"):
                raise _damaged("a message fails its checksum")
            start = at + _PRELUDE.size + header_bytes
            yield Message(self._headers(chunk[at + _PRELUDE.size : start]), chunk[start:end])
            at += total
        self._parts = [chunk[at:]] if at < size else []
        self._size = size - at

    def _headers(self, raw: bytes) -> Mapping[str, str]:
        """Nearly every message of a stream has the headers of one before it."""
        known = self._known.get(raw)
        if known is None:
            known = _read_headers(raw)
            if len(self._known) < _MAX_KNOWN:
                self._known[raw] = known
        return known


def _read_headers(raw: bytes) -> dict[str, str]:
    """The headers whose value is text; others have no meaning here."""
    out = {}
    at, end = 0, len(raw)
    try:
        while at < end:
            value_at = at + 2 + raw[at]
            name, kind = raw[at + 1 : value_at - 1], raw[value_at - 1]
            if kind in (6, 7):
                size = int.from_bytes(raw[value_at : value_at + 2], "big")
                value_at += 2
            else:
                size = _SIZES[kind]
            at = value_at + size
            if kind == 7:
                out[name.decode()] = raw[value_at:at].decode()
    except (IndexError, KeyError, UnicodeDecodeError):
        at = -1
    if at != end:
        raise _damaged("its headers cannot be read")
    return out


def _damaged(why: str) -> Problem:
    return invalid_answer(b"", why)
