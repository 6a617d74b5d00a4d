"""A request's head that came before on its connection: the parser reads it once, then it is known by its bytes.

Clients repeat their heads from request to request, all but the number in Content-Length. What is the same byte for
byte is read the same way, so neither parser nor checks of form look at it again; the key and the limits are asked each
time. Only a request that comes in one piece is looked at like this, which is about a tenth of a small request's work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from lilliput.gateway import gates
from lilliput.gateway.routes import Route
from lilliput.gateway.visit import Visit

if TYPE_CHECKING:
    from lilliput.gateway.connection import Conn

MOST_BYTES = 4096
_LENGTH = b"\r\ncontent-length: "
_DIGITS = 9
_OTHERWISE = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
"""Headers that make a request something else than a head and as many bytes as it says."""


class Head(Struct, frozen=True, eq=False):
    """What stands `before` and `after` the number in Content-Length, and what the parser made of it."""

    before: bytes
    after: bytes
    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    route: Route
    token: str

    def length(self, data: bytes) -> bytes:
        """The Content-Length of `data` when that is this head and a whole body, no byte more or less; else b""."""
        start = len(self.before)
        if data[:start] != self.before:
            return b""
        digits = data[start : start + _DIGITS].partition(b"\r")[0]
        begins = start + len(digits) + len(self.after)
        if not digits.isdigit() or data[start + len(digits) : begins] != self.after:
            return b""
        return digits if len(data) == begins + int(digits) else b""

    def visit(self, conn: Conn, request_id: bytes, length: bytes) -> Visit:
        """A request under this head with a body of `length`."""
        headers = {**self.headers, b"content-length": length}
        visit = Visit(conn, request_id, self.method, self.target, headers, "1.1", keep=True)
        visit.route = self.route
        return visit


def learnt(data: bytes, visit: Visit) -> Head | None:
    """The head in `data`, which the parser read as `visit`; None for one that is to be read each time."""
    headers, route = visit.headers, visit.route
    length = headers.get(b"content-length", b"")
    end = data.find(b"\r\n\r\n", 0, MOST_BYTES) + 4
    if route is None or route.operation is None or route.permission != "key":
        return None
    if not visit.keep or not length or end < 4:
        return None
    if len(data) != end + len(visit.body) or not data.endswith(visit.body) or not _OTHERWISE.isdisjoint(headers):
        return None
    head = data[:end]
    before, found, after = head.lower().partition(_LENGTH + length + b"\r\n")
    if not found or _LENGTH in before + after:
        return None
    start = len(before) + len(_LENGTH)
    token = gates.token(headers)
    return Head(head[:start], head[start + len(length) :], visit.method, visit.target, headers, route, token)


def framing(visit: Visit) -> bytes:
    """The header line that says how long the body is."""
    if b"transfer-encoding" in visit.headers:
        return b"transfer-encoding: chunked"
    return b"content-length: %b" % visit.headers.get(b"content-length", b"0")
