"""One client connection: an asyncio protocol over httptools' parser (llhttp), in its strict form.

A request is routed and admitted as soon as its headers are there, before its body is read. Requests on one connection
are answered in order. A client that leaves cancels what was being done for it. What an answer says is not decided
here: `exchange` and the cold routes do that through `Visit`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from lilliput.gateway import gates, heads
from lilliput.gateway.exchange import answer, fail, refuse
from lilliput.gateway.routes import Route, enter
from lilliput.gateway.visit import Visit, sound, too_long, weigh
from lilliput.neutral import Key, Problem
from lilliput.wire import sse

if TYPE_CHECKING:
    from lilliput.gateway.server import Limits, Listener

log = logging.getLogger("lilliput")

SWEEP_S = 0.5
PIPELINE_DEPTH = 64
FEW_HEADERS = 30
HALF_CLOSED_S = 0.25
LINGER_S = 1.0
DROPPED_BYTES = 256 * 1024
MOST_PIECES = 4096
SHORT_BYTES = 64 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Conn(asyncio.Protocol):
    """One client connection: parses requests, admits each at its headers, and answers them one after the other."""

    __slots__ = (
        "_chunks", "_declines", "_has_begun", "_head", "_head_bytes", "_headers", "_is_busy", "_is_full", "_is_refused",
        "_more", "_parser", "_phase_at", "_queue", "_queued_bytes", "_reading", "_serving", "_size", "_task", "_url",
        "_whole", "can_write", "listener", "slow_since", "streaming", "transport",
    )  # fmt: skip

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.can_write: asyncio.Future[None] | None = None
        self.streaming: Visit | None = None
        self.slow_since = self._queued_bytes = 0
        self._queue: deque[Visit] = deque()
        self._is_busy = False
        self._more: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._reading: Visit | None = None
        self._serving: Visit | None = None
        self._is_refused = self._is_full = False
        self._head: heads.Head | None = None
        self._whole = b""
        self._fresh()

    def _fresh(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes | bytearray] = []
        self._head_bytes = self._size = 0
        self._has_begun = self._declines = False
        self._phase_at = self.listener.tick

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # a TCP or TLS one, which uvloop does not declare as such
        self.transport = transport
        self._parser = httptools.HttpRequestParser(self)
        conns = self.listener.conns
        if len(conns) >= self.listener.limits.connections or self.listener.is_closing:
            transport.abort()
            return
        conns.add(self)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            self._drop(len(data))
            return
        head = self._head
        if head is not None and not self._has_begun and (length := head.length(data)):
            self._again(head, length, data)
            return
        self._whole = b"" if self._has_begun else data
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            if not self._is_refused:
                raise  # a fault of ours: the loop logs it and closes the connection
        except httptools.HttpParserUpgrade as e:
            self._decline(data[e.args[0] :])
        except httptools.HttpParserError as e:
            self._refuse(Problem("client", f"the request is not valid HTTP/1.1: {e}", code="bad_request"))
        if self._head_bytes > self.listener.limits.head_bytes + 65536 and not self._is_refused:
            self._refuse(too_long())

    def eof_received(self) -> bool:
        """The client sends no more. A request that it cut is refused; one in hand is given a moment to be answered,
        since closing the sending side alone cannot be told from leaving."""
        if self._is_busy:
            self.listener.loop.call_later(HALF_CLOSED_S, self.transport.close)
        elif self._is_refused or not self._has_begun:
            return False
        if self._has_begun and not self._is_refused:
            self._refuse(Problem("client", "the request ended before it was whole", code="bad_request"))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.conns.discard(self)
        self.listener.load.waiting -= sum(visit.waits for visit in self._queue)
        self._queue.clear()
        self._is_refused = True
        if self._task is not None:
            self._task.cancel()
        if self.can_write is not None and not self.can_write.done():
            self.can_write.cancel()

    def pause_writing(self) -> None:
        self.can_write = self.listener.loop.create_future()
        self.slow_since = self.listener.tick

    def resume_writing(self) -> None:
        if self.can_write is not None:
            if not self.can_write.done():
                self.can_write.set_result(None)
            self.can_write = None

    # -- the parser's side

    def on_message_begin(self) -> None:
        if self._is_refused:
            raise ValueError("the connection is refused")
        self._has_begun = True
        self._head = None
        self._phase_at = self.listener.tick

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self.listener.limits.head_bytes:
            self._refuse(Problem("client", "the request target is too long", 414, code="uri_too_long"))
            raise ValueError("url")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is not None:
            return  # a trailer, which nothing here reads; `_head_bytes` keeps it short
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._is_refused:
            raise ValueError("the connection is refused")
        if self._reading is not None:
            return  # the head that `_decline` made up
        parser, version = self._parser, self._parser.get_http_version()
        keep = version == "1.1" and parser.should_keep_alive()
        id, headers = self.listener.gate.request_id(), dict(self._headers)
        visit = self._reading = Visit(self, id, parser.get_method(), self._url, headers, version, keep)
        self._phase_at = self.listener.tick
        self._size = 0
        try:
            self._enter(visit)
        except Problem as problem:
            self._refuse(problem)
            raise ValueError("refused") from None

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        self._head_bytes = 0
        if self._size > self.listener.gate.body_limit_bytes:
            self._refuse(gates.too_large(self.listener.gate.body_limit_bytes))
            raise ValueError("body")
        self._chunks.append(data)
        if len(self._chunks) == MOST_PIECES:
            first = self._chunks[0] if isinstance(self._chunks[0], bytearray) else bytearray(self._chunks[0])
            first += b"".join(self._chunks[1:])
            self._chunks = [first]

    def on_message_complete(self) -> None:
        visit = self._reading
        if visit is None or self._is_refused or self._declines:
            if visit is None and not self._is_refused:
                self._fresh()  # it was answered before its body came
            return
        chunks = self._chunks
        visit.body = bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)
        if self._whole:
            self._head, self._whole = heads.learnt(self._whole, visit), b""
        self._reading = None
        self._fresh()
        self._enqueue(visit)

    # -- our side

    def _again(self, head: heads.Head, length: bytes, data: bytes) -> None:
        """A whole request whose head is known; the parser stands between two messages and does not learn of it."""
        visit = self._reading = head.visit(self, self.listener.gate.request_id(), length)
        try:
            self._admit(visit, head.route, gates.known(self.listener.gate, head.token))
        except Problem as problem:
            self._refuse(problem)
        if self._reading is visit:
            self._reading, visit.body = None, data[len(data) - int(length) :]
            self._enqueue(visit)

    def _enter(self, visit: Visit) -> None:
        """Host, route, key, length: all that is decided before the body; raises Problem."""
        headers = visit.headers
        if self._head_bytes > self.listener.limits.head_bytes or len(self._headers) > FEW_HEADERS:
            weigh(self._headers, self.listener.limits)
        host = headers.get(b"host")
        if host != self.listener.good_host or len(headers) != len(self._headers) or visit.version != "1.1":
            sound(visit, self._headers)
            self.listener.good_host = host or b""
        if self._parser.should_upgrade():
            if headers.get(b"upgrade", b"").lower() != b"h2c":
                raise Problem("client", "this server does not switch protocols", code="bad_request")
            self._declines = True
        visit.route = self.listener.routes.find_raw(visit.method, visit.target)
        self._admit(visit, visit.route, enter(self.listener.gate, visit.route, headers))
        if b"expect" in headers and headers[b"expect"].lower() == b"100-continue" and not self._is_busy:
            self.transport.write(_CONTINUE)

    def _admit(self, visit: Visit, route: Route, key: Key) -> None:
        """Length and load; raises Problem."""
        headers = visit.headers
        visit.key = key
        length = headers.get(b"content-length")
        if length is not None:
            gates.fits(self.listener.gate, int(length))
        elif headers.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
            raise Problem("client", "no Transfer-Encoding but 'chunked' is understood here", code="bad_request")
        load = self.listener.load
        if load.waiting >= load.least and route.operation is not None:
            self._shed(visit)

    def _shed(self, visit: Visit) -> None:
        """Turns a request away while too many wait: at once where the connection can be kept, else raises Problem."""
        if (problem := self.listener.load.refusal(visit.key)) is None:
            return
        is_short = int(visit.headers.get(b"content-length", SHORT_BYTES)) < SHORT_BYTES
        is_free = not self._is_busy and self.can_write is None and not self._declines
        if not (is_free and is_short and visit.keep) or b"expect" in visit.headers:
            raise problem
        answer(visit, problem)
        self._reading = None
        self._fresh()
        self.transport.pause_reading()
        self.listener.load.rest(self.transport)

    def _decline(self, rest: bytes) -> None:
        """Goes on as if no HTTP/2 had been offered (RFC 9110, 7.8); the parser left the body alone, so a new one
        reads it and all that follows."""
        assert self._reading is not None
        framing = heads.framing(self._reading)
        self._declines = False
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"POST / HTTP/1.1\r\n%b\r\n\r\n%b" % (framing, rest))

    def _refuse(self, problem: Problem) -> None:
        """Queues an answer that closes the connection, and reads no more."""
        self._is_refused, self._size = True, 0
        visit = self._reading or Visit(self, self.listener.gate.request_id())
        visit.keep, visit.problem = False, problem
        self._reading = None
        self._chunks.clear()
        self._enqueue(visit)

    def _drop(self, size: int) -> None:
        """Counts what comes after a refusal: some is let by, so that no reset overtakes the answer."""
        self._size += size
        if self._size > DROPPED_BYTES:
            if self._queue:
                self.transport.abort()  # it would wait behind another answer: this caller is not worth that
            elif not self.transport.is_closing():
                self.transport.pause_reading()

    def _enqueue(self, visit: Visit) -> None:
        self._queue.append(visit)
        if visit.problem is None:
            visit.waits = 1
            self.listener.load.waiting += 1
        if not self._is_busy:
            self._is_busy = True
            if self._more is not None:
                self._more.set_result(None)
            else:
                self._task = self.listener.loop.create_task(self._run())
            return
        self._queued_bytes += len(visit.body)
        if not self._is_full and self._fills():
            self._is_full = True
            self.transport.pause_reading()  # from here on a client that leaves is seen only when it is written to

    async def _run(self) -> None:
        """Answers what is queued, in order, until the connection is to be closed: one task for all its requests."""
        while True:
            if not self._queue:
                self._is_busy = False
                self._phase_at = self.listener.tick
                self._more = self.listener.loop.create_future()
                await self._more
            visit = self._serving = self._queue.popleft()
            self._queued_bytes = max(0, self._queued_bytes - len(visit.body))
            if self._is_full and not self._fills():
                self._is_full = False
                self.transport.resume_reading()
            try:
                if visit.problem is not None:
                    self.listener.gate.meter.refuse(visit.problem)
                    await refuse(visit, visit.problem)
                else:
                    await self.listener.serve(visit)
            except Exception:
                log.exception("request %s failed inside the gateway", visit.request_id.decode())
                await fail(visit)
            finally:
                self.listener.load.waiting -= visit.waits
                visit.waits = 0
            if not visit.has_ended:
                self.transport.abort()  # an answer that cannot be ended honestly is cut
                return
            if not visit.keep or self.listener.is_closing:
                self._linger()
                return
            visit.body = b""  # nothing of it is kept while the connection idles

    def _fills(self) -> bool:
        return len(self._queue) >= PIPELINE_DEPTH or self._queued_bytes > self.listener.gate.body_limit_bytes

    def _linger(self) -> None:
        """Closes once the answer is out; what the client still sends is dropped for a second, so that no reset
        overtakes the answer (RFC 9112, 9.6)."""
        self._phase_at = self.listener.tick
        if self._is_refused and not self.transport.is_closing():
            self.transport.write_eof()
            self.listener.loop.call_later(LINGER_S, self.transport.close)
        else:
            self._is_refused = True
            self.transport.close()

    def sweep(self, tick: int, limits: Limits) -> None:
        """Time limits of this connection; called twice a second."""
        still_s = (tick - self._phase_at) * SWEEP_S
        if self.can_write is not None and (tick - self.slow_since) * SWEEP_S > limits.slow_reader_s:
            self.transport.abort()
        elif self.transport.is_closing():
            if still_s > limits.slow_reader_s:
                self.transport.abort()  # it never took the end of its answer
        elif self.streaming is not None:
            still = (tick - self.streaming.wrote_at) * SWEEP_S >= limits.ping_s
            if still and self.streaming.pings and self.can_write is None:
                self.streaming.write(sse.PING)
        elif self._is_busy or self._is_refused:
            return
        elif self._reading is not None:
            if still_s > limits.body_grace_s and self._size < still_s * limits.body_rate_bytes_s:
                self._refuse(Problem("client", "the body came too slowly", 408, code="request_timeout"))
        elif self._has_begun:
            if still_s > limits.header_timeout_s:
                self._refuse(Problem("client", "the headers came too slowly", 408, code="request_timeout"))
        elif still_s > limits.idle_timeout_s:
            self.transport.close()

    def readmit(self) -> None:
        """Ends the answer in hand, and its connection, when its key is no longer good; called when keys changed."""
        visit, task = self._serving, self._task
        if not self._is_busy or visit is None or visit.route is None or task is None:
            return
        try:
            enter(self.listener.gate, visit.route, visit.headers)
        except Problem as problem:
            if problem.fault == "auth":  # a store that cannot answer ends nothing
                task.cancel(problem)
                task.add_done_callback(lambda _: self.transport.close())

    def close_if_idle(self) -> None:
        if not self._is_busy:
            self.transport.close()

    async def gone(self, grace_s: float) -> None:
        """Waits for the answer in hand; after `grace_s` cancels it, which ends it with an honest error."""
        task = self._task
        if task is not None:
            _, late = await asyncio.wait({task}, timeout=grace_s)
            if late:
                task.cancel()
                await asyncio.wait({task}, timeout=1.0)
        self.transport.close()
