"""Who is turned away while there are more requests than can be served, and what their connections are left with."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.gateway.rig import (
    AUTH,
    CHAT,
    STREAM,
    STREAM_HEAD,
    Provider,
    ask,
    framed,
    json_answer,
    read_one,
    request,
    rig,
    run,
    until,
    whole,
)

from lilliput.gateway.server import Limits
from lilliput.gateway.shed import FEWEST, LATE_S, LEAST, STUCK_S, Load, Priority
from lilliput.neutral import Key

LATE, IN_TIME = LATE_S * 2, LATE_S / 2


def turned_away(load: Load, id: str = "k", name: str = "", team: str = "") -> bool:
    """As a connection asks: only where the least that anyone may have is reached."""
    return load.waiting >= load.least and load.refusal(Key(id=id, name=name, team=team)) is not None


PRIORITY: dict[str, Priority] = {"batch": "low", "ops": "high"}
CASES: list[tuple[str, dict[str, Priority], int, dict[str, str], bool]] = [
    ("room for all", {}, 99, {}, False),
    ("full", {}, 100, {}, True),
    ("low first", PRIORITY, 70, {"team": "batch"}, True),
    ("low has room", PRIORITY, 69, {"team": "batch"}, False),
    ("normal has more", PRIORITY, 84, {}, False),
    ("normal full", PRIORITY, 85, {}, True),
    ("high has all", PRIORITY, 99, {"name": "ops"}, False),
    ("high full", PRIORITY, 100, {"id": "ops"}, True),
    ("the key's own word wins over its team's", PRIORITY, 84, {"id": "ops", "team": "batch"}, False),
]


@pytest.mark.parametrize(("name", "priority", "waiting", "key", "refused"), CASES, ids=[c[0] for c in CASES])
def test_the_least_important_go_first(
    name: str, priority: dict[str, Priority], waiting: int, key: dict[str, str], refused: bool
) -> None:
    load = Load(100, priority)
    load.waiting = waiting
    assert turned_away(load, **key) is refused


def test_a_loop_that_stays_late_lets_fewer_in_and_more_again_when_it_is_in_time() -> None:
    load = Load()
    load.waiting = 1000
    load.tick(STUCK_S)
    assert not turned_away(load), "one pause is no load"
    load.tick(LATE)
    assert load.limit == 500, "twice as late as it may be: half of them"
    assert turned_away(load)
    assert load.shed == {("lag", "normal"): 1}
    for _ in range(100):
        load.tick(LATE)
    assert load.limit == LEAST, "however late, some are let in"
    load.tick(STUCK_S)
    assert load.limit == FEWEST, "and hardly any while it stands still"
    for _ in range(60):
        load.tick(IN_TIME)
    assert load.limit > 1000, "three seconds later all is forgotten"


def test_a_little_lateness_between_is_no_load() -> None:
    load = Load()
    load.waiting = 1000
    for late_s in (LATE, IN_TIME, LATE_S * 1.1, LATE_S * 1.1, IN_TIME) * 5:
        load.tick(late_s)
    assert not turned_away(load)


class Hanging:
    """A provider that answers when told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, p: Provider, body: bytes, reader: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        await self.go.wait()
        w.write(json_answer(whole()))


def test_who_is_turned_away_keeps_the_connection_and_is_told_when() -> None:
    async def main() -> None:
        script = Hanging()
        async with rig(script) as r:
            load = r.listener.load
            load.most = 1
            load._set(1)
            first = await r.connect()
            first[1].write(ask())
            await until(lambda: load.waiting == 1 and r.provider.bodies)
            for path in ("/healthz", "/readyz", "/v1/models"):
                assert (await r.ask("GET", path)).status == 200
            assert (await r.ask("POST", CHAT, {}, {"Authorization": "Bearer no"})).status == 401, "the key is first"
            reader, writer = await r.connect()
            writer.write(ask())
            away = await read_one(reader)
            assert (away.status, away.error["code"], away.headers["retry-after"]) == (503, "overloaded", "1")
            assert "connection" not in away.headers
            assert len(r.provider.bodies) == 1
            assert r.counted("lilliput_shed_total", why="max_in_flight", priority="normal") == 1
            assert r.counted("lilliput_requests_total", outcome="shed", status="5xx") == 1
            script.go.set()
            assert (await read_one(first[0])).status == 200
            await until(lambda: load.waiting == 0)
            writer.write(ask(user="again"))
            assert (await read_one(reader)).status == 200, "the same connection, once there is room"
            assert json.loads(r.provider.bodies[1])["user"] == "again", "nothing of the first body is left in it"

    run(main())


SENT: list[tuple[str, bytes, bytes]] = [
    ("a body that comes later", ask()[:-20], ask()[-20:]),
    ("a long body", request("POST", CHAT, {"x": "y" * 70_000}), b""),
    ("expects to be told to go on", request("POST", CHAT, {}, {"Expect": "100-continue"}), b""),
    ("no length", request("POST", CHAT, b"", {"Content-Length": None, "Transfer-Encoding": "chunked"}), b"0\r\n\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "head", "rest"), SENT, ids=[s[0] for s in SENT])
def test_no_body_is_waited_for(name: str, head: bytes, rest: bytes) -> None:
    async def main() -> None:
        async with rig(limits=Limits(header_timeout_s=0.0)) as r:
            r.listener.load._set(0)
            reader, writer = await r.connect()
            writer.write(head)
            away = await read_one(reader)
            assert (away.status, away.error["code"]) == (503, "overloaded")
            writer.write(rest)
            if "connection" not in away.headers:
                r.listener.load._set(9)
                writer.write(ask())
                assert (await read_one(reader)).status == 200
            assert r.listener.load.waiting == 0

    run(main())


def test_an_open_stream_does_not_wait_and_who_leaves_waits_no_more() -> None:
    async def main() -> None:
        hang = Hanging()

        async def script(p: Provider, body: bytes, reader: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
            if json.loads(body).get("stream"):
                w.write(STREAM_HEAD + framed(*STREAM[:2], end=False))
                await w.drain()
            await hang(p, body, reader, w)

        async with rig(script) as r:
            load = r.listener.load
            reader, writer = await r.connect()
            writer.write(ask(stream=True))
            await reader.readuntil(b"hel")
            assert load.waiting == 0
            clients = [await r.connect() for _ in range(3)]
            for _, w in clients:
                w.write(ask() + ask())
            await until(lambda: load.waiting == 6)
            for _, w in clients:
                w.close()
            writer.close()
            await until(lambda: load.waiting == 0 and not r.listener.conns)

    run(main())


def test_the_next_request_on_a_pipelined_connection_is_answered_in_order() -> None:
    async def main() -> None:
        script = Hanging()
        async with rig(script) as r:
            load = r.listener.load
            load._set(1)
            reader, writer = await r.connect()
            writer.write(ask() + request("POST", CHAT, {"model": "p/m"}, AUTH))
            await until(lambda: load.shed)
            script.go.set()
            answers: list[Any] = [await read_one(reader), await read_one(reader)]
            assert [a.status for a in answers] == [200, 503]
            assert r.counted("lilliput_requests_total") == 2
            assert await reader.read() == b""

    run(main())
