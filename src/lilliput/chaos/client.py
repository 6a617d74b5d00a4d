"""One call as a client makes it, read byte by byte: nothing is forgiven, nothing is retried."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from lilliput.chaos.speech import PATHS, Dialect

CHUNK_BYTES = 1 << 16
SLOW_S = 0.02


@dataclass(frozen=True)
class Door:
    """The gateway under test: `base` with or without /v1, the model's name, the key, headers of its own."""

    base: str
    model: str
    key: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def request(self, dialect: Dialect, stream: bool, prompt: str) -> bytes:
        url = urlsplit(self.base)
        path = url.path.rstrip("/").removesuffix("/v1") + PATHS[dialect]
        body = json.dumps(_body(dialect, stream, self.model, prompt)).encode()
        lines = [("host", url.netloc), ("content-type", "application/json"), ("content-length", str(len(body)))]
        lines += [("authorization", f"Bearer {self.key}"), ("connection", "close"), *self.headers]
        if dialect == "messages":
            lines.append(("anthropic-version", "2023-06-01"))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _body(dialect: Dialect, stream: bool, model: str, prompt: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "stream": stream}
    if dialect == "responses":
        return body | {"input": prompt}
    body["messages"] = [{"role": "user", "content": prompt}]
    return body | ({"max_tokens": 100} if dialect == "messages" else {})


@dataclass
class Seen:
    """What came: `whole` when the framing ended properly, `hung` when nothing ended it in time."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    hung: bool = False
    took_s: float = 0.0


async def connect(door: Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = urlsplit(door.base)
    is_tls = url.scheme == "https"
    port = url.port or (443 if is_tls else 80)
    return await asyncio.open_connection(url.hostname or "127.0.0.1", port, ssl=is_tls or None, limit=CHUNK_BYTES)


async def call(
    door: Door, dialect: Dialect, stream: bool, prompt: str, limit_s: float, *, reads_slowly: bool = False
) -> Seen:
    """The whole answer, or as much as came in `limit_s`; a connection that breaks is an answer that is not whole."""
    seen, began = Seen(), time.monotonic()
    try:
        async with asyncio.timeout(limit_s):
            reader, writer = await connect(door)
            try:
                writer.write(door.request(dialect, stream, prompt))
                await _read(reader, seen, SLOW_S if reads_slowly else 0.0)
            finally:
                writer.transport.abort()
    except TimeoutError:
        seen.hung = True
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        pass
    seen.took_s = time.monotonic() - began
    return seen


async def leave(
    door: Door,
    dialect: Dialect,
    stream: bool,
    prompt: str,
    limit_s: float,
    came: Callable[[], Awaitable[object]],
    gone: Callable[[], Awaitable[object]],
    after: bytes,
) -> float | None:
    """Hangs up once `came` (and `after` has been read); seconds until `gone`, None past `limit_s`.

    Raises TimeoutError when there was nothing to hang up on.
    """
    async with asyncio.timeout(limit_s):
        reader, writer = await connect(door)
        try:
            writer.write(door.request(dialect, stream, prompt))
            await came()
            if after:
                await reader.readuntil(after)
            else:
                await asyncio.sleep(0.05)  # what has come may still be on its way through the gateway
        finally:
            writer.transport.abort()
    began = time.monotonic()
    try:
        async with asyncio.timeout(limit_s):
            await gone()
    except TimeoutError:
        return None
    return time.monotonic() - began


async def _read(reader: asyncio.StreamReader, seen: Seen, pause_s: float) -> None:
    while seen.status < 200:  # early hints are no answer
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        seen.status = int(head[0].split(" ")[1])
    seen.headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
    }
    if seen.headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await _take(reader, seen, size, pause_s)
            await reader.readexactly(2)
        seen.whole = True
    elif "content-length" in seen.headers:
        await _take(reader, seen, int(seen.headers["content-length"]), pause_s)
        seen.whole = True
    else:
        while data := await reader.read(CHUNK_BYTES):
            seen.body += data
        seen.whole = True


async def _take(reader: asyncio.StreamReader, seen: Seen, size: int, pause_s: float) -> None:
    while size:
        data = await reader.read(min(size, CHUNK_BYTES))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        seen.body += data
        size -= len(data)
        if pause_s:
            await asyncio.sleep(pause_s)
