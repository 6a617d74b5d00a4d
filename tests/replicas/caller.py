"""A caller of chat who keeps its connection, reads every byte and never asks again by itself."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import urlsplit

from msgspec import Struct

_BROKEN = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)


class Answer(Struct):
    """What came; `status` is 0 and the body short when the connection broke or time was up before its end."""

    status: int
    body: bytes
    took_s: float
    headers: dict[str, str]

    @property
    def code(self) -> str:
        """The error's code, "" when it has none."""
        try:
            return str(json.loads(self.body)["error"]["code"] or "")
        except (ValueError, KeyError, TypeError):
            return ""


def request(base: str, key: str, model: str, mark: str, stream: bool = False) -> bytes:
    """A chat whose prompt has the mark that the upstream counts by."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": f"Say ok. <{mark}>"}]}
    if stream:
        body["stream_options"] = {"include_usage": True}
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {urlsplit(base).netloc}\r\nauthorization: Bearer {key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data


class Caller:
    def __init__(self, base: str, key: str, limit_s: float = 30.0) -> None:
        self.base, self.key, self._limit_s = base, key, limit_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, model: str, mark: str, stream: bool = False) -> Answer:
        began, found = time.monotonic(), Answer(0, b"", 0.0, {})
        try:
            async with asyncio.timeout(self._limit_s):
                found = await self._ask(request(self.base, self.key, model, mark, stream))
        except (TimeoutError, *_BROKEN):
            self.close()
        found.took_s = time.monotonic() - began
        return found

    async def _ask(self, data: bytes) -> Answer:
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            url = urlsplit(self.base)
            self._streams = await asyncio.open_connection(url.hostname, url.port)
        reader, writer = self._streams
        writer.write(data)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        else:
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(lines[0].split(" ")[1]), body, 0.0, headers)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
