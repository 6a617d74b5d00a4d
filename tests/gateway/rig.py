"""A gateway in this process over a scripted provider, both on real loopback sockets, and a raw client.

The only fake stands at the network port: `Upstream` answers what a test scripts, byte for byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import uvicorn
import uvloop
from msgspec import structs

from lilliput.gateway import cold
from lilliput.gateway.answer import Patience
from lilliput.gateway.asgi import application, serve_cold
from lilliput.gateway.exchange import exchange
from lilliput.gateway.gates import Gate
from lilliput.gateway.metrics_page import Page
from lilliput.gateway.routes import Routes
from lilliput.gateway.server import Limits, Listener
from lilliput.gateway.upstream import Upstream
from lilliput.gateway.visit import Visit
from lilliput.neutral import Key, Problem, Secret, Target

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "p/m", "messages": [{"role": "user", "content": "hi"}]}
KEY = "lil_test"
AUTH = {"Authorization": f"Bearer {KEY}"}
Script = Callable[["Provider", bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def whole(text: str = "hello", **more: Any) -> bytes:
    """A chat answer's JSON."""
    return json.dumps(
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "up",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            **more,
        }
    ).encode()


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One event of a streamed answer."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice], **more}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


VECTORS = b'{"object":"list","data":[{"embedding":[0.5]}],"model":"up","usage":{"prompt_tokens":3,"total_tokens":3}}'
USAGE = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
ROLE = chunk({"role": "assistant", "content": ""})
STREAM = [
    ROLE,
    chunk({"content": "hel"}),
    chunk({"content": "lo"}),
    chunk({}, "stop"),
    USAGE,
    DONE,
]


class Provider:
    """A scripted HTTP server: `script` is given each request's body and may write any bytes."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.bodies: list[bytes] = []
        self.heads: list[bytes] = []
        self.gone = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next((int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0)
                body = await reader.readexactly(length)
                self.heads.append(head)
                self.bodies.append(body)
                await self.script(self, body, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


def json_answer(body: bytes, status: int = 200, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def framed(*pieces: bytes, end: bool = True) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces if p) + (b"0\r\n\r\n" if end else b"")


def answering(data: bytes) -> Script:
    """A provider that always sends these bytes."""

    async def script(
        provider: Provider, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(data)

    return script


async def by_wish(provider: Provider, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A well-behaved provider: streams when asked to."""
    if b"multipart" in provider.heads[-1] or not body or "input" in json.loads(body) or body == b"{}":
        writer.write(json_answer(VECTORS))
    elif json.loads(body).get("stream"):
        writer.write(STREAM_HEAD + framed(*STREAM))
    else:
        writer.write(json_answer(whole()))


def request(method: str, path: str, body: Any = None, headers: Mapping[str, str | None] | None = None) -> bytes:
    """The bytes of one request on a connection that is kept; a header given as None is left out."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = {"Host": "t", "Content-Type": "application/json", "Content-Length": len(data), **AUTH, **(headers or {})}
    head = "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v is not None)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data


def ask(**fields: Any) -> bytes:
    """The bytes of one chat request on a connection that is kept."""
    return request("POST", CHAT, {**ASK, **fields})


class Memory:
    """Kept responses, in a dict."""

    def __init__(self) -> None:
        self.turns: dict[tuple[str, str], bytes] = {}

    async def find(self, owner: str, id: str) -> bytes | None:
        return self.turns.get((owner, id))

    async def keep(self, owner: str, id: str, turn: bytes, *_: object) -> None:
        self.turns[owner, id] = turn

    async def find_item(self, owner: str, id: str) -> bytes | None:
        return None

    async def drop(self, owner: str, id: str) -> bool:
        return self.turns.pop((owner, id), None) is not None


class Rig:
    """The gateway under test: its port, its gate, its provider, and raw connections to it."""

    def __init__(self, gate: Gate, listener: Listener, port: int, provider: Provider) -> None:
        self.gate, self.listener, self.port, self.provider = gate, listener, port, provider
        self.writers: list[asyncio.StreamWriter] = []

    @property
    def upstreams(self) -> int:
        """Open connections to providers."""
        return sum(len(pool.open) for pool in self.gate.upstream._pools.values())

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return self.kept(await asyncio.open_connection("127.0.0.1", self.port))

    def kept(
        self, client: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that ends with the rig at the latest: uvloop does not close while one is open."""
        self.writers.append(client[1])
        return client

    def counted(self, family: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels, as `/metrics` shows them."""
        page, _ = Page(self.gate).text("")
        found = 0.0
        for line in page.decode().splitlines():
            name, value = line.rsplit(" ", 1)
            if name.partition("{")[0] == family and all(f'{k}="{v}"' in name for k, v in labels.items()):
                found += float(value)
        return found

    async def raw(self, data: bytes) -> bytes:
        """Sends bytes on a fresh connection and reads until the gateway closes it."""
        reader, writer = await self.connect()
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str | None] | None = None
    ) -> Answered:
        """One request on a connection of its own."""
        return parse(await self.raw(request(method, path, body, {"Connection": "close", **(headers or {})})))

    async def chat(self, **fields: Any) -> Answered:
        return await self.ask("POST", CHAT, {**ASK, **fields})


class Answered:
    def __init__(self, status: int, headers: dict[str, str], body: bytes, is_whole: bool) -> None:
        self.status, self.headers, self.body, self.is_whole = status, headers, body, is_whole

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        assert set(error) >= {"message", "type", "param", "code"}, error
        return error

    @property
    def events(self) -> list[str]:
        return [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]


def parse(data: bytes) -> Answered:
    """One HTTP answer; chunked bodies are joined, `is_whole` tells whether the framing ended properly."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1.1 "):
        raise AssertionError(f"no HTTP answer: {data[:200]!r}")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") != "chunked":
        return Answered(
            int(first.split()[1]), headers, body, len(body) == int(headers.get("content-length", len(body)))
        )
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        n = int(size, 16)
        if n == 0:
            return Answered(int(first.split()[1]), headers, out, True)
        out += body[:n]
        body = body[n + 2 :]
    return Answered(int(first.split()[1]), headers, out, False)


async def read_one(reader: asyncio.StreamReader) -> Answered:
    """The next answer on a kept connection."""
    async with asyncio.timeout(10):
        data = await reader.readuntil(b"\r\n\r\n")
        head = data.lower()
        if b"content-length: " in head:
            return parse(data + await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0])))
        while True:
            line = await reader.readuntil(b"\r\n")
            data += line + await reader.readexactly(int(line, 16) + 2)
            if line == b"0\r\n":
                return parse(data)


@contextlib.asynccontextmanager
async def rig(
    script: Script = by_wish,
    *,
    limits: Limits | None = None,
    patience: Patience | None = None,
    body_limit_bytes: int = 1024 * 1024,
    host: str = "127.0.0.1",
    **target: Any,
) -> AsyncIterator[Rig]:
    """A running gateway with one provider, `p`, which has any model, behind one key, `KEY`."""
    loop = asyncio.get_running_loop()
    provider = Provider(script)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, limit=2**26)
    provider.port = server.sockets[0].getsockname()[1]
    base = f"http://127.0.0.1:{provider.port}/v1"
    known = {"p/m": Target(provider="p", model="m", base=base, key=Secret("sk-up"), allow_private=True)}
    known["p/m"] = structs.replace(known["p/m"], **target)

    def find_target(name: str) -> Target:
        if name.startswith("p/") and name not in known:
            known[name] = structs.replace(known["p/m"], model=name[2:])
        if name not in known:
            raise Problem("missing", f"model {name!r} is not in the catalogue", code="model_not_found", param="model")
        return known[name]

    upstream = Upstream(loop, patience)
    gate = Gate(
        upstream=upstream,
        find_key=lambda token: Key(id="k1") if token == KEY else None,
        allows=lambda key, model: not key.models or model in key.models,
        target=find_target,
        threads=Memory(),
        body_limit_bytes=body_limit_bytes,
        dice=lambda: 0.0,
    )
    routes = Routes()
    app = cold.build(gate, routes)

    async def serve(visit: Visit) -> None:
        assert visit.route is not None
        if visit.route.operation is not None:
            await exchange(gate, visit.route.operation, visit)
        else:
            await serve_cold(app, visit)

    listener = Listener(gate, serve, routes, limits)
    port = await listener.open(host, 0)
    made = Rig(gate, listener, port, provider)
    try:
        yield made
    finally:
        await listener.close(0.0)
        upstream.close()
        server.close()
        for writer in (*made.writers, *provider.writers):
            writer.transport.abort()


@contextlib.asynccontextmanager
async def mounted(r: Rig) -> AsyncIterator[Rig]:
    """The same gateway once more, as an ASGI app under uvicorn in this process."""
    routes = Routes()
    app = application(r.gate, routes, cold.build(r.gate, routes))
    config = uvicorn.Config(app, lifespan="off", log_level="error", access_log=False)
    server = uvicorn.Server(config)
    sock = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([sock]))
    while not server.started:
        await asyncio.sleep(0.01)
    made = Rig(r.gate, r.listener, sock.getsockname()[1], r.provider)
    made.writers = r.writers
    try:
        yield made
    finally:
        server.should_exit = server.force_exit = True
        await serving
        sock.close()


async def until(true: Callable[[], Any], within_s: float = 5.0) -> None:
    """Waits for something to become true; fails when it does not."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.005)


def run(main: Awaitable[None], within_s: float = 30.0) -> None:
    """Runs a test's coroutine on the loop that the product uses, bounded in time."""

    async def bounded() -> None:
        async with asyncio.timeout(within_s):
            await main

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
