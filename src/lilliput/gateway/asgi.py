"""Both bridges to ASGI: our cold Starlette routes behind the raw server, and the whole gateway as a mountable app.

The route table, the admission rule and `exchange` are the same on either side; only reading and writing differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lilliput.gateway import gates
from lilliput.gateway.exchange import Lines, exchange, ids, refuse
from lilliput.gateway.routes import NOBODY, Route, Routes, enter, path_of
from lilliput.gateway.visit import Visit as RawVisit
from lilliput.gateway.visit import once
from lilliput.neutral import Key, Problem
from lilliput.wire.openai.problem import write_stream_problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


async def serve_cold(app: App, visit: RawVisit) -> None:
    """Answers a raw visit by an ASGI app; the app is cancelled with the visit when the caller leaves."""
    target, _, query = visit.target.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": visit.method.decode("latin-1"),
        "scheme": "http",
        "path": path_of(target),
        "raw_path": target,
        "query_string": query,
        "root_path": "",
        "headers": list(visit.headers.items()),
        "state": {"key": visit.key, "request_id": visit.request_id},
    }
    read = False

    async def receive() -> Message:
        nonlocal read
        if read:
            await asyncio.Future()  # until the caller leaves, which cancels us
        read = True
        return {"type": "http.request", "body": visit.body, "more_body": False}

    head: tuple[int, Lines] = (500, b"")

    async def send(message: Message) -> None:
        nonlocal head
        if message["type"] == "http.response.start":
            pairs = ((n, v) for n, v in message.get("headers", ()) if n != b"content-length")
            lines = ids(visit.request_id, b"gateway")
            head = (message["status"], b"".join([b"%b: %b\r\n" % pair for pair in pairs]) + lines)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if not visit.has_started:
            if not more:
                slow = visit.reply(head[0], head[1], body)
                if slow is not None:
                    await slow
                return
            visit.start(head[0], head[1])
        slow = visit.write(body) if body else None
        if slow is not None:
            await slow
        if not more:
            visit.finish()

    await app(scope, receive, send)


class AsgiVisit:
    """One request over ASGI, in the shape that `exchange` asks for."""

    def __init__(self, scope: Message, send: Send, request_id: bytes) -> None:
        self.key: Key = NOBODY
        self.body = b""
        self.request_id = request_id
        self.has_started = False
        self.last_word: Callable[[Problem], bytes] = write_stream_problem
        self.route: Route | None = None
        self.method = scope["method"].encode()
        self.target = b""
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._send = send
        self._head: Message | None = None

    @property
    def dialect(self) -> str:
        return "openai_chat" if self.route is None else self.route.dialect

    def header(self, name: bytes) -> bytes | None:
        return self.headers.get(name)

    def reply(self, status: int, headers: Lines, body: bytes) -> Awaitable[None]:
        self.start(status, b"%bcontent-length: %d\r\n" % (headers, len(body)))
        return self._write(body, False)

    def start(self, status: int, headers: Lines) -> None:
        self.has_started = True
        pairs = [tuple(line.split(b": ", 1)) for line in headers.split(b"\r\n")[:-1]]
        self._head = {"type": "http.response.start", "status": status, "headers": pairs}

    def write(self, data: bytes) -> Awaitable[None]:
        return self._write(data, True)

    def finish(self) -> Awaitable[None]:
        return self._write(b"", False)

    async def _write(self, data: bytes, more: bool) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            await self._send(head)
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


def application(gate: gates.Gate, routes: Routes, cold: App) -> App:
    """The whole gateway as one ASGI app (lifespan is the composer's own)."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return
        visit = AsgiVisit(scope, send, gate.request_id())
        try:
            if len(visit.headers) != len(scope["headers"]):
                once(scope["headers"])
            visit.target = _path(scope).encode() + (b"?" + query if (query := scope.get("query_string")) else b"")
            route = visit.route = routes.find("GET" if scope["method"] == "HEAD" else scope["method"], _path(scope))
            visit.key = enter(gate, route, visit.headers)
            if route.operation is None:
                state = scope.setdefault("state", {})
                state["key"], state["request_id"] = visit.key, visit.request_id
                await cold({**scope, "path": _path(scope), "root_path": ""}, receive, _telling(visit, send))
                return
            body = await _body(gate, visit, receive)
        except Problem as problem:
            await refuse(visit, problem)
            return
        if body is not None:
            visit.body = body
            await _until_gone(gate, route, visit, receive)

    return app


def _path(scope: Message) -> str:
    """The path below the mount point, as ASGI servers give it: decoded, `root_path` in front or not."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _telling(visit: AsgiVisit, send: Send) -> Send:
    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", visit.request_id),
                (b"x-lilliput-route", b"gateway"),
            ]
        await send(message)

    return tell


async def _body(gate: gates.Gate, visit: AsgiVisit, receive: Receive) -> bytes | None:
    """The whole body, None when the caller left; raises Problem (413) as soon as it is too large."""
    length = visit.header(b"content-length")
    if length is not None and length.isdigit():
        gates.fits(gate, int(length))
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        gates.fits(gate, size)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _until_gone(gate: gates.Gate, route: Route, visit: AsgiVisit, receive: Receive) -> None:
    """Runs `exchange`, and cancels it when the caller leaves: ASGI servers do not do that of themselves."""
    assert route.operation is not None
    work = asyncio.ensure_future(exchange(gate, route.operation, visit))

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        work.cancel()

    guard = asyncio.ensure_future(watch())
    try:
        await asyncio.wait({work})
    finally:
        guard.cancel()
        if not work.done():
            work.cancel()
    if not work.cancelled():
        work.result()
