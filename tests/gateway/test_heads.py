"""A head that is known by its bytes: what is recognised, and that nothing is judged less than on a fresh connection."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from tests.gateway.rig import ASK, CHAT, Rig, ask, read_one, request, rig, run

from lilliput.gateway import heads
from lilliput.gateway.routes import Routes
from lilliput.gateway.visit import Visit

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Length: %b\r\nAuthorization: Bearer k\r\n\r\n"


def known(data: bytes, headers: dict[bytes, bytes] | None = None, path: bytes = CHAT.encode()) -> heads.Head | None:
    given = headers or {b"host": b"t", b"content-length": b"5", b"authorization": b"Bearer k"}
    conn: Any = SimpleNamespace()
    visit = Visit(conn, b"r", b"POST", path, given, "1.1", keep=True)
    visit.route, visit.body = Routes().find_raw(b"POST", path), data.partition(b"\r\n\r\n")[2][:5]
    return heads.learnt(data, visit)


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (HEAD % b"5" + b"other", b"5"),
        (HEAD % b"12" + b"twelve bytes", b"12"),
        (HEAD % b"0", b"0"),
        (HEAD % b"00" + b"", b"00"),
        (HEAD % b"5" + b"hell", b""),
        (HEAD % b"5" + b"hello!", b""),
        (HEAD % b"5" + b"hello" + HEAD % b"5" + b"hello", b""),
        (HEAD % b"" + b"hello", b""),
        (HEAD % b"+5" + b"hello", b""),
        (HEAD % b"5 " + b"hello", b""),
        (HEAD % b"5, 5" + b"hello", b""),
        (HEAD % b"\xd9\xa5" + b"hello", b""),
        (HEAD % b"9999999999" + b"hello", b""),
        ((HEAD % b"5" + b"hello").replace(b"Bearer k", b"Bearer l"), b""),
        ((HEAD % b"5" + b"hello").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"), b""),
        ((HEAD % b"5" + b"hello").replace(b"POST", b"PUT"), b""),
        (b"", b""),
    ],
)
def test_what_is_recognised(data: bytes, length: bytes) -> None:
    head = known(HEAD % b"5" + b"hello")
    assert head is not None
    assert head.length(data) == length


def test_what_is_never_learnt() -> None:
    plain = {b"host": b"t", b"content-length": b"5", b"authorization": b"Bearer k"}
    good = HEAD % b"5" + b"hello"
    assert known(good, plain) is not None
    for name in (b"transfer-encoding", b"expect", b"upgrade"):
        assert known(good, {**plain, name: b"x"}) is None
    assert known(good + good, plain) is None, "two requests"
    assert known(good + b"\r\n", plain) is None
    assert known(b"\r\n\r\n" + good, plain) is None
    assert known(good.replace(b"Host", b"X: " + b"x" * heads.MOST_BYTES + b"\r\nHost"), plain) is None
    assert known(good.replace(b"Host", b"content-length: 5\r\nHost"), plain) is None


async def twice(r: Rig, *pieces: bytes) -> tuple[int, Any]:
    """The last status and body on a connection that knows the head of `ask()`."""
    reader, writer = await r.connect()
    writer.write(ask())
    assert (await read_one(reader)).status == 200
    (conn,) = r.listener.conns
    assert conn._head is not None
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.02)
    answer = await read_one(reader)
    writer.close()
    return answer.status, answer.json


def test_a_known_head_is_served_without_the_parser() -> None:
    async def main() -> None:
        async with rig() as r:
            reader, writer = await r.connect()
            writer.write(ask())
            await read_one(reader)
            (conn,) = r.listener.conns
            conn._parser = None  # type: ignore[assignment]
            for n in (1, 200, 3_000):
                content = "é" * n
                writer.write(ask(messages=[{"role": "user", "content": content}]))
                answer = await read_one(reader)
                assert answer.status == 200
                assert json.loads(r.provider.bodies[-1])["messages"][0]["content"] == content
            writer.close()

    run(main())


def test_a_known_head_is_judged_as_any_other() -> None:
    async def main() -> None:
        async with rig() as r:
            whole = ask(user="x")
            assert (await twice(r, whole[:-9], whole[-9:]))[0] == 200, "in two pieces"
        async with rig() as r:
            bare = request("POST", CHAT, ASK, {"Authorization": None})
            assert (await twice(r, bare))[0] == 401
        async with rig() as r:
            empty = request("POST", CHAT, b"")
            status, told = await twice(r, empty)
            fresh = await r.ask("POST", CHAT, b"")
            assert (status, told) == (fresh.status, fresh.json)
        async with rig() as r:
            r.gate.body_limit_bytes = 1000
            status, told = await twice(r, ask(user="x" * 1000))
            assert (status, told["error"]["code"]) == (413, "body_too_large")
        async with rig() as r:
            reader, writer = await r.connect()
            writer.write(ask())
            await read_one(reader)
            r.gate.find_key = lambda token: None
            writer.write(ask())
            assert (await read_one(reader)).status == 401, "a key that was revoked"
            assert await reader.read() == b""
        async with rig() as r:
            reader, writer = await r.connect()
            writer.write(ask())
            await read_one(reader)
            writer.write(ask() + ask())
            writer.write(ask(user="y"))
            assert [(await read_one(reader)).status for _ in range(3)] == [200, 200, 200]
            assert len(r.provider.bodies) == 4
            writer.close()

    run(main())
