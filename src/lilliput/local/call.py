"""JSON calls to an engine over kept connections. Nothing is known here of what they say.

A caller who leaves closes the connection, and with that the engine drops the work.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TypeVar
from urllib.parse import urlsplit

import httptools
import msgspec

from lilliput.local.engine import Engine
from lilliput.neutral import Problem

CONNECTIONS = 24
"""At once; each holds one of the engine's `HTTP_THREADS` for as long as it is open."""
CHUNK_BYTES = 1 << 16
T = TypeVar("T")
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Calls:
    """Calls to one engine. Belongs to one event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._idle: deque[tuple[str, Pair]] = deque()

    async def post(self, path: str, body: bytes, form: type[T]) -> T:
        """What a 200 says; raises Problem (503) when the engine cannot answer, or answers anything else.

        A kept connection that the engine has closed in the meantime is no failure: the call is made on a new one,
        unless the engine has ended, which may be the call's own doing.
        """
        said = await self._post(path, body)
        try:
            return msgspec.json.decode(said, type=form)
        except msgspec.DecodeError as e:
            raise self._failed(f"answered what cannot be read: {e}") from None

    async def _post(self, path: str, body: bytes) -> bytes:
        async with self._free:
            base = await self._engine.address()
            pair = self._kept(base)
            if pair is not None:
                try:
                    return await self._exchange(base, pair, path, body)
                except (OSError, EOFError) as e:
                    if not self._engine.running or await self._engine.address() != base:
                        raise self._failed(f"ended ({e or type(e).__name__})") from None
            try:
                return await self._exchange(base, await _connect(base), path, body)
            except (OSError, EOFError) as e:
                raise self._failed(f"broke off ({e or type(e).__name__})") from None

    def close(self) -> None:
        while self._idle:
            _, (_, writer) = self._idle.pop()
            writer.transport.abort()

    def _kept(self, base: str) -> Pair | None:
        """A connection to the engine as it runs now; those to one before it are dropped."""
        while self._idle:
            at, pair = self._idle.pop()
            if at == base and not pair[0].at_eof():
                return pair
            pair[1].transport.abort()
        return None

    async def _exchange(self, base: str, pair: Pair, path: str, body: bytes) -> bytes:
        reader, writer = pair
        whole = False
        try:
            writer.write(
                f"POST {path} HTTP/1.1\r\nhost: {urlsplit(base).netloc}\r\ncontent-type: application/json\r\n"
                f"authorization: Bearer {self._engine.key.reveal()}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            answer = _Answer()
            while not answer.whole:
                data = await reader.read(CHUNK_BYTES)
                if not data:
                    raise EOFError("the engine closed the connection")
                answer.feed(data)
            whole = answer.keeps
        except httptools.HttpParserError as e:
            raise self._failed(f"answered what is no HTTP: {e}") from None
        finally:
            if whole:
                self._idle.append((base, pair))
            else:
                writer.transport.abort()
        if answer.status != 200:
            raise self._failed(f"answered {answer.status}: {answer.body[:300].decode('utf-8', 'replace')}")
        return bytes(answer.body)

    def _failed(self, what: str) -> Problem:
        return Problem("server", f"the engine of {self._engine.alias} {what}", code="engine_unavailable")


class _Answer:
    """One HTTP answer as it comes."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.status, self.whole, self.keeps = 0, False, False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.whole, self.keeps = True, self._parser.should_keep_alive()


async def _connect(base: str) -> Pair:
    url = urlsplit(base)
    return await asyncio.open_connection(url.hostname, url.port)
