"""Who leaves: a client that hangs up frees everything at once; a gateway that closes ends nothing dishonestly."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.gateway.rig import (
    ASK,
    CHAT,
    DONE,
    STREAM,
    STREAM_HEAD,
    Provider,
    Rig,
    Script,
    ask,
    by_wish,
    chunk,
    framed,
    json_answer,
    mounted,
    parse,
    read_one,
    request,
    rig,
    run,
    until,
    whole,
)

from lilliput.gateway.server import Limits

HELLO = chunk({"content": "hello"})


def then_hangs(first: bytes) -> Script:
    """A provider that sends this much and then nothing, and notes when the gateway leaves."""

    async def script(provider: Provider, body: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
        writer.write(first)
        await reader.read()
        provider.gone.set()
        raise ConnectionError

    return script


async def talks(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
    """A provider that never stops talking; a write fails once the gateway has left."""
    writer.write(STREAM_HEAD)
    while True:
        writer.write(framed(HELLO, end=False))
        await writer.drain()
        await asyncio.sleep(0.01)


Leave = Callable[[asyncio.StreamWriter], None]


def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


# name, the provider, the request, what the client waits for before it leaves
GONE: list[tuple[str, Script, bytes, bytes]] = [
    ("whole, nothing yet", then_hangs(b""), ask(), b""),
    ("whole, half come", then_hangs(json_answer(whole())[:-9]), ask(), b""),
    ("stream, nothing yet", then_hangs(b""), ask(stream=True), b""),
    ("stream, head come", then_hangs(STREAM_HEAD), ask(stream=True), b""),
    ("stream, some come", then_hangs(STREAM_HEAD + framed(HELLO, end=False)), ask(stream=True), b"hello"),
    ("stream, more coming", talks, ask(stream=True), b"hello"),
    ("a second one waits", then_hangs(b""), ask() + ask(), b""),
    ("nine wait", then_hangs(b""), ask() * 9, b""),
    ("a refused one waits", then_hangs(b""), ask() + request("GET", "/x"), b""),
    ("half a second one", then_hangs(b""), ask() + ask()[:-9], b""),
]
FRONTS: list[tuple[str, Leave]] = [("raw", close), ("raw", reset), ("asgi", close), ("asgi", reset)]


async def leave(r: Rig, front: Rig, script: Script, data: bytes, waits_for: bytes, how: Leave) -> None:
    """One client that asks and leaves; returns once nothing of it is left."""
    r.provider.script, r.provider.gone, seen = script, asyncio.Event(), len(r.provider.bodies)
    before = asyncio.all_tasks()
    reader, writer = await front.connect()
    writer.write(data)
    await until(lambda: len(r.provider.bodies) > seen)
    if waits_for:
        await reader.readuntil(waits_for)
    how(writer)
    async with asyncio.timeout(5):  # the promise is one second; a machine that is busy with other tests gets more
        await r.provider.gone.wait()
    await until(lambda: r.upstreams == 0 and not r.listener.conns)
    await until(lambda: asyncio.all_tasks() <= before)
    assert len(r.provider.bodies) == seen + 1, "nothing more is asked for who has left"


@pytest.mark.parametrize(("front", "how"), FRONTS, ids=[f"{f}-{h.__name__}" for f, h in FRONTS])
def test_a_client_that_leaves_frees_its_provider(front: str, how: Leave) -> None:
    async def main() -> None:
        async with rig(by_wish) as r, mounted(r) as m:
            for name, script, data, waits_for in GONE:
                if front == "asgi" and data.count(b"HTTP/1.1") > 1:
                    continue  # what waits is uvicorn's own affair
                try:
                    await leave(r, r if front == "raw" else m, script, data, waits_for, how)
                except TimeoutError:
                    pytest.fail(f"{name}: something is left")
            ends = r.counted("lilliput_requests_total", provider="p")
            assert ends > 0
            assert ends == r.counted("lilliput_requests_total", outcome="left")
            r.provider.script = by_wish
            assert (await r.chat()).status == 200

    run(main())


def test_many_clients_leave_at_once() -> None:
    async def main() -> None:
        async with rig(then_hangs(STREAM_HEAD + framed(HELLO, end=False))) as r:
            before = asyncio.all_tasks()
            clients = [await r.connect() for _ in range(100)]
            for i, (_, writer) in enumerate(clients):
                writer.write(ask(stream=bool(i % 2)))
            await until(lambda: len(r.provider.bodies) == 100)
            assert r.upstreams == 100
            for _, writer in clients:
                writer.close()
            await until(lambda: r.upstreams == 0 and not r.listener.conns)
            await until(lambda: asyncio.all_tasks() <= before)

    run(main())


def test_the_meter_counts_who_left_early() -> None:
    async def main() -> None:
        async with rig(then_hangs(STREAM_HEAD + framed(HELLO, end=False))) as r:
            reader, writer = await r.connect()
            writer.write(ask(stream=True))
            await reader.readuntil(b"hello")
            writer.close()
            await until(lambda: r.gate.meter.book.series)
            assert r.counted("lilliput_requests_total", outcome="left", status="none") == 1

    run(main())


# -- the gateway closes


async def closing(r: Rig, data: bytes, waits_for: bytes, grace_s: float, during: Awaitable[None] | None) -> bytes:
    """Everything a client gets when the gateway closes after `waits_for` has come."""
    reader, writer = await r.connect()
    writer.write(data)
    await until(lambda: r.provider.bodies)
    got = await reader.readuntil(waits_for) if waits_for else b""
    shutting = asyncio.ensure_future(r.listener.close(grace_s))
    await until(lambda: r.gate.is_closing)
    if during is not None:
        await during
    with pytest.raises(ConnectionRefusedError):
        await r.connect()
    got += await asyncio.wait_for(reader.read(), 10)
    await shutting
    writer.close()
    assert not r.listener.conns
    return got


def test_an_answer_in_hand_is_finished() -> None:
    async def main() -> None:
        for stream, first in ((False, b""), (True, b"hello")):
            go = asyncio.Event()

            async def slow(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
                if json.loads(body).get("stream"):
                    writer.write(STREAM_HEAD + framed(HELLO, end=False))
                await go.wait()  # noqa: B023 - the script runs within its own round
                writer.write(framed(*STREAM[-3:]) if json.loads(body).get("stream") else json_answer(whole()))

            async def release(reader: asyncio.StreamReader) -> None:
                assert (await reader.read()) == b"", "an idle connection is closed at once"
                go.set()  # noqa: B023

            async with rig(slow) as r:
                idle, out = await r.connect()
                answer = parse(await closing(r, ask(stream=stream), first, 20.0, release(idle)))
                assert (answer.status, answer.is_whole) == (200, True)
                assert answer.body.endswith(DONE) if stream else answer.body == whole()
                out.close()

    run(main())


def test_after_the_grace_an_honest_error_ends_it() -> None:
    async def main() -> None:
        async with rig(then_hangs(STREAM_HEAD + framed(HELLO, end=False))) as r:
            answer = parse(await closing(r, ask(stream=True), b"hello", 0.1, None))
            assert answer.is_whole
            assert json.loads(answer.events[-1])["error"]["code"] == "server_shutdown"
            assert b"[DONE]" not in answer.body
            await until(lambda: r.upstreams == 0)
        async with rig(then_hangs(b"")) as r:
            answer = parse(await closing(r, ask(), b"", 0.1, None))
            assert (answer.status, answer.error["code"]) == (503, "server_shutdown")
            await until(lambda: r.upstreams == 0)

    run(main())


def test_half_a_request_does_not_hold_the_gateway() -> None:
    async def main() -> None:
        async with rig() as r:
            reader, writer = await r.connect()
            writer.write(ask()[:-9])
            await until(lambda: r.listener.conns)
            await asyncio.wait_for(r.listener.close(20.0), 10)
            assert await reader.read() == b""
            writer.close()

    run(main())


def test_ready_says_that_it_closes() -> None:
    async def main() -> None:
        async with rig() as r:
            r.gate.is_closing = True
            answer = await r.ask("GET", "/readyz")
            assert (answer.status, answer.json["faults"]) == (503, {"gateway": "shutting down"})
            assert (await r.ask("GET", "/healthz")).status == 200

    run(main())


# -- clients that are slow to read


async def pours(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
    """Streams 50 MB as fast as it is taken; `sent` on the provider counts what was."""
    piece = framed(chunk({"content": "x" * 10_000}), end=False)
    writer.write(STREAM_HEAD)
    for n in range(5000):
        writer.write(piece)
        await writer.drain()
        SENT["bytes"] = n * len(piece)
    writer.write(framed(*STREAM[-3:]))


SENT = {"bytes": 0}


async def narrow(r: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client connection whose receive buffer is small."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", r.port))
    return r.kept(await asyncio.open_connection(sock=sock, limit=64 * 1024))


async def stuck() -> None:
    """Returns once the provider has not been able to send for a while."""
    before = -1
    while SENT["bytes"] != before:
        before = SENT["bytes"]
        await asyncio.sleep(0.3)


def test_a_slow_reader_slows_the_provider() -> None:
    async def main() -> None:
        async with rig(pours) as r:
            SENT["bytes"] = 0
            reader, writer = await narrow(r)
            writer.write(ask(stream=True))
            await reader.readuntil(b"xxx")
            await stuck()
            assert SENT["bytes"] < 30_000_000, "what the kernel holds on both ways, no more"
            (conn,) = r.listener.conns
            assert conn.transport.get_write_buffer_size() < 1024 * 1024
            (answer,) = (a for pool in r.gate.upstream._pools.values() for a in pool.open)
            assert answer._size < 1024 * 1024
            assert answer.paused
            size, last = 0, b""
            while not last.endswith(b"0\r\n\r\n"):
                data = await reader.read(1 << 20)
                assert data
                size, last = size + len(data), (last + data)[-40:]
            assert last.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            assert size > 50_000_000
            writer.close()

    run(main())


async def page(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(json_answer(whole("x" * 20_000_000)))


@pytest.mark.parametrize("script", [pours, page])
def test_a_client_that_never_reads_is_cut(script: Script) -> None:
    async def main() -> None:
        async with rig(script, limits=Limits(slow_reader_s=0.5)) as r:
            _, writer = await narrow(r)
            writer.write(ask(stream=script is pours))
            await until(lambda: r.provider.bodies)
            await until(lambda: not r.listener.conns, within_s=15)
            await until(lambda: r.upstreams == (0 if script is pours else 1))
            writer.close()

    run(main())


def test_a_client_that_never_reads_the_end_is_cut() -> None:
    """The connection is to be closed after an answer that was written at once and is never taken."""
    go = asyncio.Event()

    async def late(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await page(provider, body, reader, writer)

    async def main() -> None:
        async with rig(late, limits=Limits(slow_reader_s=0.5)) as r:
            _, writer = await narrow(r)
            writer.write(request("POST", CHAT, ASK, {"Connection": "close"}))
            await until(lambda: r.provider.bodies)
            (conn,) = r.listener.conns
            conn.transport.set_write_buffer_limits(high=1 << 30)  # nothing says that the reader is slow
            go.set()
            await until(lambda: not r.listener.conns, within_s=15)
            writer.close()

    run(main())


def test_a_slow_reader_harms_no_other() -> None:
    async def main() -> None:
        async with rig(pours) as r:
            reader, writer = await narrow(r)
            writer.write(ask(stream=True))
            await reader.readuntil(b"xxx")
            r.provider.script = by_wish
            fast, out = await r.connect()
            for _ in range(20):
                out.write(ask())
                assert (await read_one(fast)).status == 200
            out.close()
            writer.close()

    run(main())
