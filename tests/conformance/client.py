"""An HTTP client of a few lines for the conformance run: one request a connection, every byte accounted for.

No SDK and no library, so that nothing between the gateway and the judge mends or hides what was sent.
"""

from __future__ import annotations

import asyncio

from msgspec import Struct

TIMEOUT_S = 20.0


class Heard(Struct, frozen=True):
    """An answer as it came. `is_whole` tells that HTTP's own framing ended properly."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool


async def post(port: int, path: str, headers: str, body: bytes, kind: str = "application/json") -> Heard:
    """Sends a body with `headers`, whole lines, and reads the answer to the connection's end.

    Raises TimeoutError, and ValueError for what is no HTTP.
    """
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}"
                f"Content-Type: {kind}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            return parse(await _all(reader))
        finally:
            writer.close()


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Every byte until the connection ends, however it ends."""
    parts = []
    try:
        while part := await reader.read(2**16):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def parse(data: bytes) -> Heard:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1.1 "):
        raise ValueError(f"no HTTP answer: {data[:100]!r}")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split(" ", 2)[1])
    if "chunked" not in headers.get("transfer-encoding", ""):
        return Heard(status, headers, body, len(body) == int(headers.get("content-length", -1)))
    out: list[bytes] = []
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:end], 16)
        piece = body[end + 2 : end + 2 + size]
        if size == 0 or len(piece) < size:
            return Heard(status, headers, b"".join([*out, piece]), size == 0)
        out.append(piece)
        at = end + 2 + size + 2
    return Heard(status, headers, b"".join(out), False)
