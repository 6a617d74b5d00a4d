"""How much and how long: sizes refused before they are read, and every deadline apart from the others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

import pytest
from msgspec import structs
from tests.gateway.rig import (
    ASK,
    AUTH,
    CHAT,
    DONE,
    STREAM,
    STREAM_HEAD,
    Answered,
    Provider,
    Rig,
    Script,
    ask,
    chunk,
    framed,
    json_answer,
    mounted,
    read_one,
    request,
    rig,
    run,
    until,
    whole,
)

from lilliput.gateway.answer import Patience
from lilliput.gateway.server import Limits

KIB = 1024
CHUNKED: dict[str, str | None] = {"Content-Length": None, "Transfer-Encoding": "chunked"}
ENDLESS_TEXT = b"v" * 400 * KIB
PADDED = json.dumps(ASK).encode().ljust(64 * KIB)
TWO = framed(PADDED[:50_000], PADDED[50_000:])
MANY = {f"X-{i}": "v" for i in range(200)}

SIZES: list[tuple[str, bytes, int, str]] = [
    ("a body as large as may be", request("POST", CHAT, PADDED), 200, ""),
    (
        "a chunked body as large as may be",
        request("POST", CHAT, TWO, CHUNKED),
        200,
        "",
    ),
    ("a body too large by one", request("POST", CHAT, PADDED + b" "), 413, "body_too_large"),
    ("a chunked body too large by one", request("POST", CHAT, framed(PADDED, b" "), CHUNKED), 413, "body_too_large"),
    ("one endless chunk", request("POST", CHAT, b"fffffff\r\n" + b"x" * 70 * KIB, CHUNKED), 413, "body_too_large"),
    ("a length of 2**62", request("POST", CHAT, b"", {"Content-Length": str(2**62)}), 413, "body_too_large"),
    ("a header as long as may be", request("GET", "/healthz", None, {"X-A": "v" * 31 * KIB}), 200, ""),
    ("a header too long", request("GET", "/healthz", None, {"X-A": "v" * 33 * KIB}), 431, "headers_too_large"),
    ("a header that never ends", b"GET / HTTP/1.1\r\nX-A: " + ENDLESS_TEXT, 431, "headers_too_large"),
    ("a name that never ends", b"GET / HTTP/1.1\r\n" + ENDLESS_TEXT, 431, "headers_too_large"),
    ("many headers", request("GET", "/healthz", None, MANY), 431, "headers_too_large"),
    ("many small headers", b"GET /healthz HTTP/1.1\r\n" + b"a:b\r\n" * 5000 + b"\r\n", 431, "headers_too_large"),
    ("a long URL", request("GET", "/healthz?" + "a" * 31 * KIB), 200, ""),
    ("a URL too long", request("GET", "/" + "a" * 33 * KIB), 414, "uri_too_long"),
    ("a URL that never ends", b"GET /" + ENDLESS_TEXT, 414, "uri_too_long"),
    (
        "a trailer that never ends",
        request("POST", CHAT, b"0\r\nX-A: " + ENDLESS_TEXT, CHUNKED),
        431,
        "headers_too_large",
    ),
    (
        "an extension that never ends",
        request("POST", CHAT, b"1;" + ENDLESS_TEXT, CHUNKED),
        431,
        "headers_too_large",
    ),
]


@pytest.mark.parametrize(("name", "data", "status", "code"), SIZES, ids=[row[0] for row in SIZES])
def test_sizes(name: str, data: bytes, status: int, code: str) -> None:
    async def main() -> None:
        async with rig(body_limit_bytes=64 * KIB) as r:
            reader, writer = await r.connect()
            writer.write(data)
            answer = await read_one(reader)
            assert answer.status == status
            if code:
                assert answer.error["code"] == code
                assert answer.headers["connection"] == "close"
                assert r.provider.bodies == []
            assert "x-request-id" in answer.headers
            writer.close()
            assert (await r.chat()).status == 200

    run(main())


ASGI_SIZES = [row for row in SIZES if "body" in row[0]]


def test_body_limits_under_asgi() -> None:
    async def main() -> None:
        async with rig(body_limit_bytes=64 * KIB) as r, mounted(r) as m:
            for name, data, status, code in ASGI_SIZES:
                reader, writer = await m.connect()
                writer.write(data)
                answer = await read_one(reader)
                assert (answer.status, answer.error["code"] if code else "") == (status, code), name
                writer.close()

    run(main())


async def pour(port: int, head: bytes, most: int) -> tuple[bytes, int]:
    """Sends `head` and then up to `most` bytes of body, growing slowly, over small buffers; the answer and how many
    bytes could be sent before the gateway stopped taking them."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * KIB)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    sent, answer, size = 0, b"", KIB
    try:
        await loop.sock_sendall(sock, head)
        while sent < most:
            async with asyncio.timeout(3):
                await loop.sock_sendall(sock, b"x" * size)
            sent += size
            size = min(size * 2, 64 * KIB)
            await asyncio.sleep(0)
    except (ConnectionError, TimeoutError):
        pass
    try:
        answer = await loop.sock_recv(sock, 64 * KIB)
    except ConnectionError:
        pass
    sock.close()
    return answer, sent


UNREAD: list[tuple[str, dict[str, str | None], int]] = [
    ("an unknown key", {"Authorization": "Bearer nobody"}, 401),
    ("no key", {"Authorization": None}, 401),
    ("an unknown key, chunked", {"Authorization": "Bearer nobody", **CHUNKED}, 401),
    ("a body too large", {}, 413),
    ("a wrong path", {"path": "/v1/x"}, 404),
]


def test_a_large_body_is_not_read_for_nothing() -> None:
    async def one(r: Rig, name: str, headers: dict[str, str | None], status: int) -> None:
        lines: dict[str, str | None] = {"Content-Length": str(64 * KIB * KIB), **headers}
        head = request("POST", lines.pop("path", None) or CHAT, b"", lines)
        answer, sent = await pour(r.port, head, 64 * KIB * KIB)
        assert answer.startswith(b"HTTP/1.1 %d " % status) or not answer, name
        assert sent < KIB * KIB, name

    async def main() -> None:
        async with rig(body_limit_bytes=10 * KIB * KIB) as r:
            for sock in r.listener._servers[0].sockets:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
            await asyncio.gather(*(one(r, *row) for row in UNREAD))
            assert (await r.chat()).status == 200

    run(main())


PATIENT = Limits(header_timeout_s=0.5, body_grace_s=0.5, body_rate_bytes_s=2000, idle_timeout_s=1.0)


async def drip(writer: asyncio.StreamWriter, data: bytes, size: int = 1) -> None:
    """Sends `size` bytes every 20 ms for as long as the gateway takes them."""
    for at in range(0, len(data), size):
        if writer.is_closing():
            return
        writer.write(data[at : at + size])
        await asyncio.sleep(0.02)


SLOW: list[tuple[str, bytes, bytes, int, list[int]]] = [
    # name, sent at once, sent slowly, how many bytes at a time, statuses that come back before the connection closes
    ("nothing", b"", b"", 1, []),
    ("line ends", b"\r\n", b"", 1, []),
    ("half a head", ask()[:20], b"", 1, [408]),
    ("a head by bytes", b"", request("GET", "/healthz", None, {"X-A": "v" * 400}), 1, [408]),
    ("no body", ask()[:-60], b"", 1, [408]),
    ("a body by bytes", ask()[:-60], b" " * 400, 1, [408]),
    ("a body fast enough", request("POST", CHAT, PADDED[:4000])[:-3900], PADDED[100:4000], 100, [200]),
    ("idle after an answer", ask(), b"", 1, [200]),
    ("half a head after an answer", ask() + ask()[:20], b"", 1, [200, 408]),
    ("half a body after an answer", ask() + ask()[:-20], b"", 1, [200, 408]),
    ("half a chunk", request("POST", CHAT, b"ff\r\nxx", CHUNKED), b"", 1, [408]),
    ("an endless extension by bytes", request("POST", CHAT, b"ff;", CHUNKED), b"x" * 400, 1, [408]),
]


def test_slow_clients_are_timed_out() -> None:
    async def one(r: Rig, name: str, first: bytes, slowly: bytes, size: int, statuses: list[int]) -> None:
        reader, writer = await r.connect()
        writer.write(first)
        dripping = asyncio.ensure_future(drip(writer, slowly, size))
        for status in statuses:
            answer = await read_one(reader)
            assert answer.status == status, name
            assert status == 200 or answer.error["code"] == "request_timeout", name
        assert await asyncio.wait_for(reader.read(), 10) == b"", name
        dripping.cancel()
        writer.close()

    async def main() -> None:
        async with rig(limits=PATIENT) as r:
            await asyncio.gather(*(one(r, *row) for row in SLOW))
            assert (await r.chat()).status == 200

    run(main())


def answers_after(head_s: float, *gaps_s: float, head: bytes = STREAM_HEAD, last: bytes = b"") -> Script:
    """A provider that waits, sends its head, waits before each of its events, then sends `last`."""

    async def script(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(head_s)
        writer.write(head)
        for gap_s in gaps_s:
            await asyncio.sleep(gap_s)
            writer.write(framed(chunk({"content": "x"}), end=False))
        writer.write(last)
        if not last:
            await reader.read()

    return script


async def silent(provider: Provider, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


X, END = chunk({"content": "x"}), framed(*STREAM[-3:])
LONG = 1000.0
ENDLESS = Patience(first_byte_s=LONG, stall_s=LONG, total_s=0.0)
DEADLINES: list[tuple[str, Script, dict[str, float], bool, int, str | None]] = [
    # name, the provider, the deadlines, stream or not, status, code of the problem
    ("no head", silent, {"first_byte_s": 0.5}, True, 504, "upstream_timeout"),
    ("no head, whole", silent, {"first_byte_s": 0.5}, False, 504, "upstream_timeout"),
    ("a head and no more", answers_after(0), {"first_byte_s": 0.5, "stall_s": LONG}, True, 504, "upstream_timeout"),
    ("a slow head", answers_after(1.0, 0, last=END), {"stall_s": 0.1}, True, 200, None),
    ("a slow first event", answers_after(0, 1.0, last=END), {"stall_s": 0.1}, True, 200, None),
    ("a stall", answers_after(0, 0, 0), {"stall_s": 0.5}, True, 200, "upstream_stalled"),
    ("a long stream", answers_after(0, *[0.1] * 20, last=END), {"first_byte_s": 0.5, "stall_s": 1.0}, True, 200, None),
    ("too long in all", answers_after(0, *[0.1] * 20, last=END), {"total_s": 0.5}, True, 200, "upstream_timeout"),
    ("too long in all, whole", silent, {"total_s": 0.5}, False, 504, "upstream_timeout"),
    ("half a body", answers_after(0, head=json_answer(whole())[:-5]), {"stall_s": 0.5}, False, 504, "upstream_stalled"),
]


def test_deadlines_are_apart() -> None:
    async def one(name: str, script: Script, deadlines: dict[str, float], stream: bool, status: int, code: Any) -> None:
        async with rig(script, patience=structs.replace(ENDLESS, **deadlines)) as r:
            answer = await r.chat(stream=stream)
            assert answer.status == status, name
            assert answer.is_whole, name
            assert code_of(answer) == code, name
            assert len(r.provider.bodies) == 1, f"{name}: a timeout is not tried again"
            assert r.upstreams == (0 if code else 1), name

    async def main() -> None:
        await asyncio.gather(*(one(*row) for row in DEADLINES))

    run(main())


def code_of(answer: Answered) -> str | None:
    """The code of the problem that an answer tells, as a status or as the last event; None when it ended well."""
    if answer.status != 200:
        return str(answer.error["code"])
    if not answer.body.endswith(DONE):
        return str(json.loads(answer.events[-1])["error"]["code"])
    assert b'"error"' not in answer.body
    return None


def test_pings_while_the_provider_thinks_but_not_before_it_speaks() -> None:
    async def main() -> None:
        slow = answers_after(0, 0.7, 1.3, last=END)
        async with rig(slow, limits=Limits(ping_s=0.5)) as r:
            answer = await r.chat(stream=True)
            assert answer.body.startswith(X + b": ping\n\n")
            assert answer.body.replace(b": ping\n\n", b"") == X + X + b"".join(STREAM[-3:-2]) + DONE
            assert answer.body.count(b": ping\n\n") >= 1

    run(main())


def test_a_wrong_key_costs_no_look_at_the_body() -> None:
    async def main() -> None:
        async with rig() as r:
            reader, writer = await r.connect()
            writer.write(request("POST", CHAT, b"", {**AUTH, "Authorization": "Bearer x", "Content-Length": "100"}))
            answer = await read_one(reader)
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
            writer.close()

    run(main())


def test_only_so_many_connections() -> None:
    async def main() -> None:
        async with rig(limits=Limits(connections=2)) as r:
            one, two = await r.connect(), await r.connect()
            await until(lambda: len(r.listener.conns) == 2)
            with contextlib.suppress(ConnectionError):
                assert await r.raw(ask()) == b""
            for reader, writer in (one, two):
                writer.write(ask())
                assert (await read_one(reader)).status == 200
            one[1].close()
            await until(lambda: len(r.listener.conns) == 1)
            assert (await r.chat()).status == 200

    run(main())


def test_idle_connections_to_a_provider_are_closed() -> None:
    async def main() -> None:
        async with rig(patience=Patience(idle_s=0.5)) as r:
            assert (await r.chat()).status == 200
            assert r.upstreams == 1
            await until(lambda: r.upstreams == 0)
            assert (await r.chat()).status == 200
            assert r.provider.connections == 2

    run(main())
