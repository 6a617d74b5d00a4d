"""HTTP out, one connection: an asyncio protocol that reads one answer at a time, with its time limits.

Parsing is httptools' (llhttp). Which connection is used, and what is sent over it, is `upstream`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

import httptools
from msgspec import Struct

from lilliput.neutral import Problem

if TYPE_CHECKING:
    from lilliput.gateway.upstream import Pool

SWEEP_S = 0.5
READ_AHEAD_BYTES = 256 * 1024
HEAD_BYTES = 64 * 1024
DRAIN_S = 2.0


class Patience(Struct, frozen=True, kw_only=True):
    """How long to wait for a provider, seconds, and how much of its answer to hold, bytes."""

    connect_s: float = 5.0
    first_byte_s: float = 120.0
    stall_s: float = 60.0
    total_s: float = 0.0
    idle_s: float = 60.0
    answer_bytes: int = 64 * 1024 * 1024


class Stale(Problem):
    """A kept connection turned out to be dead before a byte of the answer came: safe to send again on a new one."""


class Answer(asyncio.Protocol):
    """One upstream connection and the answer now coming over it.

    Once `status` is set, which `event()` waits for, the headers are there; then `next()` gives bytes as they come, b""
    at the end, or `read()` all of them. Both raise Problem. `release()` gives a read-out connection back to its pool
    and closes any other.
    """

    __slots__ = (
        "_began", "_chunks", "_closing", "_draining", "_got", "_head_bytes", "_is_stopped", "_pool", "_reused",
        "_since", "_size", "_slow", "_started", "_take", "_waiter", "asked", "headers", "heard", "is_done", "parser",
        "paused", "problem", "status", "transport",
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._since = self._started = pool.tick
        self._reused = False
        self._waiter: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.parser: httptools.HttpResponseParser = None  # type: ignore[assignment]
        self.headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._reset()

    def _reset(self) -> None:
        self._chunks.clear()
        self.headers = []
        self._size = self._head_bytes = 0
        self.is_done = self._got = self._began = self._closing = False
        self.asked = self.paused = self._draining = False
        self._is_stopped = False
        self._take: Callable[[bytes], Awaitable[None] | None] | None = None
        self._slow: Awaitable[None] | None = None
        self.status = 0
        self.problem: Problem | None = None
        self.heard: Callable[[bytes], object] | None = None

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # a TCP or TLS one, which uvloop does not declare as such
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)
        self._pool.open.add(self)

    def data_received(self, data: bytes) -> None:
        if not self.asked:
            self.transport.abort()  # bytes that nobody asked for: this connection can no longer be trusted
            return
        self._got = True
        self._since = self._pool.tick
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
            if not self.status and self._head_bytes > HEAD_BYTES:
                raise httptools.HttpParserError("its headers are too large")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as e:
            self._fail(Problem("provider", f"the provider broke HTTP: {e}", code="upstream_invalid"))
            self.transport.abort()
            return
        if self._draining:
            self._chunks.clear()
            if self.is_done:
                self._keep()
            return
        if self._take is not None and self._slow is None:
            self._give()
            if self._slow is None and not self.is_done and not self._is_stopped:
                return
        if self._size > READ_AHEAD_BYTES and not self.paused and not self.is_done:
            self.paused = True
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        if not self.asked or self.is_done:
            return
        if exc is None and self.status and not self._says_its_length():
            self.is_done = self._closing = True
            self._wake()
        elif self._reused and not self._got:
            self._fail(Stale("provider", "the provider closed a kept connection", code="upstream_unreachable"))
        else:
            what = "in the middle of its answer" if self._got else "without an answer"
            code = "upstream_truncated" if self.status else "upstream_unreachable"
            self._fail(Problem("provider", f"the provider closed the connection {what}", code=code))

    # -- the parser's side

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_message_begin(self) -> None:
        if self.is_done:
            raise ValueError("a second answer came to one request")

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:
            self.headers = []
            return
        self.status = status

    def on_body(self, body: bytes) -> None:
        self._began = True
        self._chunks.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        if self.status:
            self.is_done = True
            self._closing = not self.parser.should_keep_alive()

    # -- our side

    def header(self, name: bytes) -> bytes | None:
        """The value of the first header called `name`, which is in lower case."""
        for given, value in self.headers:
            if len(given) == len(name) and given.lower() == name:
                return value
        return None

    def _says_its_length(self) -> bool:
        return self.header(b"content-length") is not None or self.header(b"transfer-encoding") is not None

    def send(self, data: bytes) -> None:
        self.asked = True
        self._since = self._started = self._pool.tick
        self.transport.write(data)

    async def next(self) -> bytes:
        """The bytes that have come since the last call, b"" once the answer is whole."""
        while not self._chunks:
            if self.problem is not None:
                raise self.problem
            if self.is_done:
                return b""
            self._resume()
            await self.event()
        return self.rest()

    def rest(self) -> bytes:
        """What has come and was not yet taken."""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self.heard is not None:
            self.heard(data)
        return data

    async def pour(self, take: Callable[[bytes], Awaitable[None] | None]) -> None:
        """Gives `take` each piece of the body as it comes, in the reader's own callback, until the end or `stop`.

        `take` returns None, or something to await while its reader is slow; meanwhile nothing is given to it.
        Nothing wakes a task for a piece, which halves what a streamed event costs.
        """
        self._take = take
        try:
            self._give()
            while self._slow is not None or not self._is_stopped:
                if self._slow is not None:
                    await self._slow
                    self._slow = None
                    self._give()
                elif self._chunks:
                    self._give()
                elif self.problem is not None:
                    raise self.problem
                elif self.is_done:
                    return
                else:
                    self._resume()
                    await self.event()
        finally:
            self._take = None

    def stop(self) -> None:
        """Ends `pour` although more may come."""
        self._is_stopped = True

    def _give(self) -> None:
        if self._take is None or self._is_stopped or not self._chunks:
            return
        self._slow = self._take(self.rest())

    async def read(self) -> bytes:
        """The whole body; raises Problem past `Patience.answer_bytes`."""
        if self.is_done:
            return await self.next()
        most, parts, size = self._pool.patience.answer_bytes, [], 0
        while data := await self.next():
            parts.append(data)
            size += len(data)
            if size > most:
                raise Problem("provider", f"the provider's answer is over {most} bytes", code="upstream_invalid")
        return b"".join(parts)

    def release(self, drains: bool = False) -> None:
        """With `drains`, an answer whose end is only a formality is read out in the background, for a short while."""
        if self.problem is not None or self.transport.is_closing():
            self.transport.abort()
        elif self.is_done:
            self._keep()
        elif drains:
            self._draining = True
            self._chunks.clear()
            self._size = 0
            self._started = self._pool.tick
            self._resume()
        else:
            self.transport.abort()

    def _keep(self) -> None:
        """Back to the pool, or closed if the provider said so."""
        if self._closing:
            self.transport.close()
            return
        if self.paused:
            self._resume()
        self._reset()
        self._reused = True
        self._since = self._pool.tick
        self._pool.idle.append(self)

    def sweep(self, tick: int, patience: Patience) -> None:
        """Fails an answer that is late, closes a connection that idles; called twice a second."""
        still_s = (tick - self._since) * SWEEP_S
        if not self.asked:
            if still_s > patience.idle_s:
                self.transport.close()
            return
        if self._draining and (tick - self._started) * SWEEP_S > DRAIN_S:
            self.transport.abort()
        if self._draining or self.is_done or self.problem is not None:
            return
        if not self._began and (tick - self._started) * SWEEP_S > patience.first_byte_s:
            say = f"the provider sent nothing for {patience.first_byte_s:g} s"
            self._fail(Problem("timeout", say, code="upstream_timeout"))
        elif self._began and still_s > patience.stall_s and not self.paused:
            say = f"the provider stalled for {patience.stall_s:g} s in the middle of its answer"
            self._fail(Problem("timeout", say, code="upstream_stalled"))
        elif patience.total_s and (tick - self._started) * SWEEP_S > patience.total_s:
            say = f"the provider's answer took over {patience.total_s:g} s"
            self._fail(Problem("timeout", say, code="upstream_timeout"))

    def _fail(self, problem: Problem) -> None:
        if self.problem is None:
            self.problem = problem
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def event(self) -> asyncio.Future[None]:
        """Done at the next thing that happens on the connection."""
        self._waiter = waiter = self._pool.loop.create_future()
        return waiter

    def _resume(self) -> None:
        if self.paused:
            self.paused = False
            self._since = self._pool.tick
            if not self.transport.is_closing():
                self.transport.resume_reading()
