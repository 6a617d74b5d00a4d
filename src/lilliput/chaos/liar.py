"""The lying provider: an HTTP server on loopback that does to each call what its scenario says.

A call belongs to the cell whose mark stands in its prompt, so that any gateway carries it through, and cells run at
once. It speaks the dialect of the path that it is asked at.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from lilliput.chaos.scenario import Act
from lilliput.chaos.speech import Dialect, Speech

_MARK = re.compile(rb"chaos-(\d+)-mark")
_FOLLOWED = re.compile(r"/followed/(\d+)")
_HEAD_BYTES = 1 << 20
SECOND = "/second"
"""Before the path of calls to the second deployment."""


def mark(number: int) -> str:
    """What stands in the prompt of cell `number`."""
    return f"chaos-{number}-mark"


class Cell:
    """What is to be done to one cell's calls, and what was seen of them."""

    def __init__(self, number: int, acts: Sequence[Act], second: Act | None = None) -> None:
        self.number, self.acts, self.second = number, acts, second
        self.calls: list[Dialect] = []
        self.followed = False
        self.came = asyncio.Event()
        self.gone = asyncio.Event()


class Liar:
    """`async with Liar(port) as liar:` serves on 127.0.0.1; `cells` are by number."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.cells: dict[int, Cell] = {}
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_HEAD_BYTES, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        cell: Cell | None = None
        try:
            while True:
                path, body = await _request(reader)
                if (followed := _FOLLOWED.search(path)) and int(followed[1]) in self.cells:
                    self.cells[int(followed[1])].followed = True
                found = _MARK.search(body)
                cell = self.cells.get(int(found[1])) if found else None
                dialect = _dialect(path)
                if cell is None or dialect is None:
                    writer.write(_other(path))
                    continue
                cell.calls.append(dialect)
                act = cell.acts[min(len(cell.calls), len(cell.acts)) - 1]
                if path.startswith(SECOND) and cell.second is not None:
                    act = cell.second
                cell.came.set()
                stream = b'"stream":true' in body.replace(b" ", b"") and act.content_type != "application/json"
                await _play(act, cell.number, Speech(dialect, stream), reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
            pass
        finally:
            if cell is not None:
                cell.gone.set()
            self._writers.discard(writer)
            writer.close()


async def _request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    path = lines[0].split(" ")[1].split("?")[0]
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return path, await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return path, body


def _dialect(path: str) -> Dialect | None:
    for end, dialect in _ENDS.items():
        if path.endswith(end):
            return dialect
    return None


_ENDS: dict[str, Dialect] = {"/chat/completions": "chat", "/responses": "responses", "/messages": "messages"}


def _other(path: str) -> bytes:
    """What is answered to calls that belong to no cell: a list of models, or that there is nothing."""
    known = path.endswith("/models")
    body = json.dumps({"object": "list", "data": [{"id": "liar", "object": "model"}]} if known else {"error": {}})
    status = "200 OK" if known else "404 Not Found"
    return f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


async def _play(
    act: Act, number: int, speech: Speech, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One answer; raises ConnectionError once the connection is not to be used again."""
    if act.raw is not None:
        writer.write(act.raw)
    else:
        await _say(act, number, speech, writer)
    if act.then == "end" and act.framing != "close":
        return
    await writer.drain()
    if act.then == "hang":
        await reader.read()
    elif act.then == "rst":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionAbortedError


async def _say(act: Act, number: int, speech: Speech, writer: asyncio.StreamWriter) -> None:
    parts = [part if isinstance(part, bytes | float) else speech.bytes_of(part) for part in act.body]
    if act.crlf:
        parts = [part.replace(b"\n", b"\r\n") if isinstance(part, bytes) else part for part in parts]
    size = sum(len(part) for part in parts if isinstance(part, bytes))
    keep = size - act.tear_bytes if act.keep_bytes is None else act.keep_bytes
    parts, size = _first(parts, keep), keep
    kind = act.content_type or ("text/event-stream" if speech.stream else "application/json")
    framing = {
        "chunked": "transfer-encoding: chunked\r\n",
        "length": f"content-length: {size}\r\n",
        "longer": f"content-length: {size + 100}\r\n",
        "close": "connection: close\r\n",
    }[act.framing]
    headers = act.headers.replace("/followed", f"/followed/{number}")
    writer.write(act.head)
    writer.write(f"HTTP/1.1 {act.status} X\r\ncontent-type: {kind}\r\n{headers}{framing}\r\n".encode())
    for part in parts:
        if isinstance(part, float):
            await writer.drain()
            await asyncio.sleep(part)
        else:
            for piece in _split(part, act.split_bytes):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if act.framing == "chunked" else piece)
                await writer.drain()
    writer.write(act.after)
    if act.framing == "chunked" and act.then == "end":
        writer.write(b"0\r\n\r\n")


def _first(parts: list[bytes | float], left: int) -> list[bytes | float]:
    """The parts as far as their first `left` bytes, and every pause."""
    kept: list[bytes | float] = []
    for part in parts:
        kept.append(part[: max(left, 0)] if isinstance(part, bytes) else part)
        left -= len(part) if isinstance(part, bytes) else 0
    return kept


def _split(data: bytes, size: int) -> list[bytes]:
    if not data:
        return []
    return [data[at : at + size] for at in range(0, len(data), size)] if size else [data]
