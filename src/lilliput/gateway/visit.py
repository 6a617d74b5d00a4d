"""One request over a raw connection, and the bytes of its answer: head, chunks, end.

What an answer says is not decided here, nor when the connection is read or closed (see `server`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from lilliput.gateway.exchange import Lines
from lilliput.gateway.routes import NOBODY, Route
from lilliput.neutral import Key, Problem
from lilliput.wire.openai.problem import write_stream_problem

if TYPE_CHECKING:
    from lilliput.gateway.connection import Conn
    from lilliput.gateway.server import Limits

_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type"})
_BAD_HOST = frozenset(b'/\\?#@ \t"<>^`{|}')
_REASONS = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


class Visit:
    """One request and the way back to its caller (`exchange.Visit`), over a raw connection."""

    __slots__ = (
        "_conn",
        "_unsent",
        "body",
        "has_ended",
        "has_started",
        "headers",
        "keep",
        "key",
        "last_word",
        "method",
        "pings",
        "problem",
        "request_id",
        "route",
        "target",
        "version",
        "waits",
        "wrote_at",
    )  # fmt: skip

    def __init__(
        self,
        conn: Conn,
        request_id: bytes,
        method: bytes = b"",
        target: bytes = b"",
        headers: dict[bytes, bytes] | None = None,
        version: str = "1.1",
        keep: bool = False,
    ) -> None:
        """`keep` says whether the connection outlives the answer."""
        self._conn = conn
        self.request_id = request_id
        self.method = method
        self.target = target
        self.headers = headers if headers is not None else {}
        self.version = version
        self.keep = keep
        self.key: Key = NOBODY
        self.route: Route | None = None
        self.last_word: Callable[[Problem], bytes] = write_stream_problem
        self.pings = False
        self.body = b""
        self.problem: Problem | None = None
        self.has_started = self.has_ended = False
        self._unsent = b""
        self.wrote_at = self.waits = 0
        """`waits` is 1 while it counts as one that waits for its answer (`shed`)."""

    @property
    def dialect(self) -> str:
        """The one to answer problems in."""
        return "openai_chat" if self.route is None else self.route.dialect

    def header(self, name: bytes) -> bytes | None:
        return self.headers.get(name)

    def reply(self, status: int, headers: Lines, body: bytes) -> Awaitable[None] | None:
        """The whole answer at once."""
        self._begin()
        self.has_ended = True
        head = self._head(status, headers)
        data = b"%bcontent-length: %d\r\n\r\n" % (head, len(body))
        self._conn.transport.write(data if self.method == b"HEAD" else data + body)
        return self._conn.can_write

    def start(self, status: int, headers: Lines) -> Awaitable[None] | None:
        """Begins an answer of unknown length; its head goes out with the first write."""
        self._begin()
        self.wrote_at = self._conn.listener.tick
        self.pings = b"text/event-stream" in headers
        if self.version == "1.1":
            self._unsent = self._head(status, headers) + b"transfer-encoding: chunked\r\n\r\n"
        else:
            self.keep = False
            self._unsent = self._head(status, headers) + b"\r\n"
        self._conn.streaming = self
        self._conn.listener.load.waiting -= self.waits
        self.waits = 0
        return None

    def write(self, data: bytes) -> Awaitable[None] | None:
        self.wrote_at = self._conn.listener.tick
        if self.version == "1.1":
            self._conn.transport.write(b"%b%x\r\n%b\r\n" % (self._unsent, len(data), data))
        else:
            self._conn.transport.write(self._unsent + data)
        self._unsent = b""
        return self._conn.can_write

    def finish(self) -> Awaitable[None] | None:
        self.has_ended = True
        self._conn.streaming = None
        end = b"0\r\n\r\n" if self.version == "1.1" else b""
        if self._unsent or end:
            self._conn.transport.write(self._unsent + end)
        self._unsent = b""
        return self._conn.can_write

    def _begin(self) -> None:
        if self.has_started:
            raise RuntimeError("a second answer was begun for one request")
        self.has_started = True

    def _head(self, status: int, headers: Lines) -> bytes:
        end = b"" if self.keep else b"connection: close\r\n"
        return b"%b%b%b%b" % (_REASONS[status], self._conn.listener.date, headers, end)


def once(pairs: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises Problem (400) when a header that decides something stands twice."""
    names = [name for name, _ in pairs]
    for name in _ONCE:
        if names.count(name) > 1:
            raise Problem("client", f"the header {name.decode()!r} stands twice", code="bad_request")


def sound(visit: Visit, pairs: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises Problem (400) for a head that parses but that two servers might read differently."""
    if len(visit.headers) != len(pairs):
        once(pairs)
    host = visit.headers.get(b"host")
    if (host is None and visit.version == "1.1") or (host and not _BAD_HOST.isdisjoint(host)):
        raise Problem("client", "the Host header is missing or not a host", code="bad_request")
    if visit.version not in ("1.1", "1.0"):
        raise Problem("client", f"HTTP/{visit.version} is not spoken here; use HTTP/1.1", code="bad_version")
    if visit.version == "1.0" and b"transfer-encoding" in visit.headers:
        raise Problem("client", "HTTP/1.0 knows no Transfer-Encoding; send a Content-Length", code="bad_request")


def weigh(pairs: Sequence[tuple[bytes, bytes]], limits: Limits) -> None:
    """Raises Problem (431) for headers past the limits; only a head that may be is counted."""
    size = sum(len(name) + len(value) for name, value in pairs)
    if size > limits.head_bytes or len(pairs) > limits.header_count:
        raise too_long()


def too_long() -> Problem:
    return Problem("client", "the headers are too large or too many", 431, code="headers_too_large")
